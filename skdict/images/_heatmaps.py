"""Heatmaps on grids of tokens, compared with channels and regions of images."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse, stats
from sklearn.utils import check_random_state

from skdict._utils.arrays import scale_down
from skdict._utils.checks import check_finite, check_numbers, on_host
from skdict._utils.constraints import Interval
from skdict._utils.labels import as_labels, equals, join
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Data, Seed
from skdict._utils.warn import warn
from skdict.stats import (
    at_least,
    check_grid_shape,
    correlate_all_shifts,
    permutation_p_value,
)

from .grid import (
    block_means,
    check_heatmaps,
    check_images,
    check_masks,
    majority_labels,
)

# Differences of this size, relative to the largest value, are rounding.
_ROUNDING = 1e-12

# Equal sums differ by less than this if computed by Fourier transforms.
_FFT_ROUNDING = 1e-9


@validate_params(
    {"values": ["array-like", "sparse matrix"], "grid_shape": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def token_heatmaps(values: Data, grid_shape: Data) -> np.ndarray:
    """Arrange one value per token on the grids of the images.

    Parameters
    ----------
    values : {array-like, sparse matrix or array} of shape (n_samples,) or \
            (n_samples, 1)
        One value per token, in the order of the tokens from `TokenExtractor` with
        ``pool=None``: image by image and row by row of the grid. For example cosines
        from `direction_cosines`, or a column of the codes, ``codes[:, [feature]]``.

    grid_shape : tuple of int, (height, width)
        The grid of one image, `grid_shape_` of the extractor.

    Returns
    -------
    heatmaps : ndarray of shape (n_images, height, width)
        The same values; `n_images` is the number of grids that the tokens fill.

    Raises
    ------
    ValueError
        If there are no tokens, if they do not fill whole grids, or if values are
        NaN, infinite or more than one per token.

    See Also
    --------
    direction_cosines : The values that the paper shows.

    Examples
    --------
    >>> from skdict.images import token_heatmaps
    >>> token_heatmaps([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (1, 3))
    array([[[1., 2., 3.]],
    <BLANKLINE>
           [[4., 5., 6.]]])
    """
    height, width = check_grid_shape(grid_shape)
    values = on_host(values)
    if sparse.issparse(values):
        values = values.toarray() if 1 in values.shape else values
    elif np.ndim(values) == 1:
        values = np.asarray(values)[:, None]
    values = check_numbers(
        values, accept_sparse=True, ensure_all_finite=False, input_name="values"
    )
    if values.shape[1] != 1:
        raise ValueError(
            "values must hold one value per token, for example one column of the "
            f"codes, but its shape is {values.shape}."
        )
    check_finite(values, "values")
    if len(values) % (height * width):
        raise ValueError(
            f"{len(values)} tokens do not fill whole grids of {height} x {width} = "
            f"{height * width} tokens."
        )
    return values.reshape(-1, height, width)


@validate_params(
    {
        "heatmaps": ["array-like"],
        "images": ["array-like"],
        "channel_names": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def heatmap_channel_correlations(
    heatmaps: Data, images: Data, *, channel_names: Data | None = None
) -> pd.DataFrame:
    r"""Pearson correlation of heatmaps with each channel of their images.

    Parameters
    ----------
    heatmaps : array-like of shape (n_images, height, width) or (height, width)
        Heatmaps on the grid of tokens.

    images : array-like of shape (n_images, rows, columns, n_channels), or list
        The images, channels last, or a list of images of different sizes. The axis of
        the channels may be absent, and with a single heatmap so may that of the images.
        If channels are first, use ``np.moveaxis(images, 1, -1)``.

    channel_names : array-like of shape (n_channels,), default=None
        Names for the table. None means 0, 1, ...

    Returns
    -------
    correlations : DataFrame
        One row per image and channel. Columns:

        - `image`: index of the image.
        - `channel`: the channel.
        - `correlation`: Pearson's r over the tokens. If the heatmap or the channel is
          constant, r is undefined, and 0 here.
        - `p_shift`: two-sided p-value under shifts of the heatmap, see Notes.
        - `n_shifts`: number of shifts, the same in all rows.

    Raises
    ------
    ValueError
        If there is not one image per heatmap, if an image has fewer pixels than the
        grid has tokens, or if values are NaN or infinite.

    See Also
    --------
    heatmap_by_region : Compares the values between the regions of a mask.

    Notes
    -----
    The image is reduced to the grid by the mean of each token's block of pixels. The
    heatmap is not enlarged to the pixels: a token has one value, and repeating it for
    every pixel would add no information and overstate the number of observations.
    Variation of a channel inside a block is averaged away, so r is larger than it would
    be over pixels.

    Neighbouring tokens are alike, and so are neighbouring pixels: the usual p-value of
    r, for independent observations, is far too small. Here the heatmap is shifted on
    its grid by every number of rows and columns; what leaves at one edge comes in at
    the other. That keeps its autocorrelation and breaks its alignment with the image.
    `p_shift` is the fraction of the `height * width` shifts, including the shift by
    (0, 0), whose absolute correlation is at least as large. It supposes that the image
    looks alike everywhere (stationarity), and the seam where opposite edges meet makes
    it approximate. It is not adjusted for the number of channels and images.

    The test distinguishes a heatmap whose shapes lie on those of a channel from one
    whose shapes lie elsewhere. If both vary on scales that fit into the image several
    times, its level is 5 to 8 % for nominal 5 %. It does not work if either varies on
    the scale of the image itself (a gradient, one large region): most shifts are then
    alike, and the seam is an edge that the image does not have. Unrelated heatmaps had
    p <= 0.05 in up to 12 % of such cases. No p-value is below
    ``1 / (height * width)``.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.images import heatmap_channel_correlations
    >>> rng = np.random.default_rng(0)
    >>> image = rng.random((32, 32, 2))
    >>> heatmap = -image[..., 1].reshape(8, 4, 8, 4).mean(axis=(1, 3))
    >>> table = heatmap_channel_correlations(heatmap, image)
    >>> table["correlation"].round(1).tolist()
    [0.1, -1.0]
    >>> float(table["p_shift"][1]) == 1 / 64
    True
    """
    heatmaps = check_heatmaps(heatmaps)
    grid_shape = heatmaps.shape[1:]
    images = check_images(images, len(heatmaps), grid_shape)
    n_channels = images[0].shape[2]
    names = np.arange(n_channels) if channel_names is None else channel_names
    if len(names) != n_channels:
        raise ValueError(
            f"The images have {n_channels} channels, but channel_names has "
            f"{len(names)} entries."
        )
    pairs = [
        _correlate(heatmap, channel, np.abs(image[..., c]).max(initial=0))
        for heatmap, image in zip(heatmaps, images, strict=True)
        for c, channel in enumerate(np.moveaxis(block_means(image, grid_shape), 2, 0))
    ]
    correlations, p_values = np.array(pairs).T
    columns = {
        "image": np.repeat(np.arange(len(images)), n_channels),
        "channel": np.tile(np.asarray(names), len(images)),
        "correlation": correlations,
        "p_shift": p_values,
    }
    return as_table(columns, {"n_shifts": int(np.prod(grid_shape))})


def _correlate(
    heatmap: np.ndarray, channel: np.ndarray, largest: float
) -> tuple[float, float]:
    """Pearson's r and its p-value under all shifts."""
    if _is_constant(heatmap, np.abs(heatmap).max()) or _is_constant(channel, largest):
        return 0.0, 1.0
    heatmap, channel = scale_down(heatmap)[0], scale_down(channel)[0]
    r = stats.pearsonr(heatmap.ravel(), channel.ravel()).statistic
    shifted = np.abs(correlate_all_shifts(_standardise(heatmap), _standardise(channel)))
    return r, np.mean(at_least(shifted, shifted[0, 0], _FFT_ROUNDING))


def _is_constant(values: np.ndarray, largest: float) -> bool:
    # Take halves, because the difference of large values of both signs may be infinite.
    return values.max() / 2 - values.min() / 2 <= _ROUNDING * float(largest) / 2


def _standardise(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    centred /= np.abs(centred).max()  # so that squares of any values stay finite
    return centred / np.linalg.norm(centred)


@validate_params(
    {
        "heatmaps": ["array-like"],
        "mask": ["array-like"],
        "reference": "no_validation",
        "alternative": [StrOptions({"greater", "less"})],
        "n_shifts": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def heatmap_by_region(
    heatmaps: Data,
    mask: Data,
    *,
    reference: Any = None,
    alternative: str = "greater",
    n_shifts: int = 999,
    random_state: Seed = None,
) -> pd.DataFrame:
    r"""Compare the values of heatmaps between the regions of a segmentation mask.

    Parameters
    ----------
    heatmaps : array-like of shape (n_images, height, width) or (height, width)
        Heatmaps on the grid of tokens. Several images are pooled.

    mask : array-like of shape (n_images, rows, columns) or (rows, columns), or list
        The region of every pixel: whole numbers, booleans or strings. A list if images
        have different sizes. A mask may also have the shape of the grid. Each token
        belongs to the region that fills the largest fraction of its block; of equal
        regions, to the first in sorted order.

    reference : label of the mask, default=None
        The region with which the others are compared. None compares each region with
        all tokens outside it.

    alternative : {"greater", "less"}, default="greater"
        Whether the values of the region are expected to be larger or smaller.

    n_shifts : int, default=999
        Number of random shifts if there are several images. With one image all
        ``height * width`` shifts are counted.

    random_state : int, RandomState instance or None, default=None
        Seed of the random shifts.

    Returns
    -------
    regions : DataFrame
        One row per region that holds a token, in sorted order, without the
        reference. Columns:

        - `region`: the label.
        - `n_tokens`, `n_compared`: numbers of tokens of the region and of those it is
          compared with.
        - `median`, `median_compared`: medians of both.
        - `auroc`: probability that a token of the region has a larger value than one
          of the others, with ties as one half: `u_statistic` over the number of pairs.
        - `u_statistic`, `p_mannwhitney`: the one-sided Mann-Whitney U test. Its
          p-value supposes that tokens are independent, which they are not.
        - `p_shift`: one-sided p-value under shifts of the heatmap, see Notes.
        - `reference`, `alternative`, `n_shifts`: the same in all rows.

    Raises
    ------
    ValueError
        If there is not one mask per heatmap, if a mask has fewer pixels than the
        grid has tokens, if values are missing, if all tokens are in one region, or if
        no token is in the reference.

    See Also
    --------
    heatmap_channel_correlations : Compares heatmaps with the channels of images.
    morans_i : How alike neighbouring tokens are.

    Notes
    -----
    [1]_ uses the test by Mann and Whitney. Neighbouring tokens are alike, so thousands
    of tokens hold as much information as a few dozen independent ones. For a smooth
    heatmap that has nothing to do with the mask, `p_mannwhitney` is below 0.05 in about
    40 % of the cases instead of 5 %.

    For `p_shift` the heatmap of every image is shifted on its grid at random [2]_; what
    leaves at one edge comes in at the other. That keeps the shapes in the heatmap and
    in the mask and breaks their alignment. The statistic is the difference between the
    mean ranks of the two groups of tokens, ranked among all tokens; without a
    reference it orders the shifts as U does. The test supposes that an image looks
    alike everywhere, and the seam where opposite edges meet makes it approximate. With
    one image p-values are at least ``1 / (height * width)``, and with few large regions
    the test has little power: use several images.

    A small p-value says that the values differ between the regions. Those of a random
    direction may differ too, because embeddings differ between regions in many ways:
    compare the `auroc` of an atom with that of random directions. The p-values are not
    adjusted for the number of regions.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    .. [2] H. W. Lotwick, B. W. Silverman. "Methods for analysing spatial processes
       of several types of points." Journal of the Royal Statistical Society B 44
       (1982), 406-413.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.images import heatmap_by_region
    >>> mask = np.full((64, 64), "background", dtype=object)
    >>> mask[8:32, 16:40] = "cell"
    >>> heatmap = np.random.default_rng(0).normal(size=(16, 16))
    >>> heatmap[2:8, 4:10] += 2
    >>> regions = heatmap_by_region(heatmap, mask, reference="background")
    >>> regions["region"].tolist(), regions["n_tokens"].tolist()
    (['cell'], [36])
    >>> float(regions["p_shift"][0]) == 1 / 256
    True
    """
    heatmaps = check_heatmaps(heatmaps)
    labels, token_labels = _label_tokens(mask, heatmaps)
    n_tokens = np.bincount(token_labels.ravel(), minlength=len(labels))
    present = np.flatnonzero(n_tokens)
    if len(present) < 2:
        raise ValueError(
            f"All tokens are in the region {labels[present[0]]}: there is no other to "
            "compare it with."
        )
    reference_id = None
    if reference is not None:
        found = present[equals(labels[present], reference, "reference")]
        if not found.size:
            raise ValueError(
                f"No token has the reference {reference!r}; the regions are "
                f"{labels[present].tolist()}."
            )
        reference_id = found[0]

    ranks = stats.rankdata(heatmaps).reshape(heatmaps.shape)
    sign = 1.0 if alternative == "greater" else -1.0
    rng = check_random_state(random_state)
    rows = []
    for region in present[present != reference_id]:
        inside = token_labels == region
        outside = ~inside if reference is None else token_labels == reference_id
        # The sum of ranks with these weights is the difference between mean ranks.
        weights = sign * (inside / inside.sum() - outside / outside.sum())
        rows.append(
            {
                "region": labels[region],
                **_compare(heatmaps[inside], heatmaps[outside], alternative),
                "p_shift": _shift_p_value(ranks, weights, n_shifts, rng),
            }
        )
    if (n_tokens == 0).any():
        warn(
            "These regions of the masks hold no token and are left out: "
            f"{', '.join(map(str, labels[n_tokens == 0]))}."
        )
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    settings = {
        "reference": reference,
        "alternative": alternative,
        "n_shifts": ranks.size if len(ranks) == 1 else n_shifts,
    }
    return as_table(columns, settings)


def _label_tokens(mask: Data, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the labels of the mask, and number each token by its label."""
    grid_shape = heatmaps.shape[1:]
    masks = check_masks(mask, len(heatmaps), grid_shape)
    name = "mask" if len(masks) == 1 else "mask of image {}"
    pixels = [as_labels(mask.ravel(), name.format(i)) for i, mask in enumerate(masks)]
    labels, ids = np.unique(join(pixels, "mask"), return_inverse=True)
    ends = np.cumsum([mask.size for mask in masks])[:-1]
    per_image = [
        majority_labels(ids.reshape(mask.shape), len(labels), grid_shape)
        for ids, mask in zip(np.split(ids, ends), masks, strict=True)
    ]
    return labels, np.stack(per_image)


def _compare(
    inside: np.ndarray, outside: np.ndarray, alternative: str
) -> dict[str, float]:
    n_pairs = inside.size * outside.size
    if len(np.unique(np.concatenate((inside, outside)))) == 1:
        # All values are tied: the variance of U is 0, and its p-value would be NaN.
        u_statistic, p_value = n_pairs / 2, 1.0
    else:
        test = stats.mannwhitneyu(inside, outside, alternative=alternative)
        u_statistic, p_value = float(test.statistic), float(test.pvalue)
    return {
        "n_tokens": inside.size,
        "n_compared": outside.size,
        "median": _median(inside),
        "median_compared": _median(outside),
        "auroc": u_statistic / n_pairs,
        "u_statistic": u_statistic,
        "p_mannwhitney": p_value,
    }


def _median(values: np.ndarray) -> float:
    """Median that stays finite for values near the largest float64."""
    scaled, exponent = scale_down(values)
    return float(np.ldexp(np.median(scaled), exponent))


def _shift_p_value(
    values: np.ndarray, weights: np.ndarray, n_shifts: int, rng: np.random.RandomState
) -> float:
    """One-sided p-value of ``sum(values * weights)`` under shifts of each image."""
    tables = correlate_all_shifts(values, weights).reshape(len(values), -1)
    observed = tables[:, 0].sum()
    rounding = _FFT_ROUNDING * np.abs(values).max()
    if len(tables) == 1:
        return float(np.mean(at_least(tables, observed, rounding)))
    shifts = rng.randint(tables.shape[1], size=(len(tables), n_shifts))
    null = np.take_along_axis(tables, shifts, axis=1).sum(axis=0)
    return float(permutation_p_value(null, observed, rounding))
