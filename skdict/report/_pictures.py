"""Which images the cards show, and at what size, so that the page stays small."""

from dataclasses import dataclass

import numpy as np

from ._cards import extreme_images
from ._thumbnails import BASE64, make_thumbnails

# The page, in bytes, where there are up to `_FULL_FEATURES` features.
MAX_PAGE = 30e6
_SPARE = 0.5e6  # style, script, overview

# Text of a card, compressed, in base64: histograms, neighbours and ten labels. With
# four labels it is some 470 bytes of 104,976 rows.
_CARD_TEXT = 850
# The same of one image, without its caption.
_ITEM_TEXT = 30

# Share of the pictures' bytes that thumbnails may take.
_THUMBNAIL_SHARE = 0.45

# Bytes of the smallest thumbnails, about.
_SMALLEST_THUMBNAIL = 700

_MAX_SIDE, _MIN_SIDE = 32, 6

# Most and least aligned images of a card, from the most generous.
_ITEMS = [(5, 3), (4, 2), (3, 2), (2, 1), (1, 1), (1, 0)]

# Random bytes in base64 are made a little longer than they were by compression.
_BYTES_PER_CELL = 1.04 * BASE64


@dataclass
class Pictures:
    """The images of all cards."""

    images: np.ndarray  # (n_features, n_most + n_least), indices of images
    values: np.ndarray
    n_most: int
    thumbnail_of: np.ndarray  # (n_images,), -1 where no card shows the image
    thumbnails: list[bytes]
    image_shape: tuple[int, int]
    grid: tuple[int, int] | None  # of the heatmaps


def choose_pictures(encoded, layout, images, captions, other_bytes, rgb=None):
    """Choose images for the cards, thumbnails and heatmaps that fit.

    Parameters
    ----------
    encoded : Encoded
    layout : Layout
    images : sequence of array-like
    captions : list of str
    other_bytes : float
        What the page holds besides cards and thumbnails.
    rgb : bool or None
        Whether the images are red, green and blue.

    Returns
    -------
    pictures : Pictures
    """
    n_features = len(encoded.atoms)
    n_most, n_least = _share(layout.n_images, *_ITEMS[0])
    chosen, values = extreme_images(encoded, layout, n_most, n_least)
    caption_bytes = np.mean([len(c) for c in captions]) / 2 * BASE64
    for most, least in _ITEMS:
        most, least = _share(layout.n_images, most, least)
        kept = [*range(most), *range(n_most, n_most + least)]
        shown = np.unique(chosen[:, kept])
        text = _CARD_TEXT + len(kept) * (_ITEM_TEXT + caption_bytes)
        budget = MAX_PAGE - _SPARE - other_bytes - n_features * text
        needed = len(shown) * _SMALLEST_THUMBNAIL * BASE64
        if layout.grid_shape is not None:
            needed += n_features * len(kept) * _MIN_SIDE**2 * _BYTES_PER_CELL
        if needed <= budget:
            break
    thumbnails, shape = make_thumbnails(images, shown, _THUMBNAIL_SHARE * budget, rgb)
    left = budget - sum(map(len, thumbnails)) * BASE64
    thumbnail_of = np.full(layout.n_images, -1)
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


def _share(n_images, n_most, n_least):
    """No image on both sides where there are few."""
    n_most = min(n_most, -(-n_images // 2))
    return n_most, min(n_least, n_images - n_most)


def _grid(grid_shape, n_cells):
    """The finest grid of at most `n_cells`, in the proportions of the tokens."""
    if grid_shape is None:
        return None
    for side in range(_MAX_SIDE, 0, -1):
        scale = min(1.0, side / max(grid_shape))
        grid = tuple(max(1, round(scale * n)) for n in grid_shape)
        if grid[0] * grid[1] <= n_cells:
            return grid
    return (1, 1)
