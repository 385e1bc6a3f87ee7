"""How well a reconstruction fits the data."""

import numpy as np

from skdict._utils.arrays import power_of_two, row_blocks, unit_rows
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.sklearn_private import validate_params


@validate_params(
    {"X": ["array-like"], "X_hat": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def reconstruction_cosine(X, X_hat):
    """Mean cosine similarity between rows and their reconstructions.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Data.

    X_hat : array-like of shape (n_samples, n_features)
        Reconstruction.

    Returns
    -------
    cosine : float
        Mean over rows, in [-1, 1]. A pair of zero rows counts as 1, since the
        reconstruction is exact; a pair with one zero row counts as 0.

    Raises
    ------
    ValueError
        If the shapes differ, or if either input is empty or holds NaN or infinity.

    See Also
    --------
    explained_variance : Share of the variance, which also sees the rows' lengths.

    Examples
    --------
    >>> from skdict.metrics import reconstruction_cosine
    >>> reconstruction_cosine([[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, -1.0]])
    0.0
    """
    X, X_hat = _check_pair(X, X_hat)
    total = 0.0
    for rows in row_blocks(X):
        total += _row_cosines(X[rows], X_hat[rows]).sum()
    return float(total / X.shape[0])


@validate_params(
    {"X": ["array-like"], "X_hat": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def explained_variance(X, X_hat):
    r"""Share of the variance that a reconstruction explains.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Data.

    X_hat : array-like of shape (n_samples, n_features)
        Reconstruction.

    Returns
    -------
    score : float
        At most 1, which is an exact reconstruction; 0 is as good as the mean, and
        worse ones are negative. Where all rows of `X` are equal, 1 for an exact
        reconstruction and 0 for any other, as :func:`~sklearn.metrics.r2_score`
        has it.

    Raises
    ------
    ValueError
        If the shapes differ, or if either input is empty or holds NaN or infinity.

    See Also
    --------
    reconstruction_cosine : Mean cosine, which does not see the rows' lengths.

    Notes
    -----
    The norms are taken over the whole matrix and :math:`\bar{x}` is the mean row,
    so features count by their variance:

    .. math::

        1 - \|X - \hat{X}\|_F^2 / \|X - 1 \bar{x}^T\|_F^2

    This is ``sklearn.metrics.r2_score(X, X_hat,
    multioutput="variance_weighted")``, computed in float64 by blocks of rows.

    Examples
    --------
    >>> from skdict.metrics import explained_variance
    >>> explained_variance([[0.0, 0.0], [2.0, 4.0]], [[0.0, 0.0], [2.0, 2.0]])
    0.6
    """
    X, X_hat = _check_pair(X, X_hat)
    # A power of two scales exactly and keeps the squares of any finite X finite.
    scale = power_of_two(max(np.abs(_float64(X[rows])).max() for rows in row_blocks(X)))

    # Differences to the first row instead of to 0: the mean of equal rows is then
    # exact, so that constant data has a variance of exactly 0.
    first = _float64(X[0]) * scale
    mean = np.zeros(X.shape[1])
    for rows in row_blocks(X):
        mean += (_float64(X[rows]) * scale - first).sum(axis=0)
    mean /= X.shape[0]

    residual = total = 0.0
    with np.errstate(over="ignore"):  # a reconstruction 1e150 times too large
        for rows in row_blocks(X):
            X_rows = _float64(X[rows]) * scale
            residual += np.square(X_rows - _float64(X_hat[rows]) * scale).sum()
            total += np.square(X_rows - first - mean).sum()
        if total == 0.0:
            return 1.0 if residual == 0.0 else 0.0
        return float(1.0 - residual / total)


def _check_pair(X, X_hat):
    X = check_numbers(X, ensure_all_finite=False, input_name="X")
    X_hat = check_numbers(X_hat, ensure_all_finite=False, input_name="X_hat")
    if X.shape != X_hat.shape:
        raise ValueError(
            f"X and X_hat must have the same shape, got {X.shape} and {X_hat.shape}."
        )
    check_finite(X, "X")
    check_finite(X_hat, "X_hat")
    return X, X_hat


def _row_cosines(A, B):
    A, nonzero_a = unit_rows(A)
    B, nonzero_b = unit_rows(B)
    cosines = np.clip(np.einsum("ij,ij->i", A, B), -1.0, 1.0)
    cosines[~nonzero_a & ~nonzero_b] = 1.0
    return cosines


def _float64(A):
    return np.asarray(A, dtype=np.float64)
