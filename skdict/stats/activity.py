"""Find and count the active entries of codes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from skdict._utils.arrays import row_blocks
from skdict._utils.checks import check_finite, check_numbers, rows_not_finite
from skdict._utils.dask_blocks import (
    batched,
    block_results,
    budget_bytes,
    check_table,
    is_dask,
    reduce_blocks,
)
from skdict._utils.types import Codes


@dataclass(frozen=True)
class DeferredActivity:
    """The active entries of codes that Dask computes, found anew in every pass.

    Parameters
    ----------
    codes : dask.array.Array of shape (n_samples, n_components)
        From `check_codes`.
    threshold : float
        As in `find_active`.
    """

    codes: Any
    threshold: float

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and of features."""
        return self.codes.shape


Activity: TypeAlias = sparse.csr_array | DeferredActivity


def find_active(codes: Codes, threshold: float) -> Activity:
    """Find the entries with ``|z| > threshold``.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array, dask.array.Array} of shape \
            (n_samples, n_components)
        Codes. Explicit zeros of a sparse matrix are not active, duplicate entries
        are summed first, and the input is not changed.
    threshold : float
        Non-negative threshold.

    Returns
    -------
    activity : csr_array of shape (n_samples, n_components), int8
        A one for every active entry; no other entries are stored. It may share its
        indices with `codes`. Of a Dask array it is a DeferredActivity.

    Raises
    ------
    ValueError
        If `codes` is empty, not two-dimensional, or holds NaN or infinity.
    """
    codes = check_codes(codes, deferred=True)
    if is_dask(codes):
        return DeferredActivity(codes, threshold)
    return _find_active(codes, threshold)


def check_codes(
    codes: Codes, name: str = "codes", min_samples: int = 1, *, deferred: bool = False
) -> Codes:
    """Check that codes are a finite table; sparse codes become canonical CSR.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array, dask.array.Array}
        The table.
    name : str, default="codes"
        What messages call it.
    min_samples : int, default=1
        Smallest number of rows.
    deferred : bool, default=False
        Whether the caller can go through a Dask array block by block. It then comes
        back as it is, and `check_block` finds what is not finite.

    Raises
    ------
    TypeError
        If `codes` is a Dask array and `deferred` is False.
    ValueError
        If `codes` is too small, no table of numbers or not finite.
    """
    if is_dask(codes):
        if not deferred:
            raise TypeError(
                f"{name} is a Dask array, but all codes are needed at a time here: "
                f"pass {name}.compute(), or fewer rows of it."
            )
        check_table(codes, name)
        few = (min(codes.shape[0], min_samples), codes.shape[1])
        _as_numbers(np.zeros(few, codes.dtype), name, min_samples)
        return codes
    codes = _as_numbers(codes, name, min_samples)
    check_finite(codes, name)
    return codes


def check_block(codes: Codes, start: int, name: str = "codes") -> Codes:
    """Check a block of codes, whose first row has the number `start` in the table."""
    codes = _as_numbers(codes, name, 1)
    bad = rows_not_finite(codes)
    if len(bad):
        raise ValueError(
            f"{name} holds NaN or infinity in {len(bad)} of the rows {start} to "
            f"{start + codes.shape[0]}, the first of them row {start + bad[0]}."
        )
    return codes


def _as_numbers(codes: Codes, name: str, min_samples: int) -> Codes:
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
    return codes


def _find_active(codes: Codes, threshold: float) -> sparse.csr_array:
    if sparse.issparse(codes):
        return _find_active_csr(codes, threshold)
    return _find_active_dense(codes, threshold)


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


def take_rows(activity: Activity, rows: np.ndarray) -> Activity:
    """Take some samples, by their indices."""
    if isinstance(activity, DeferredActivity):
        return DeferredActivity(activity.codes[rows], activity.threshold)
    return activity[rows]


