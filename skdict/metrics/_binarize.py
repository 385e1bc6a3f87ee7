"""Hand-crafted features as binary codes, for comparison with a dictionary."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from scipy import sparse

from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import align_api_if_sparse, validate_params
from skdict._utils.types import CSR, Data

# They find the level of the quantile to one part in 2**40.
_N_BISECTIONS = 40


@validate_params(
    {
        "X": ["array-like"],
        "n_active": [Interval(Real, 0, None, closed="neither")],
        "feature_names": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def binarize_at_quantiles(
    X: Data, n_active: float, *, feature_names: Data | None = None
) -> tuple[CSR, np.ndarray]:
    r"""Make continuous features binary, with a given number active per sample.

    Every feature gives two binary features: one is active if the value is low, the
    other if it is high. Hand-crafted features, such as those of CellProfiler, can then
    be compared with the codes of a dictionary at an equal number of active features.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Continuous features.

    n_active : float
        Mean number of binary features that are active in a sample; at most
        `n_features`, and less if features of `X` are constant or have ties.

    feature_names : array-like of shape (n_features,), default=None
        Names of the features. None means the columns of a DataFrame, or `x0`, `x1`
        and so on.

    Returns
    -------
    codes : CSR matrix or array of shape (n_samples, 2 * n_features), float32
        A one for every active feature; a matrix or an array by scikit-learn's setting
        `sparse_interface`. Column `j` is active at low values of feature `j`, column
        ``n_features + j`` at high values.

    names : ndarray of shape (2 * n_features,), object
        The names of the features, followed by ``_low`` or ``_high``.

    Raises
    ------
    ValueError
        If `X` is empty or holds NaN or infinity, if `feature_names` has another
        length, or if a sample cannot have `n_active` active features on average.

    See Also
    --------
    selectivity_scores : Scores for such codes.

    Notes
    -----
    A binary feature is active if the value lies below the quantile :math:`\alpha` of
    the samples given, or above the quantile :math:`1 - \alpha`, as in [1]_, where 964
    features of CellProfiler are compared with 100 active codes. Without ties
    :math:`\alpha` would be ``n_active / (2 * n_features)``. But features with few
    distinct values are active less often, and constant features never. Bisection
    therefore finds the :math:`\alpha` for which the mean number of active features is
    closest to `n_active`.

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


def _feature_names(X: Data, feature_names: Data) -> list[Any] | None:
    if feature_names is None:
        feature_names = getattr(X, "columns", None)
    return None if feature_names is None else [*feature_names]


def _thresholds(columns: np.ndarray, n_active: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the quantiles of sorted columns for a mean number of active features."""
    largest = _mean_active(columns, 0.5)
    if n_active > largest:
        raise ValueError(
            f"n_active={n_active} is too large: from the {len(columns)} features of X, "
            f"a sample gets at most {largest:g} active features on average."
        )
    too_few, enough = 0.0, 0.5
    for _ in range(_N_BISECTIONS):
        level = (too_few + enough) / 2
        if _mean_active(columns, level) < n_active:
            too_few = level
        else:
            enough = level
    nearest = min(
        (enough, too_few),
        key=lambda level: abs(_mean_active(columns, level) - n_active),
    )
    return _quantiles(columns, nearest)


def _mean_active(columns: np.ndarray, level: float) -> float:
    low, high = _quantiles(columns, level)
    n_samples = columns.shape[1]
    n_active = 0
    for column, below, above in zip(columns, low, high, strict=True):
        n_active += np.searchsorted(column, below, side="left")
        n_active += n_samples - np.searchsorted(column, above, side="right")
    return n_active / n_samples


def _quantiles(columns: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    return (_quantile(columns, level), _quantile(columns, 1 - level))


def _quantile(columns: np.ndarray, level: float) -> np.ndarray:
    # The values are sorted; np.quantile would partition them anew at every call.
    position = level * (columns.shape[1] - 1)
    before = int(position)
    after = min(before + 1, columns.shape[1] - 1)
    left, right = columns[:, before], columns[:, after]
    # Take halves, because the difference of large values of both signs may be infinite.
    half = left / 2 + (position - before) * (right / 2 - left / 2)
    # Do not interpolate between equal values: rounding would put all ties beyond the
    # quantile.
    return np.where(left == right, left, np.minimum(2 * half, right))
