"""Spatial autocorrelation of heatmaps."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils import Bunch, check_random_state

from skdict._utils.arrays import blocks, scale_down
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import Data, Seed
from skdict.stats import ROUNDING, permutation_p_value

from .grid import check_heatmaps

# Steps to half of the neighbours of a token, so that each pair is counted once.
_STEPS = {
    "rook": ((0, 1), (1, 0)),
    "queen": ((0, 1), (1, 0), (1, 1), (1, -1)),
}

# Number of values of shuffled heatmaps that are held at a time.
_BLOCK_VALUES = 2**20


@validate_params(
    {
        "heatmaps": ["array-like"],
        "neighbors": [StrOptions(set(_STEPS))],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def morans_i(
    heatmaps: Data,
    *,
    neighbors: str = "queen",
    n_permutations: int = 999,
    random_state: Seed = None,
) -> Bunch:
    r"""Moran's I of heatmaps: whether neighbouring tokens have like values.

    Parameters
    ----------
    heatmaps : array-like of shape (n_images, height, width) or (height, width)
        Heatmaps on the grid of tokens. Several images are pooled; tokens of
        different images are not neighbours.

    neighbors : {"queen", "rook"}, default="queen"
        The 8 tokens around a token, or the 4 that share an edge with it.

    n_permutations : int, default=999
        Number of times that the tokens are shuffled inside each image.

    random_state : int, RandomState instance or None, default=None
        Seed of the shuffles.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        statistic : float
            Moran's I: about 1 for very smooth heatmaps, negative if neighbours differ
            more than tokens far apart. It is undefined if all heatmaps are constant:
            then 0, with a `p_value` of 1.
        expected : float
            Exact mean of the statistic over all shuffles,
            ``-1 / (height * width - 1)``.
        p_value : float
            One-sided p-value, small for smooth heatmaps:
            ``(1 + #{null >= statistic}) / (1 + n_permutations)``. Only with
            ``n_permutations > 0``.
        null : ndarray of shape (n_permutations,)
            The statistic of each shuffle.

    Raises
    ------
    ValueError
        If the heatmaps are empty, have a single token, or hold NaN or infinity.

    See Also
    --------
    heatmap_by_region : Compares regions, under a null that keeps the smoothness.

    Notes
    -----
    With the values :math:`z` minus the mean of their image, the pairs :math:`P` of
    neighbours, and `N` tokens [1]_:

    .. math::

        I = \frac{\sum_{(i, j) \in P} z_i z_j / |P|}{\sum_i z_i^2 / N}

    The mean of each image is subtracted because differences between whole images would
    make neighbours look alike.

    A small p-value says that the heatmap is not noise. It does not say that the
    direction means anything: embeddings of neighbouring patches are alike, so heatmaps
    of random directions are smooth too. Compare with random directions, as in the user
    guide.

    References
    ----------
    .. [1] P. A. P. Moran. "Notes on continuous stochastic phenomena." Biometrika 37
       (1950), 17-23.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.images import morans_i
    >>> heatmap = np.add.outer(np.arange(8.0), np.arange(8.0))
    >>> result = morans_i(heatmap, neighbors="rook", random_state=0)
    >>> round(result.statistic, 3), round(result.expected, 3), result.p_value
    (0.857, -0.016, 0.001)
    """
    heatmaps = check_heatmaps(heatmaps)
    n_tokens = heatmaps[0].size
    if n_tokens == 1:
        raise ValueError("A heatmap of one token has no neighbours.")
    z, _ = scale_down(heatmaps)
    z = z - z[:, :1, :1]  # so that the mean of equal values is exact
    largest = np.abs(z).max()
    z = z / (largest or 1.0)  # so that squares of small differences are not zero
    z -= z.mean(axis=(1, 2), keepdims=True)
    is_constant = largest == 0
    if is_constant:
        null = np.zeros(n_permutations)
    else:
        rng = check_random_state(random_state)
        null = _shuffled(z, neighbors, n_permutations, rng)
    statistic = 0.0 if is_constant else float(_statistic(z, neighbors))
    result = Bunch(statistic=statistic, expected=-1.0 / (n_tokens - 1), null=null)
    if n_permutations:
        result["p_value"] = float(permutation_p_value(null, statistic, ROUNDING))
    return result


def _shuffled(
    z: np.ndarray, neighbors: str, n_permutations: int, rng: np.random.RandomState
) -> np.ndarray:
    # A Generator can permute along an axis, unlike a RandomState.
    generator = np.random.default_rng(rng.randint(2**31 - 1, size=4))
    tokens = z.reshape(len(z), -1)
    null = np.empty(n_permutations)
    for some in blocks(n_permutations, z.size, _BLOCK_VALUES):
        copies = np.broadcast_to(tokens, (some.stop - some.start, *tokens.shape))
        shuffled = generator.permuted(copies, axis=2).reshape(-1, *z.shape)
        null[some] = _statistic(shuffled, neighbors)
    return null


def _statistic(z: np.ndarray, neighbors: str) -> np.ndarray:
    """Moran's I of centred heatmaps, over the last three axes."""
    height, width = z.shape[-2:]
    products = np.zeros(z.shape[:-3])
    n_pairs = 0
    for down, right in _STEPS[neighbors]:
        here = z[..., : height - down, max(-right, 0) : width - max(right, 0)]
        there = z[..., down:, max(right, 0) : width + min(right, 0)]
        products = products + np.einsum("...nij,...nij->...", here, there)
        n_pairs += int(np.prod(here.shape[-3:]))
    variance = np.einsum("...nij,...nij->...", z, z) / np.prod(z.shape[-3:])
    return products / n_pairs / variance
