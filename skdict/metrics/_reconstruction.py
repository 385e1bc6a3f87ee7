"""Measures of how well a reconstruction fits the data."""

from __future__ import annotations

import numpy as np

from skdict._utils.arrays import power_of_two, row_blocks, unit_rows
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Data


@validate_params(
    {"X": ["array-like"], "X_hat": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def reconstruction_cosine(X: Data, X_hat: Data) -> float:
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
        Mean over rows, in [-1, 1]. A pair of two zero rows counts as 1, because the
        reconstruction is exact; a pair with a single zero row counts as 0.

    Raises
    ------
    ValueError
        If the shapes differ, or if either input is empty or holds NaN or infinity.

    See Also
    --------
    explained_variance : Fraction of the variance; depends on the rows' lengths too.

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
def explained_variance(X: Data, X_hat: Data) -> float:
    r"""Fraction of the variance that a reconstruction explains.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Data.

    X_hat : array-like of shape (n_samples, n_features)
        Reconstruction.

    Returns
    -------
    score : float
        At most 1, for an exact reconstruction. 0 is as good as the mean row; worse
        reconstructions are negative. If all rows of `X` are equal, the score is 1 for
        an exact reconstruction and 0 for any other, as in
        :func:`~sklearn.metrics.r2_score`.

    Raises
    ------
    ValueError
        If the shapes differ, or if either input is empty or holds NaN or infinity.

    See Also
    --------
    reconstruction_cosine : Mean cosine; does not depend on the rows' lengths.

    Notes
    -----
    With norms over the whole matrix and the mean row :math:`\bar{x}`, the score is

    .. math::

        1 - \|X - \hat{X}\|_F^2 / \|X - 1 \bar{x}^T\|_F^2

    so features are weighted by their variance. This is
    ``sklearn.metrics.r2_score(X, X_hat, multioutput="variance_weighted")``, computed in
    float64 by blocks of rows.

    Examples
    --------
    >>> from skdict.metrics import explained_variance
    >>> explained_variance([[0.0, 0.0], [2.0, 4.0]], [[0.0, 0.0], [2.0, 2.0]])
    0.6
    """
    X, X_hat = _check_pair(X, X_hat)
    scale, first, mean = scaled_mean(X)
    residual = total = 0.0
    with np.errstate(over="ignore"):  # if a reconstruction is 1e150 times too large
        for rows in row_blocks(X):
            X_rows = _float64(X[rows]) * scale
            residual += np.square(X_rows - _float64(X_hat[rows]) * scale).sum()
            total += np.square(X_rows - first - mean).sum()
        if total == 0.0:
            return 1.0 if residual == 0.0 else 0.0
        return float(1.0 - residual / total)


def scaled_mean(X: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Find the scale of finite rows, their first row and the mean of the others' lead.

    The rows times the scale, minus the first row, minus the mean, are centred.
    """
    # A power of two scales exactly and keeps the squares of any finite X finite.
    scale = power_of_two(max(np.abs(_float64(X[rows])).max() for rows in row_blocks(X)))
    # Subtract the first row from all: the mean of equal rows is then exact, and
    # constant data have a variance of exactly 0.
    first = _float64(X[0]) * scale
    mean = np.zeros(X.shape[1])
    for rows in row_blocks(X):
        mean += (_float64(X[rows]) * scale - first).sum(axis=0)
    return scale, first, mean / X.shape[0]


def _check_pair(X: Data, X_hat: Data) -> tuple[np.ndarray, np.ndarray]:
    X = check_numbers(X, ensure_all_finite=False, input_name="X")
    X_hat = check_numbers(X_hat, ensure_all_finite=False, input_name="X_hat")
    if X.shape != X_hat.shape:
        raise ValueError(
            f"X and X_hat must have the same shape, got {X.shape} and {X_hat.shape}."
        )
    check_finite(X, "X")
    check_finite(X_hat, "X_hat")
    return X, X_hat


def _row_cosines(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    A, nonzero_a = unit_rows(A)
    B, nonzero_b = unit_rows(B)
    cosines = np.clip(np.einsum("ij,ij->i", A, B), -1.0, 1.0)
    cosines[~nonzero_a & ~nonzero_b] = 1.0
    return cosines


def _float64(A: np.ndarray) -> np.ndarray:
    return np.asarray(A, dtype=np.float64)
