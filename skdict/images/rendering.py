"""Images with several channels as pictures."""

import numpy as np

# Light of these colours adds up, so they are bright; told apart with any form of
# colour vision as long as a picture holds the first three only.
_CHANNEL_COLOURS = np.array(
    [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0.4, 1), (0, 1, 0.2), (1, 0.3, 0)]
)

# Share of the pixels, at either end, that may be black or saturated.
_CLIPPED = 0.5


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
