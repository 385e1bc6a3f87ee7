"""How often features are used."""

from __future__ import annotations

from numbers import Real

import numpy as np

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes
from skdict.stats import find_active, total_active


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "activity_threshold": [Interval(Real, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def feature_density(codes: Codes, *, activity_threshold: float = 0.0) -> np.ndarray:
    """Fraction of the samples in which each feature is active.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    Returns
    -------
    density : ndarray of shape (n_components,)
        Fractions in [0, 1].

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, or if `activity_threshold` is
        negative.

    See Also
    --------
    dead_feature_fraction : Fraction of features that are hardly ever active.

    Examples
    --------
    >>> from skdict.metrics import feature_density
    >>> feature_density([[1.0, 0.0, -2.0], [0.0, 0.0, 0.5]])
    array([0.5, 0. , 1. ])
    """
    activity = find_active(codes, activity_threshold)
    return total_active(activity) / activity.shape[0]


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "min_density": [Interval(Real, 0, 1, closed="both")],
    },
    prefer_skip_nested_validation=True,
)
def dead_feature_fraction(codes: Codes, min_density: float = 1e-5) -> float:
    """Fraction of the features that are hardly ever active.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time.

    min_density : float, default=1e-5
        A feature is dead if the fraction of samples with a non-zero code is below
        this. With at most ``1 / min_density`` samples, only features that are never
        active are dead; with 0, no features are.

    Returns
    -------
    fraction : float
        Fraction of dead features, in [0, 1].

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, or if `min_density` is not in
        [0, 1].

    See Also
    --------
    feature_density : Fraction of the samples in which each feature is active.

    Notes
    -----
    The definition and the default are those of [1]_, which counts over the last 1000
    steps of training. Here the samples of `codes` are counted.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> from skdict.metrics import dead_feature_fraction
    >>> dead_feature_fraction([[1.0, 0.0, -2.0, 0.0], [0.0, 0.0, 0.5, 0.0]])
    0.5
    """
    return float(np.mean(feature_density(codes) < min_density))
