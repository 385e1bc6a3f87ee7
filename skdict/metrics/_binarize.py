"""Hand-crafted features as binary codes, to compare them with those of a dictionary."""

from numbers import Real

import numpy as np
from scipy import sparse

from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import align_api_if_sparse, validate_params

# The share at the quantile is found to one part in 2**40.
_N_BISECTIONS = 40


@validate_params(
    {
        "X": ["array-like"],
        "n_active": [Interval(Real, 0, None, closed="neither")],
        "feature_names": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def binarize_at_quantiles(X, n_active, *, feature_names=None):
    r"""Make continuous features binary, with a given number active per sample.

    Every feature gives two: one that is active where the value is low, one where it
    is high. Hand-crafted features, such as those of CellProfiler, then compare with
    the codes of a dictionary at an equal number of active features.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Continuous features.

    n_active : float
        Binary features that are active per sample, on average; at most `n_features`.

    feature_names : array-like of shape (n_features,), default=None
        Names of the features. By default the columns of a DataFrame, otherwise
        `x0`, `x1` and so on.

    Returns
    -------
    codes : CSR matrix or array of shape (n_samples, 2 * n_features), float32
        Ones where active; a matrix or an array as scikit-learn's `sparse_interface`
        has it. Column `j` belongs to low values of feature `j`, column
        ``n_features + j`` to high ones.

    names : ndarray of shape (2 * n_features,), object
        The features' names followed by ``_low`` or ``_high``.

    Raises
    ------
    ValueError
        If `X` is empty or holds NaN or infinity, if `feature_names` has another
        length, or if fewer than `n_active` features can be active per sample.

    See Also
    --------
    selectivity_scores : Scores for such codes.

    Notes
    -----
    A feature is active where its value lies below its quantile :math:`\alpha`, or
    above its quantile :math:`1 - \alpha`, over the samples given, as in [1]_, where
    964 features of CellProfiler are compared with 100 active codes. Without ties
    :math:`\alpha` would be ``n_active / (2 * n_features)``. Features with few
    distinct values are active less often than that, constant ones never, so
    :math:`\alpha` is found by bisection such that the mean number of active features
    is as close to `n_active` as it can be.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import binarize_at_quantiles
    >>> X = np.random.default_rng(0).normal(size=(1000, 3))
    >>> codes, names = binarize_at_quantiles(X, 0.6)
    >>> codes.nnz / 1000
    0.6
    >>> names.tolist()
    ['x0_low', 'x1_low', 'x2_low', 'x0_high', 'x1_high', 'x2_high']
    """
    names = _feature_names(X, feature_names)
    X = check_numbers(
        X,
        dtype=(np.float64, np.float32),
        ensure_all_finite=False,
        input_name="X",
    )
    check_finite(X, "X")
    n_features = X.shape[1]
    if names is None:
        names = [f"x{j}" for j in range(n_features)]
    if len(names) != n_features:
        raise ValueError(
            f"X has {n_features} features, but feature_names has length {len(names)}."
        )

    columns = np.sort(X, axis=0).T
    low, high = _thresholds(columns, n_active)
    active = sparse.hstack(
        (sparse.csr_array(low > X), sparse.csr_array(high < X)), format="csr"
    )
    suffixed = [f"{name}{end}" for end in ("_low", "_high") for name in names]
    codes = align_api_if_sparse(active.astype(np.float32))
    return codes, np.array(suffixed, dtype=object)


def _feature_names(X, feature_names):
    if feature_names is None:
        feature_names = getattr(X, "columns", None)
    return None if feature_names is None else [*feature_names]


def _thresholds(columns, n_active):
    """Both quantiles of every sorted column, for a mean number of active features."""
    largest = _mean_active(columns, 0.5)
    if n_active > largest:
        raise ValueError(
            f"n_active={n_active} features cannot be active per sample: the "
            f"{len(columns)} features of X give at most {largest:g}."
        )
    too_few, enough = 0.0, 0.5
    for _ in range(_N_BISECTIONS):
        share = (too_few + enough) / 2
        if _mean_active(columns, share) < n_active:
            too_few = share
        else:
            enough = share
    nearest = min(
        (enough, too_few),
        key=lambda share: abs(_mean_active(columns, share) - n_active),
    )
    return _quantiles(columns, nearest)


def _mean_active(columns, share):
    low, high = _quantiles(columns, share)
    n_samples = columns.shape[1]
    n_active = 0
    for column, below, above in zip(columns, low, high, strict=True):
        n_active += np.searchsorted(column, below, side="left")
        n_active += n_samples - np.searchsorted(column, above, side="right")
    return n_active / n_samples


def _quantiles(columns, share):
    return (_quantile(columns, share), _quantile(columns, 1 - share))


def _quantile(columns, share):
    # Of sorted values, which np.quantile would partition anew at every call. Between
    # equal values there must be no rounding, or all ties would count as beyond.
    position = share * (columns.shape[1] - 1)
    before = int(position)
    after = min(before + 1, columns.shape[1] - 1)
    left, right = columns[:, before], columns[:, after]
    # Of halves, as the difference of large values of both signs may be infinite.
    half = left / 2 + (position - before) * (right / 2 - left / 2)
    return np.where(left == right, left, np.minimum(2 * half, right))
