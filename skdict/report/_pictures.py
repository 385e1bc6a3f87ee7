"""Choice of the images on the cards, and of their size, so that the page is small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._cards import extreme_images
from ._inputs import Encoded, Layout
from ._thumbnails import BASE64, make_thumbnails

# Largest size of the page in bytes, for up to 8192 features.
MAX_PAGE = 30e6
_SPARE = 0.5e6  # style, script, overview

# Bytes of a card's text (histograms, neighbours and ten labels), compressed and in
# base64. With four labels and 104,976 rows it takes about 470 bytes.
_CARD_TEXT = 850
# Bytes of the text of one image, without its caption.
_ITEM_TEXT = 30

# Fraction of the pictures' bytes that thumbnails may take.
_THUMBNAIL_FRACTION = 0.45

# Bytes of one of the smallest thumbnails, roughly.
_SMALLEST_THUMBNAIL = 700

# Cells on the longer side of a heatmap.
_MAX_SIDE, _MIN_SIDE = 32, 6

# Numbers of most and of least aligned images on a card, the largest first.
_ITEMS = [(5, 3), (4, 2), (3, 2), (2, 1), (1, 1), (1, 0)]

# Compression makes random bytes slightly longer.
_BYTES_PER_CELL = 1.04 * BASE64


@dataclass
class Pictures:
    """The images of all cards."""

    images: np.ndarray  # (n_features, n_most + n_least), indices of images
    values: np.ndarray
    n_most: int
    thumbnail_of: np.ndarray  # (n_images,), -1 for images that no card shows
    thumbnails: list[bytes]
    image_shape: tuple[int, int]
    grid: tuple[int, int] | None  # of the heatmaps


def choose_pictures(
    encoded: Encoded,
    layout: Layout,
    images: Any,
    captions: list[str],
    other_bytes: float,
    rgb: bool | None = None,
) -> Pictures:
    """Choose images for the cards, thumbnails and heatmaps that fit.

    Parameters
    ----------
    encoded : Encoded
    layout : Layout
    images : sequence of array-like
    captions : list of str
    other_bytes : float
        Size of the page without cards and thumbnails.
    rgb : bool or None
        Whether the images are red, green and blue.

    Returns
    -------
    pictures : Pictures
    """
    n_features, n_images = len(encoded.atoms), layout.n_images or 0
    n_most, n_least = _split(n_images, *_ITEMS[0])
    chosen, values = extreme_images(encoded, layout, n_most, n_least)
    caption_bytes = float(np.mean([len(c) for c in captions])) / 2 * BASE64
    for most, least in _ITEMS:
        most, least = _split(n_images, most, least)
        kept = [*range(most), *range(n_most, n_most + least)]
        shown = np.unique(chosen[:, kept])
        text = _CARD_TEXT + len(kept) * (_ITEM_TEXT + caption_bytes)
        budget = MAX_PAGE - _SPARE - other_bytes - n_features * text
        needed = len(shown) * _SMALLEST_THUMBNAIL * BASE64
        if layout.grid_shape is not None:
            needed += n_features * len(kept) * _MIN_SIDE**2 * _BYTES_PER_CELL
        if needed <= budget:
            break
    thumbnails, shape = make_thumbnails(
        images, shown, _THUMBNAIL_FRACTION * budget, rgb
    )
    left = budget - sum(map(len, thumbnails)) * BASE64
    thumbnail_of = np.full(n_images, -1)
    thumbnail_of[shown] = np.arange(len(shown))
    return Pictures(
        chosen[:, kept],
        values[:, kept],
        most,
        thumbnail_of,
        thumbnails,
        shape,
        _grid(layout.grid_shape, left / (n_features * len(kept) * _BYTES_PER_CELL)),
    )


def _split(n_images: int, n_most: int, n_least: int) -> tuple[int, int]:
    """Reduce both numbers if images are few, so that none is on both sides."""
    n_most = min(n_most, -(-n_images // 2))
    return n_most, min(n_least, n_images - n_most)


def _grid(grid_shape: tuple[int, int] | None, n_cells: float) -> tuple[int, int] | None:
    """Find the finest grid of at most `n_cells`, in the proportions of the tokens."""
    if grid_shape is None:
        return None
    for side in range(_MAX_SIDE, 0, -1):
        scale = min(1.0, side / max(grid_shape))
        height, width = (max(1, round(scale * n)) for n in grid_shape)
        if height * width <= n_cells:
            return height, width
    return (1, 1)
