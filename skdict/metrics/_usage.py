"""How often features are used."""

from numbers import Real

import numpy as np

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict.stats import find_active


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "activity_threshold": [Interval(Real, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def feature_density(codes, *, activity_threshold=0.0):
    """Share of the samples in which each feature is active.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    activity_threshold : float, default=0.0
        A feature is active in a sample where ``|z| > activity_threshold``.

    Returns
    -------
    density : ndarray of shape (n_components,)
        Shares in [0, 1].

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, or if `activity_threshold` is
        negative.

    See Also
    --------
    dead_feature_fraction : Share of the features that are hardly ever active.

    Examples
    --------
    >>> from skdict.metrics import feature_density
    >>> feature_density([[1.0, 0.0, -2.0], [0.0, 0.0, 0.5]])
    array([0.5, 0. , 1. ])
    """
    activity = find_active(codes, activity_threshold)
    n_samples, n_components = activity.shape
    return np.bincount(activity.indices, minlength=n_components) / n_samples


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "min_density": [Interval(Real, 0, 1, closed="both")],
    },
    prefer_skip_nested_validation=True,
)
def dead_feature_fraction(codes, min_density=1e-5):
    """Share of the features that are hardly ever active.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    min_density : float, default=1e-5
        A feature is dead where the share of samples with a non-zero code is
        smaller than this. It bounds a share of samples, not a code. With fewer
        than ``1 / min_density`` samples only the features that are never active are
        dead; with 0 none is.

    Returns
    -------
    fraction : float
        Share of dead features in [0, 1].

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, or if `min_density` is not in
        [0, 1].

    See Also
    --------
    feature_density : Share of the samples in which each feature is active.

    Notes
    -----
    The definition and the default follow [1]_, which counts over the last 1000
    steps of training; here the samples are those given.

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
