"""Map and reduce over the blocks of rows of Dask arrays, without importing Dask."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from sklearn import get_config

__all__ = [
    "batched",
    "block_results",
    "budget_bytes",
    "check_table",
    "is_dask",
    "reduce_blocks",
]

Result = TypeVar("Result")

# Number of results that are merged at a time.
_FAN_IN = 8
# Fraction of the working memory that one result, or what a pass over the blocks takes
# along, may need.
_BUDGET = 1 / 16


def is_dask(X: Any) -> bool:
    """Whether X is a Dask array, of which blocks are computed when asked for."""
    return hasattr(X, "dask") and hasattr(X, "chunks")


def check_table(X: Any, name: str) -> None:
    """Check that a Dask array is a table whose number of rows is known."""
    if X.ndim != 2:
        raise ValueError(f"{name}: expected 2D array, got {X.ndim}D array instead.")
    if any(math.isnan(n) for n in X.shape):
        raise ValueError(
            f"{name} is a Dask array whose number of rows is not known: call its "
            "compute_chunk_sizes() first."
        )


def budget_bytes() -> int:
    """Size up to which arrays are made for a pass over the blocks."""
    return int(_BUDGET * get_config()["working_memory"] * 2**20)


def reduce_blocks(
    X: Any,
    of_block: Callable[..., Result],
    merge: Callable[[Result, Result], Result],
    *along: np.ndarray,
) -> Result:
    """Merge what a function makes of the blocks of rows of a Dask array.

    The results are merged in a tree wherever Dask computes the blocks: a few of them
    exist at a time, and a single one comes back.

    Parameters
    ----------
    X : dask.array.Array of shape (n_rows, n_columns)
        With at least one row.
    of_block : callable
        ``of_block(rows, start, *parts)`` gets the rows of a block, the number of the
        first of them, and their part of each array in `along`. It can be pickled.
    merge : callable
        ``merge(a, b)`` joins two results, that of the earlier rows first. It is
        associative, and can be pickled.
    *along : ndarray
        Arrays with one entry for each row.

    Returns
    -------
    result
    """
    import dask

    parts = [*_delayed_results(X, of_block, along)]
    join = dask.delayed(_merge_all)
    while len(parts) > 1:
        parts = [join(merge, some) for some in batched(parts, _FAN_IN)]
    (result,) = _compute(parts)
    return result


def block_results(
    X: Any, of_block: Callable[..., Result], *along: np.ndarray
) -> Iterator[Result]:
    """Yield what a function makes of the blocks of rows, of a few of them at a time.

    The parameters are those of `reduce_blocks`.
    """
    for parts in batched(_delayed_results(X, of_block, along), _FAN_IN):
        yield from _compute(parts)


def _delayed_results(
    X: Any, of_block: Callable[..., Any], along: tuple[np.ndarray, ...]
) -> Iterator[Any]:
    import dask

    X = X.rechunk({1: -1})
    edges = np.cumsum([0, *X.chunks[0]]).tolist()
    run = dask.delayed(of_block)
    for i, block in enumerate(X.to_delayed().ravel().tolist()):
        start, stop = edges[i : i + 2]
        if start < stop:  # Dask makes blocks without rows, for instance by a mask
            yield run(block, start, *(values[start:stop] for values in along))


def batched(items: Iterable[Result], size: int) -> Iterator[list[Result]]:
    """Yield lists of `size` items, the last one shorter; Python has it from 3.12."""
    items = iter(items)
    while some := [*islice(items, size)]:
        yield some


def _compute(parts: list[Any]) -> tuple[Any, ...]:
    import dask

    with warnings.catch_warnings():
        # The arrays along the rows are meant to travel with the graph.
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        return dask.compute(*parts)


def _merge_all(
    merge: Callable[[Result, Result], Result], results: list[Result]
) -> Result:
    return functools.reduce(merge, results)
