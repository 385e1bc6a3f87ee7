"""Tests of all pairs of feature and class under shifts of the label maps."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.stats import pearson3

from skdict._utils.arrays import blocks

from .activity import Activity, parts_of
from .exchange import number_images

# Number of cells of maps that are correlated at a time.
_BLOCK_CELLS = 2**22


def shift_p_values(
    activity: Activity,
    labels: np.ndarray,
    counts: np.ndarray,
    grid_shape: tuple[int, int],
) -> np.ndarray:
    """Probability of at least this many active tokens when label maps are shifted.

    Parameters
    ----------
    activity : csr_array or DeferredActivity
        From `find_active`, of shape (n_images * height * width, n_components): image by
        image and row by row of the grid.
    labels : ndarray of shape (n_images * height * width,)
        Class of each token.
    counts : ndarray of shape (n_classes, n_components)
        Active tokens of each class.
    grid_shape : tuple of int (height, width)

    Returns
    -------
    p_values : ndarray of shape (n_classes, n_components)

    Notes
    -----
    All `height * width` shifts of an image are counted. The images are shifted
    independently, so the mean, the variance and the third cumulant of the total are
    sums over the images. Its tail is that of Pearson's type III distribution with these
    three. The p-value is at least the probability that every image by itself gets as
    many active tokens or more, which is exact if a single image has both the feature
    and the class.
    """
    n_tokens = grid_shape[0] * grid_shape[1]
    number_images(len(labels), grid_shape)  # the rows fill whole grids
    excess, variance, third, log_each = np.zeros((4, *counts.shape))
    n_moved = np.zeros(counts.shape, dtype=np.int32)
    maps_of_images = labels.reshape(-1, n_tokens)
    for own, part in zip(maps_of_images, parts_of(activity, n_tokens), strict=True):
        classes, ids = np.unique(own, return_inverse=True)
        active = part.tocsc()
        features = np.flatnonzero(np.diff(active.indptr))
        if len(classes) == 1 or not features.size:
            continue  # no shift changes anything
        maps = (ids == np.arange(len(classes))[:, None]).astype(np.float64)
        of_classes = fft.rfft2(maps.reshape(-1, 1, *grid_shape))
        for some in blocks(len(features), n_tokens * len(classes), _BLOCK_CELLS):
            chosen = features[some]
            firing = active[:, chosen].toarray().T.reshape(-1, *grid_shape)
            of_features = np.conj(fft.rfft2(firing.astype(np.float64)))
            # These are counts, so np.round undoes the rounding of the transforms.
            shifted = np.round(fft.irfft2(of_features * of_classes, s=grid_shape))
            shifted = shifted.reshape(*shifted.shape[:2], n_tokens)
            place = np.ix_(classes, chosen)
            as_many = (shifted >= shifted[..., :1]).mean(axis=2)
            deviations = shifted - shifted.mean(axis=2, keepdims=True)
            squares = deviations**2
            excess[place] += deviations[..., 0]
            variance[place] += squares.mean(axis=2)
            third[place] += (squares * deviations).mean(axis=2)
            log_each[place] += np.log(as_many)
            n_moved[place] += squares.any(axis=2)
    each = np.exp(log_each)
    tail = np.maximum(pearson_tail(excess, variance, third), each)
    return np.where(n_moved > 1, tail, each)


def pearson_tail(
    excess: np.ndarray, variance: np.ndarray, third: np.ndarray
) -> np.ndarray:
    """P(X >= excess) for a centred X of integers with these cumulants."""
    # If the sum is certain, rounding leaves a variance of about 1e-16.
    certain = variance <= 1e-9
    deviation = np.sqrt(np.where(certain, 1.0, variance))
    skewness = np.where(certain, 0.0, third) / deviation**3
    tail = pearson3.sf((excess - 0.5) / deviation, skewness)
    return np.where(certain, 1.0, tail)
