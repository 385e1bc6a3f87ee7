"""Which features are active in which rows: the one pass that all counts share."""

import numpy as np
from scipy import sparse

from skdict._utils.arrays import row_blocks
from skdict._utils.checks import check_finite, check_numbers


def find_active(codes, threshold: float) -> sparse.csr_array:
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
        A one for every active entry and nothing else. It may share its indices with
        `codes`.

    Raises
    ------
    ValueError
        If `codes` is empty, not two-dimensional, or holds NaN or infinity.
    """
    codes = check_codes(codes)
    if sparse.issparse(codes):
        return _find_active_csr(codes, threshold)
    return _find_active_dense(codes, threshold)


def check_codes(codes, name: str = "codes", min_samples: int = 1):
    """Check that codes are a finite table; a sparse one becomes canonical CSR."""
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


def _find_active_csr(codes, threshold):
    active = codes.data != 0 if threshold == 0 else _exceeds(codes.data, threshold)
    if active.all():
        return _activity_matrix(codes.indices, codes.indptr, codes.shape)
    active_before = np.concatenate(([0], np.cumsum(active)))
    return _activity_matrix(
        codes.indices[active], active_before[codes.indptr], codes.shape
    )


def _find_active_dense(codes, threshold):
    columns, per_row = [], []
    for rows in row_blocks(codes):
        active = _exceeds(codes[rows], threshold)
        columns.append(np.nonzero(active)[1])
        per_row.append(active.sum(axis=1))
    indptr = np.concatenate(([0], np.cumsum(np.concatenate(per_row))))
    return _activity_matrix(np.concatenate(columns), indptr, codes.shape)


def _activity_matrix(indices, indptr, shape):
    ones = np.ones(len(indices), dtype=np.int8)
    return sparse.csr_array((ones, indices, indptr), shape=shape)


def count_active(activity, labels, n_classes):
    """Count, for every class and feature, the samples in which it is active."""
    n_components = activity.shape[1]
    # With the rows sorted by class, the entries of a class count into one short row
    # of the table; in any other order each of them misses the cache.
    by_class = indicator(labels, n_classes).tocsc()
    ordered = activity[by_class.indices]
    ones = np.ones(ordered.nnz, np.int32)
    entries = (ones, ordered.indices, ordered.indptr[by_class.indptr])
    # Entries of the same class and feature are duplicates now, and toarray() adds
    # duplicates up.
    return sparse.csr_array(entries, shape=(n_classes, n_components)).toarray()


def indicator(labels, n_classes):
    """A sparse (n_samples, n_classes) matrix with a one for the class of each row."""
    n_samples = len(labels)
    return sparse.csr_array(
        (np.ones(n_samples, np.int32), labels, np.arange(n_samples + 1)),
        shape=(n_samples, n_classes),
    )


def _exceeds(values, threshold):
    # Two comparisons and no abs(), which overflows for the smallest integer. A
    # float64 scalar makes numpy compare in float64 whatever the dtype of the codes.
    threshold = np.float64(threshold)
    return (values > threshold) | (values < -threshold)