def count_active(activity: Activity, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Count the active samples of every class and feature."""
    (counts,) = count_each(activity, [labels], n_classes)
    return counts


def count_each(
    activity: Activity, draws: Iterable[np.ndarray], n_classes: int
) -> Iterator[np.ndarray]:
    """Count the active samples of every class and feature, for several labellings.

    Parameters
    ----------
    activity : csr_array or DeferredActivity of shape (n_samples, n_components)
        From `find_active`.
    draws : iterable of ndarray of shape (n_samples,)
        Number of the class of each sample, once for each labelling. Dask computes the
        codes once for as many of them as the working memory allows.
    n_classes : int

    Yields
    ------
    counts : ndarray of shape (n_classes, n_components), int32
        int64 if there are more samples than int32 counts.
    """
    if not isinstance(activity, DeferredActivity):
        for labels in draws:
            yield _count(activity, labels, n_classes)
        return
    n_samples, n_components = activity.shape
    small = np.min_scalar_type(n_classes)
    counts_type = np.dtype(np.int32 if n_samples < 2**31 else np.int64)
    needed = n_classes * n_components * counts_type.itemsize
    needed += n_samples * small.itemsize
    count = partial(
        _count_block,
        threshold=activity.threshold,
        n_classes=n_classes,
        dtype=counts_type,
    )
    small_draws = (labels.astype(small) for labels in draws)
    for some in batched(small_draws, max(1, budget_bytes() // needed)):
        columns = np.stack(some, axis=1)
        yield from reduce_blocks(activity.codes, count, operator.add, columns)


def sum_active(activity: Activity, ids: np.ndarray, n_groups: int) -> sparse.csr_array:
    """Count the active samples of every group and feature, where there are many groups.

    Returns
    -------
    counts : csr_array of shape (n_groups, n_components), int32
    """
    if isinstance(activity, DeferredActivity):
        total = partial(_sum_block, threshold=activity.threshold, n_groups=n_groups)
        return reduce_blocks(activity.codes, total, operator.add, ids)
    return (indicator(ids, n_groups).T @ activity).tocsr()


def total_active(activity: Activity) -> np.ndarray:
    """Count the active samples of every feature."""
    if isinstance(activity, DeferredActivity):
        total = partial(_total_block, threshold=activity.threshold)
        return reduce_blocks(activity.codes, total, operator.add)
    return np.bincount(activity.indices, minlength=activity.shape[1])


def parts_of(activity: Activity, n_rows: int) -> Iterator[sparse.csr_array]:
    """Yield consecutive parts of `n_rows` samples each."""
    if not isinstance(activity, DeferredActivity):
        for start in range(0, activity.shape[0], n_rows):
            yield activity[start : start + n_rows]
        return
    block = partial(_active_block, threshold=activity.threshold)
    waiting: list[sparse.csr_array] = []
    n_waiting = 0
    for part in block_results(activity.codes, block):
        waiting.append(part)
        n_waiting += part.shape[0]
        if n_waiting < n_rows:
            continue
        rows = sparse.vstack(waiting, format="csr")
        whole = n_waiting - n_waiting % n_rows
        for start in range(0, whole, n_rows):
            yield rows[start : start + n_rows]
        waiting, n_waiting = [rows[whole:]], n_waiting - whole


def _active_block(codes: Codes, start: int, *, threshold: float) -> sparse.csr_array:
    return _find_active(check_block(codes, start), threshold)


def _count_block(
    codes: Codes,
    start: int,
    columns: np.ndarray,
    *,
    threshold: float,
    n_classes: int,
    dtype: np.dtype,
) -> np.ndarray:
    activity = _active_block(codes, start, threshold=threshold)
    counts = np.empty((columns.shape[1], n_classes, codes.shape[1]), dtype)
    for i, labels in enumerate(columns.T):
        counts[i] = _count(activity, labels.astype(np.int32), n_classes)
    return counts


def _total_block(codes: Codes, start: int, *, threshold: float) -> np.ndarray:
    return total_active(_active_block(codes, start, threshold=threshold))


def _sum_block(
    codes: Codes, start: int, ids: np.ndarray, *, threshold: float, n_groups: int
) -> sparse.csr_array:
    return sum_active(_active_block(codes, start, threshold=threshold), ids, n_groups)


def _count(
    activity: sparse.csr_array, labels: np.ndarray, n_classes: int
) -> np.ndarray:
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
