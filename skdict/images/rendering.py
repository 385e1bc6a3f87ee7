"""Rendering of images with several channels."""

from __future__ import annotations

import numpy as np

# Colours of the channels, whose light adds up. The first three can be told apart with
# any form of colour vision.
_CHANNEL_COLOURS = np.array(
    [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0.4, 1), (0, 1, 0.2), (1, 0.3, 0)]
)

# Percentage of the pixels that are black, and percentage that are saturated.
_CLIPPED_PERCENT = 0.5


class Renderer:
    """Render images, all with the same limits of brightness.

    Parameters
    ----------
    images : list of ndarray of shape (height, width, n_channels)
    rgb : bool or None
        Whether the three channels are red, green and blue, to be shown as they are.
        None means True if there are three channels, in bytes or within [0, 1].
    """

    def __init__(self, images: list[np.ndarray], rgb: bool | None = None) -> None:
        looks_rgb = all(_looks_rgb(image) for image in images)
        if rgb and not looks_rgb:
            raise ValueError(
                "rgb=True needs three channels in bytes or within [0, 1]: scale the "
                "images, or pass rgb=False."
            )
        self.is_rgb = looks_rgb if rgb is None else rgb
        limits = np.array(
            [
                np.percentile(
                    image, [_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT], axis=(0, 1)
                )
                for image in images
            ]
        )
        self.low, self.high = limits[:, 0].min(axis=0), limits[:, 1].max(axis=0)
        self.brightest = 1.0
        if not self.is_rgb and images[0].shape[2] > 1:
            # Channels that are alike would add up to white.
            sums = [
                np.percentile(self._add_up(i), 100 - _CLIPPED_PERCENT) for i in images
            ]
            self.brightest = max(1.0, *sums)

    def channel(self, image: np.ndarray, c: int) -> np.ndarray:
        """Scale one channel to [0, 1]."""
        if self.is_rgb:
            return _unit(image[..., c])
        span = self.high[c] - self.low[c]
        bright = (image[..., c] - self.low[c]) / (span if span > 0 else 1)
        return np.clip(bright, 0, 1)

    def composite(self, image: np.ndarray) -> np.ndarray:
        """Combine all channels in one picture, RGB in [0, 1]."""
        if self.is_rgb:
            return _unit(image)
        if image.shape[2] == 1:
            return np.repeat(self.channel(image, 0)[..., None], 3, axis=2)
        return np.clip(self._add_up(image) / self.brightest, 0, 1)

    def _add_up(self, image: np.ndarray) -> np.ndarray:
        light = np.zeros((*image.shape[:2], 3))
        for c in range(image.shape[2]):
            colour = _CHANNEL_COLOURS[c % len(_CHANNEL_COLOURS)]
            light += self.channel(image, c)[..., None] * colour
        return light


def _looks_rgb(image: np.ndarray) -> bool:
    if image.shape[2] != 3:
        return False
    if image.dtype.kind == "f":
        return image.min() >= 0 and image.max() <= 1
    return image.dtype == np.uint8


def _unit(values: np.ndarray) -> np.ndarray:
    return values / 255 if values.dtype == np.uint8 else values.astype(float)
