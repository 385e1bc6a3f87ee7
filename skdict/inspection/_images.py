"""Images with several channels as pictures, and heatmaps over them."""

import textwrap

import numpy as np

from skdict._utils.constraints import check_names

from ._style import plain

# Light of these colours adds up, so they are bright; told apart with any form of
# colour vision as long as a picture holds the first three only.
_CHANNEL_COLOURS = np.array(
    [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0.4, 1), (0, 1, 0.2), (1, 0.3, 0)]
)

# Share of the pixels, at either end, that may be black or saturated.
_CLIPPED = 0.5

# Blue, white and red differ in lightness too, with any form of colour vision.
_DIVERGING, _SEQUENTIAL = "RdBu_r", "viridis"


class Renderer:
    """Pictures of images, with the same brightness for all of them.

    Parameters
    ----------
    images : list of ndarray of shape (height, width, n_channels)
    rgb : bool or None
        Whether the three channels are red, green and blue, to be shown as they are.
        None: where there are three, in bytes or within [0, 1].
    """

    def __init__(self, images, rgb=None):
        looks_rgb = all(_looks_rgb(image) for image in images)
        if rgb and not looks_rgb:
            raise ValueError(
                "rgb=True needs three channels in bytes or within [0, 1]; scale the "
                "images, or leave the composite to rgb=False."
            )
        self.is_rgb = looks_rgb if rgb is None else rgb
        limits = np.array(
            [
                np.percentile(image, [_CLIPPED, 100 - _CLIPPED], axis=(0, 1))
                for image in images
            ]
        )
        self.low, self.high = limits[:, 0].min(axis=0), limits[:, 1].max(axis=0)
        self.brightest = 1.0
        if not self.is_rgb and images[0].shape[2] > 1:
            # The light of many channels adds up to white where they are alike.
            sums = [np.percentile(self._add_up(i), 100 - _CLIPPED) for i in images]
            self.brightest = max(1.0, *sums)

    def channel(self, image, c):
        """One channel in [0, 1]."""
        if self.is_rgb:
            return _unit(image[..., c])
        span = self.high[c] - self.low[c]
        bright = (image[..., c] - self.low[c]) / (span if span > 0 else 1)
        return np.clip(bright, 0, 1)

    def composite(self, image):
        """All channels in one picture: RGB in [0, 1]."""
        if self.is_rgb:
            return _unit(image)
        if image.shape[2] == 1:
            return np.repeat(self.channel(image, 0)[..., None], 3, axis=2)
        return np.clip(self._add_up(image) / self.brightest, 0, 1)

    def _add_up(self, image):
        light = np.zeros((*image.shape[:2], 3))
        for c in range(image.shape[2]):
            colour = _CHANNEL_COLOURS[c % len(_CHANNEL_COLOURS)]
            light += self.channel(image, c)[..., None] * colour
        return light


def _looks_rgb(image):
    if image.shape[2] != 3:
        return False
    if image.dtype.kind == "f":
        return image.min() >= 0 and image.max() <= 1
    return image.dtype == np.uint8


def _unit(values):
    return values / 255 if values.dtype == np.uint8 else values.astype(float)


def colour_scale(values, kind, cmap, vmax):
    """Norm and colour map: centred at 0 unless all values are activations above it."""
    from matplotlib.colors import Normalize

    if vmax is None:
        vmax = float(np.abs(values).max()) or 1.0
    elif not vmax > 0:
        raise ValueError(f"vmax must be positive, got {vmax}.")
    one_sided = kind == "activation" and values.min() >= 0
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


def show_heatmap(ax, heatmap, image_shape, kind, **kwargs):
    """Draw a heatmap over the pixels of its image, each token as one flat block.

    Between tokens nothing is known, so nothing is interpolated. Tokens in which the
    feature is not active are left clear.
    """
    if kind == "activation":
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
