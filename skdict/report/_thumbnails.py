"""Small pictures of the images that a card shows."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from skdict._utils.sklearn_private import check_matplotlib_support
from skdict.images.grid import check_image
from skdict.images.rendering import Renderer

# Longest side in pixels and quality of the JPEG, from the largest to the smallest.
_SETTINGS = [
    (512, 85),
    (384, 85),
    (256, 80),
    (192, 80),
    (160, 80),
    (128, 80),
    (96, 75),
    (80, 75),
    (64, 75),
    (48, 70),
    (48, 50),
    (32, 50),
    (32, 30),
    (24, 30),
]
# Number of images from which the size of all files is estimated for each setting.
_N_TRIED = 32

# Pictures are larger than this only if there are few images.
_SMALL = 256
_A_FEW = 16

# base64 writes three bytes as four characters.
BASE64 = 4 / 3


def make_thumbnails(
    images: Any, shown: np.ndarray, budget: float, rgb: bool | None = None
) -> tuple[list[bytes], tuple[int, int]]:
    """Make JPEG files of some images that take at most `budget` bytes in base64.

    Parameters
    ----------
    images : sequence of array-like of shape (height, width[, n_channels])
        All images. Only those that are shown are read.
    shown : ndarray of int
        Indices of the images to make thumbnails of.
    budget : float
        Bytes. The largest pictures of `_SETTINGS` that fit are made; if none fit, the
        smallest.
    rgb : bool or None
        As in `Renderer`.

    Returns
    -------
    thumbnails : list of bytes
    shape : tuple of int
        Height and width in pixels.
    """
    check_matplotlib_support("FeatureReport.to_html with images")
    tried = shown[np.unique(np.linspace(0, len(shown) - 1, _N_TRIED).astype(int))]
    sample = [check_image(images[i], i) for i in tried.tolist()]
    files, shape = [], sample[0].shape[:2]
    for side, quality in _SETTINGS:
        if side > _SMALL and len(shown) > _A_FEW:
            continue
        size = sum(map(len, _encode(_reduce_all(sample, side), quality, rgb)))
        is_last = (side, quality) == _SETTINGS[-1]
        # Keep a reserve: files of the sample may be smaller than the others by chance.
        if not is_last and size / len(sample) * len(shown) * BASE64 > 0.95 * budget:
            continue
        small = _reduce_all((check_image(images[i], i) for i in shown.tolist()), side)
        files, shape = _encode(small, quality, rgb), small[0].shape[:2]
        if sum(map(len, files)) * BASE64 <= budget:
            break
    return files, tuple(shape)


def _reduce_all(images: Iterable[np.ndarray], side: int) -> list[np.ndarray]:
    small = [_reduce(image, side) for image in images]
    shapes = {image.shape for image in small}
    if len(shapes) > 1:
        raise ValueError(
            "The images of a report must have one shape and number of channels, got "
            f"thumbnails of {sorted(shapes)}."
        )
    return small


def _reduce(image: np.ndarray, side: int) -> np.ndarray:
    """Reduce an image by means over blocks of whole pixels; never enlarge it."""
    longest = max(image.shape[:2])
    if longest <= side:
        return image
    reduced = image
    for axis, n in enumerate(image.shape[:2]):
        n_blocks = max(1, round(n * side / longest))
        starts = np.arange(n_blocks) * n // n_blocks
        lengths = np.diff(np.append(starts, n)).reshape(
            (-1, 1, 1)[axis::-1] + (1,) * (2 - axis)
        )
        reduced = np.add.reduceat(reduced, starts, axis=axis, dtype=np.float64)
        reduced = reduced / lengths
    if image.dtype == np.uint8:  # the renderer recognises RGB by the type
        return np.rint(reduced).astype(np.uint8)
    return reduced.astype(np.float32)


def _encode(images: list[np.ndarray], quality: int, rgb: bool | None) -> list[bytes]:
    from matplotlib.image import imsave

    renderer = Renderer(images, rgb)
    files = []
    for image in images:
        picture = np.rint(255 * renderer.composite(image)).astype(np.uint8)
        file = io.BytesIO()
        imsave(file, picture, format="jpeg", pil_kwargs={"quality": quality})
        files.append(file.getvalue())
    return files
