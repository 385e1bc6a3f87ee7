"""Find and count the active entries of codes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skdict._utils.arrays import row_blocks
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.types import Codes


def find_active(codes: Codes, threshold: float) -> sparse.csr_array:
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
    activity : csr_array of shape (n_samples, n_components), int8
        A one for every active entry; no other entries are stored. It may share its
        indices with `codes`.

    Raises
    ------
    ValueError
        If `codes` is empty, not two-dimensional, or holds NaN or infinity.
    """
    codes = check_codes(codes)
    if sparse.issparse(codes):
        return _find_active_csr(codes, threshold)
    return _find_active_dense(codes, threshold)


def check_codes(codes: Codes, name: str = "codes", min_samples: int = 1) -> Codes:
    """Check that codes are a finite table; sparse codes become canonical CSR."""
    codes = check_numbers(
        codes,
        accept_sparse="csr",
        ensure_all_finite=False,
        ensure_min_samples=min_samples,
        input_name=name,
    )
    if sparse.issparse(codes) and not codes.has_canonical_format:
        codes = codes.copy()
        codes.sum_duplicates()
    check_finite(codes, name)
    return codes


def _find_active_csr(codes: Codes, threshold: float) -> sparse.csr_array:
    active = codes.data != 0 if threshold == 0 else _exceeds(codes.data, threshold)
    if active.all():
        return _activity_matrix(codes.indices, codes.indptr, codes.shape)
    active_before = np.concatenate(([0], np.cumsum(active)))
    return _activity_matrix(
        codes.indices[active], active_before[codes.indptr], codes.shape
    )


def _find_active_dense(codes: np.ndarray, threshold: float) -> sparse.csr_array:
    columns, per_row = [], []
    for rows in row_blocks(codes):
        active = _exceeds(codes[rows], threshold)
        columns.append(np.nonzero(active)[1])
        per_row.append(active.sum(axis=1))
    indptr = np.concatenate(([0], np.cumsum(np.concatenate(per_row))))
    return _activity_matrix(np.concatenate(columns), indptr, codes.shape)


def _activity_matrix(
    indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_array:
    ones = np.ones(len(indices), dtype=np.int8)
    return sparse.csr_array((ones, indices, indptr), shape=shape)


def count_active(
    activity: sparse.csr_array, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """Count the active samples of every class and feature."""
    n_components = activity.shape[1]
    # Sort the rows by class: then the entries of a class all count into one short row
    # of the table, which stays in the cache.
    by_class = indicator(labels, n_classes).tocsc()
    ordered = activity[by_class.indices]
    ones = np.ones(ordered.nnz, np.int32)
    entries = (ones, ordered.indices, ordered.indptr[by_class.indptr])
    # Entries of the same class and feature are duplicates now, which toarray() adds.
    return sparse.csr_array(entries, shape=(n_classes, n_components)).toarray()


def indicator(labels: np.ndarray, n_classes: int) -> sparse.csr_array:
    """Make a matrix (n_samples, n_classes) with a one at the class of each row."""
    n_samples = len(labels)
    return sparse.csr_array(
        (np.ones(n_samples, np.int32), labels, np.arange(n_samples + 1)),
        shape=(n_samples, n_classes),
    )


def _exceeds(values: np.ndarray, threshold: float) -> np.ndarray:
    # Compare twice instead of calling abs(), which overflows for the smallest integer.
    # A float64 scalar makes numpy compare in float64 whatever the dtype of the codes.
    threshold = np.float64(threshold)
    return (values > threshold) | (values < -threshold)
