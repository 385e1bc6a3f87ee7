"""Rows of dense arrays: blocks of them, their checks, unit length."""

import numpy as np

# Rows of a dense array are compared in blocks of about this many values, so that
# no boolean array of the whole size stands beside the codes.
_BLOCK_VALUES = 2**22


def row_blocks(X):
    """Yield slices of rows that hold a bounded number of values each."""
    n_samples, n_features = X.shape
    n_rows = max(1, _BLOCK_VALUES // n_features)
    for start in range(0, n_samples, n_rows):
        yield slice(start, min(start + n_rows, n_samples))


def check_rows_finite(X, name: str) -> None:
    """Raise a ValueError that counts the rows of `X` with NaN or infinity."""
    bad_rows = np.concatenate(
        [
            rows.start + np.flatnonzero(~np.isfinite(X[rows]).all(axis=1))
            for rows in row_blocks(X)
        ]
    )
    if bad_rows.size:
        raise_not_finite(name, bad_rows, X.shape[0])


def raise_not_finite(name: str, bad_rows: np.ndarray, n_samples: int) -> None:
    raise ValueError(
        f"{name} holds NaN or infinity in {len(bad_rows)} of {n_samples} rows, "
        f"the first of them row {bad_rows[0]}."
    )


def unit_rows(A):
    """Rows of unit length in float64, zero rows left; and which are not zero."""
    A = np.asarray(A, dtype=np.float64)
    # First by the largest entry: squares of very large or small entries would
    # leave the range of float64.
    largest = np.abs(A).max(axis=1)
    nonzero = largest > 0
    A = A / np.where(nonzero, largest, 1.0)[:, None]
    norms = np.sqrt(np.einsum("ij,ij->i", A, A))
    return A / np.where(nonzero, norms, 1.0)[:, None], nonzero


def scale_down(values):
    """Values over a power of two, below 1/2, and its exponent.

    Sums, differences and squares of any finite values are then finite, and nothing is
    rounded, unless it is 1e-308 of the largest value.
    """
    exponent = int(np.frexp(np.abs(values).max())[1]) + 1
    return np.ldexp(values, -exponent), exponent
