"""Which features are active in which rows: the one pass that all counts share."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, gen_batches

# Rows of a dense array are compared in blocks of about this many values, so that
# no boolean array of the whole size stands beside the codes.
_BLOCK_VALUES = 2**22


@dataclass(frozen=True)
class Activity:
    """The active entries of a code matrix, row by row.

    Parameters
    ----------
    columns : ndarray of shape (n_active,)
        Feature index of every active entry, in the order of the rows.
    per_row : ndarray of shape (n_samples,)
        Number of active entries in each row.
    n_components : int
        Number of features.
    """

    columns: np.ndarray
    per_row: np.ndarray
    n_components: int

    @property
    def n_samples(self) -> int:
        return len(self.per_row)


def find_active(codes, threshold: float) -> Activity:
    """Find the entries with ``|z| > threshold``.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes. Explicit zeros of a sparse matrix are not active, duplicate entries
        are summed first, and the input is not changed.
    threshold : float
        Non-negative threshold.

    Returns
    -------
    activity : Activity

    Raises
    ------
    ValueError
        If `codes` is empty, not two-dimensional, or holds NaN or infinity.
    """
    codes = check_array(
        codes, accept_sparse="csr", ensure_all_finite=False, input_name="codes"
    )
    if sparse.issparse(codes):
        return _find_active_csr(codes, threshold)
    return _find_active_dense(codes, threshold)


def _find_active_csr(codes, threshold):
    if not codes.has_canonical_format:
        codes = codes.copy()
        codes.sum_duplicates()
    n_samples, n_components = codes.shape
    bad = np.flatnonzero(~np.isfinite(codes.data))
    if bad.size:
        rows = np.searchsorted(codes.indptr, bad, side="right") - 1
        raise_not_finite("codes", np.unique(rows), n_samples)

    active = _exceeds(codes.data, threshold)
    active_before = np.concatenate(([0], np.cumsum(active)))
    return Activity(
        columns=codes.indices[active],
        per_row=np.diff(active_before[codes.indptr]),
        n_components=n_components,
    )


def _find_active_dense(codes, threshold):
    check_rows_finite(codes, "codes")
    columns, per_row = [], []
    for rows in gen_row_batches(codes):
        active = _exceeds(codes[rows], threshold)
        columns.append(np.nonzero(active)[1])
        per_row.append(active.sum(axis=1))
    return Activity(
        columns=np.concatenate(columns),
        per_row=np.concatenate(per_row),
        n_components=codes.shape[1],
    )


def _exceeds(values, threshold):
    # Two comparisons and no abs(), which overflows for the smallest integer. A
    # float64 scalar makes numpy compare in float64 whatever the dtype of the codes.
    threshold = np.float64(threshold)
    return (values > threshold) | (values < -threshold)


def gen_row_batches(X):
    """Yield slices of rows that hold a bounded number of values each."""
    n_samples, n_features = X.shape
    return gen_batches(n_samples, max(1, _BLOCK_VALUES // n_features))


def check_rows_finite(X, name: str) -> None:
    """Raise a ValueError that counts the rows of `X` with NaN or infinity."""
    bad_rows = np.concatenate(
        [
            rows.start + np.flatnonzero(~np.isfinite(X[rows]).all(axis=1))
            for rows in gen_row_batches(X)
        ]
    )
    if bad_rows.size:
        raise_not_finite(name, bad_rows, X.shape[0])


def raise_not_finite(name: str, bad_rows: np.ndarray, n_samples: int) -> None:
    raise ValueError(
        f"{name} holds NaN or infinity in {len(bad_rows)} of {n_samples} rows, "
        f"the first of them row {bad_rows[0]}."
    )
