"""Drawing of images and of heatmaps over them."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from skdict._utils.constraints import check_names

from ._style import plain

# Blue, white and red differ in lightness too, with any form of colour vision.
_DIVERGING, _SEQUENTIAL = "RdBu_r", "viridis"


def colour_scale(
    values: np.ndarray, quantity: str, cmap: Any, vmax: float | None
) -> tuple[Any, Any]:
    """Choose norm and colour map: centred at 0, but from 0 for positive activations."""
    from matplotlib.colors import Normalize

    if vmax is None:
        vmax = float(np.abs(values).max()) or 1.0
    elif not vmax > 0:
        raise ValueError(f"vmax must be positive, got {vmax}.")
    one_sided = quantity == "activation" and values.min() >= 0
    norm = Normalize(0.0 if one_sided else -vmax, vmax)
    return norm, cmap or (_SEQUENTIAL if one_sided else _DIVERGING)


def name_images(names: list[str] | None, n_images: int, width: int = 24) -> list[str]:
    """Name each image, in lines of at most `width` letters."""
    if names is None:
        return [f"image {i}" for i in range(n_images)]
    check_names(names, "image_names")
    if len(names) != n_images:
        raise ValueError(
            f"There are {n_images} images, but image_names has {len(names)} entries."
        )
    return [plain(textwrap.fill(str(name), width)) for name in names]


def show_picture(
    ax: Any, picture: np.ndarray, top_left: tuple[int, int] = (0, 0)
) -> Any:
    """Draw a picture in colours or greys, in units of pixels."""
    top, left = top_left
    height, width = picture.shape[:2]
    artist = ax.imshow(
        picture,
        extent=(left, left + width, top + height, top),
        cmap="gray",
        vmin=0,
        vmax=1,
    )
    _frame(ax)
    return artist


def show_heatmap(
    ax: Any,
    heatmap: np.ndarray,
    image_shape: tuple[int, ...],
    quantity: str,
    **kwargs: Any,
) -> Any:
    """Draw a heatmap over the pixels of its image, each token as one flat block.

    Nothing is interpolated, because nothing is known between tokens. Tokens in which
    the feature is not active stay transparent.
    """
    if quantity == "activation":
        heatmap = np.ma.masked_equal(heatmap, 0)
    height, width = image_shape[:2]
    artist = ax.imshow(
        heatmap, extent=(0, width, height, 0), interpolation="nearest", **kwargs
    )
    _frame(ax)
    return artist


def _frame(ax: Any) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="0.6", linewidth=0.5)
