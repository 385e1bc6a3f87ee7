"""Images as users have them: an ndarray, a tensor or a list, read batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skdict._utils.types import Data

__all__ = ["as_tensor", "check_images", "raise_if_not_finite"]


def check_images(images: Data) -> tuple[Any, tuple[int, ...]]:
    """Check shapes and types; return the images and their shape (n, c, h, w)."""
    if isinstance(images, list | tuple):
        if len(images) == 0:
            raise ValueError("There are no images: the list is empty.")
        images = [x if isinstance(x, torch.Tensor) else np.asarray(x) for x in images]
        first = tuple(images[0].shape)
        for i, image in enumerate(images):
            if tuple(image.shape) != first:
                raise ValueError(
                    "All images must have the same shape: image 0 has shape "
                    f"{first}, image {i} has shape {tuple(image.shape)}."
                )
        shape = (len(images), *first)
        dtypes = {image.dtype for image in images}
    elif all(hasattr(images, name) for name in ("shape", "dtype", "__getitem__")):
        shape, dtypes = tuple(images.shape), {images.dtype}
    else:
        raise TypeError(
            "Images must be an array or tensor of shape (n_images, channels, "
            "height, width), or a list of arrays of shape (channels, height, "
            f"width), got {type(images).__name__}."
        )

    if len(shape) != 4:
        raise ValueError(
            "Images must have shape (n_images, channels, height, width), got "
            f"{len(shape)} dimensions: {shape}."
        )
    if 0 in shape:
        raise ValueError(f"There are no images or no pixels: the shape is {shape}.")
    for dtype in dtypes:
        is_float = (
            dtype.is_floating_point
            if isinstance(dtype, torch.dtype)
            else np.issubdtype(dtype, np.floating)
        )
        if not is_float:
            raise ValueError(
                "Images must be floating point, scaled and normalised as the model "
                f"wants them, got {dtype}."
            )
    return images, shape


def as_tensor(batch: Data, dtype: torch.dtype) -> Tensor:
    """Copy a slice of the images to one tensor.

    It is always a copy: a model whose first layer works in place must not change the
    caller's images.
    """
    if isinstance(batch, list):
        return torch.stack([as_tensor(image, dtype) for image in batch])
    if isinstance(batch, torch.Tensor):
        return batch.detach().to(dtype, copy=True)
    # numpy makes the copy, because torch refuses foreign byte orders and negative
    # strides, and warns about read-only memory.
    np_dtype = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(batch, dtype=np_dtype, order="C")).to(dtype)


def raise_if_not_finite(
    images: Data, n_images: int, batch_size: int, dtype: torch.dtype
) -> None:
    """Raise a ValueError if any image holds NaN or infinity."""
    bad: list[int] = []
    for start in range(0, n_images, batch_size):
        batch = as_tensor(images[start : start + batch_size], dtype)
        is_bad = ~torch.isfinite(batch).flatten(1).all(dim=1)
        bad.extend((start + torch.nonzero(is_bad).ravel()).tolist())
    if bad:
        raise ValueError(
            f"{len(bad)} of {n_images} images hold values that are NaN, infinite or "
            f"too large for {dtype}; the first is image {bad[0]}."
        )
