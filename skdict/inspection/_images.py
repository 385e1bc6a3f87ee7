"""Pictures of images, and heatmaps over them, on axes."""

import textwrap

import numpy as np

from skdict._utils.constraints import check_names

from ._style import plain

# Blue, white and red differ in lightness too, with any form of colour vision.
_DIVERGING, _SEQUENTIAL = "RdBu_r", "viridis"


def colour_scale(values, quantity, cmap, vmax):
    """Norm and colour map: centred at 0 unless all values are activations above it."""
    from matplotlib.colors import Normalize

    if vmax is None:
        vmax = float(np.abs(values).max()) or 1.0
    elif not vmax > 0:
        raise ValueError(f"vmax must be positive, got {vmax}.")
    one_sided = quantity == "activation" and values.min() >= 0
    norm = Normalize(0.0 if one_sided else -vmax, vmax)
    return norm, cmap or (_SEQUENTIAL if one_sided else _DIVERGING)


def name_images(names, n_images, width=24):
    """What stands above or beside each image, in lines of at most so many letters."""
    if names is None:
        return [f"image {i}" for i in range(n_images)]
    check_names(names, "image_names")
    if len(names) != n_images:
        raise ValueError(
            f"There are {n_images} images, but image_names has {len(names)} entries."
        )
    return [plain(textwrap.fill(str(name), width)) for name in names]


def show_picture(ax, picture, top_left=(0, 0)):
    """Draw a picture, or a grey one, in units of pixels."""
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


def show_heatmap(ax, heatmap, image_shape, quantity, **kwargs):
    """Draw a heatmap over the pixels of its image, each token as one flat block.

    Between tokens nothing is known, so nothing is interpolated. Tokens in which the
    feature is not active are left clear.
    """
    if quantity == "activation":
        heatmap = np.ma.masked_equal(heatmap, 0)
    height, width = image_shape[:2]
    artist = ax.imshow(
        heatmap, extent=(0, width, height, 0), interpolation="nearest", **kwargs
    )
    _frame(ax)
    return artist


def _frame(ax):
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="0.6", linewidth=0.5)
