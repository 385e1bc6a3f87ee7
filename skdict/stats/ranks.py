"""Mid-ranks of sparse codes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skdict._utils.dask_blocks import (
    block_results,
    budget_bytes,
    is_dask,
)
from skdict._utils.types import Codes

from .activity import check_block, find_active, total_active

# Number of stored entries that are sorted at a time.
_BLOCK_ENTRIES = 2**22


def centred_ranks(
    codes: Codes,
) -> Iterator[tuple[slice, sparse.csc_array, np.ndarray]]:
    """Yield the mid-ranks of blocks of features, minus the rank of a zero code.

    Parameters
    ----------
    codes : {ndarray, csr_array, dask.array.Array} of shape (n_samples, n_components)
        From `check_codes`. Dask computes the codes once for each block of features.

    Yields
    ------
    some : slice
        The features of the block.
    ranks : csc_array of shape (n_samples, n_features_of_the_block)
        Ranks from 1 to `n_samples` inside each column, minus `rank_of_zero`: zero
        wherever the code is zero.
    rank_of_zero : ndarray of shape (n_features_of_the_block,)
        The mid-rank of the zeros.
    """
    if is_dask(codes):
        for some in _features_that_fit(codes):
            of_block = partial(_columns_of_block, features=some)
            rows = [*block_results(codes, of_block)]
            yield some, *_centred_ranks_of(sparse.vstack(rows, format="csc"))
        return
    if sparse.issparse(codes):
        # scipy has no float16.
        codes = codes.astype(np.promote_types(codes.dtype, np.float32)).tocsc()
        n_entries = codes.nnz
    else:
        n_entries = codes.size
    n_components = codes.shape[1]
    width = max(1, _BLOCK_ENTRIES * n_components // max(n_entries, 1))
    for some in gen_batches(n_components, width):
        yield some, *_centred_ranks_of(_stored(codes[:, some]))


def _stored(block: Codes) -> sparse.csc_array:
    """Make a matrix of a block of columns, without stored zeros."""
    # scipy has no float16.
    block = block.astype(np.promote_types(block.dtype, np.float32))
    block = sparse.csc_array(block)
    block.eliminate_zeros()
    return block


def _features_that_fit(codes: Any) -> Iterator[slice]:
    """Cut the features of Dask codes into blocks that the working memory has room for.

    A feature is never divided, however many entries it has.
    """
    # Values, indices, the order of the values, and a copy while they are joined.
    most = budget_bytes() // 32
    entries = np.cumsum(total_active(find_active(codes, 0.0)))
    start = 0
    while start < len(entries):
        before = entries[start - 1] if start else 0
        stop = int(np.searchsorted(entries, before + most, side="right"))
        yield slice(start, max(stop, start + 1))
        start = max(stop, start + 1)


def _columns_of_block(codes: Codes, start: int, *, features: slice) -> sparse.csc_array:
    return _stored(check_block(codes, start)[:, features])


def _centred_ranks_of(codes: sparse.csc_array) -> tuple[sparse.csc_array, np.ndarray]:
    n_samples, n_components = codes.shape
    per_column = np.diff(codes.indptr)
    columns = np.repeat(np.arange(n_components), per_column)
    # Sorting column by column is several times faster than np.lexsort.
    order = np.concatenate(
        [
            start + np.argsort(codes.data[start:stop], kind="stable")
            for start, stop in pairwise(codes.indptr.tolist())
        ]
    )
    values = codes.data[order]
    # Equal values of a column share the middle of their ranks. `order` moves entries
    # inside columns only, so `columns` holds for the sorted values too.
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = (values[1:] != values[:-1]) | (columns[1:] != columns[:-1])
    starts = np.flatnonzero(starts)
    lengths = np.diff(np.append(starts, len(values)))
    middle = starts + (lengths + 1) / 2 - codes.indptr[columns[starts]]

    n_zeros = n_samples - per_column
    n_negative = np.bincount(columns[codes.data < 0], minlength=n_components)
    rank_of_zero = n_negative + (n_zeros + 1) / 2
    sorted_ranks = np.repeat(middle, lengths)
    sorted_ranks += np.where(values > 0, n_zeros[columns], 0) - rank_of_zero[columns]
    ranks = np.empty(len(values))
    ranks[order] = sorted_ranks
    centred = sparse.csc_array((ranks, codes.indices, codes.indptr), shape=codes.shape)
    return centred, rank_of_zero
