"""Methods of fitted estimators on rows that are read later: Dask arrays in and out."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import sklearn
from sklearn import config_context

from skdict._utils.extras import optional
from skdict._utils.labels import as_labels
from skdict._utils.types import Data
from skdict.rows.stored import StoredRows, is_deferred

Method = TypeVar("Method", bound=Callable[..., Any])

# Fraction of the working memory that the rows of a block take.
_BLOCK = 1 / 16


def by_blocks(method: Method) -> Method:
    """Decorate a method of a fitted estimator that takes rows one by one.

    Of deferred rows (zarr, HDF5, Dask) it gives a Dask array, of which nothing is
    computed yet: every block of rows goes through the method by itself. Keyword
    arguments that are not None have one entry for each row. Later changes of the
    estimator do not matter.
    """

    @functools.wraps(method)
    def run(self: Any, X: Data, **along: Data) -> Any:
        if not is_deferred(X):
            return method(self, X, **along)
        given = {name: value for name, value in along.items() if value is not None}
        return map_row_blocks(self, method.__name__, X, **given)

    return cast("Method", run)


def map_row_blocks(estimator: Any, method: str, X: Data, **along: Data) -> Any:
    """Call a method of a fitted estimator for blocks of deferred rows, later.

    Parameters
    ----------
    estimator : estimator
        It is copied, without its fitted arrays.
    method : str
        Name of a method that takes rows one by one.
    X : zarr.Array, h5py.Dataset, dask.array.Array or alike
        The rows.
    **along : dict of array-like
        Keyword arguments of the method, with one entry for each row.

    Returns
    -------
    dask.array.Array
        With the blocks of rows of X; a block holds what the method returns.

    Raises
    ------
    ImportError
        If Dask is not installed.
    """
    da = optional("dask.array", "Rows that are read later", "stores")
    rows = row_blocks(X)
    n_rows, width = rows.shape
    others = []
    for name, values in along.items():
        labels = as_labels(values, name, n_rows)[:, None]
        others.append(da.from_array(labels, chunks=(rows.chunks[0], 1)))
    # What the method refuses is refused now, and the kind of the result is known.
    one = [np.zeros((1, width), rows.dtype), *(v[:1].compute() for v in others)]
    empty = _call(*one, **_what(estimator, method, along))[:0]
    chunks = (rows.chunks[0], *((n,) for n in empty.shape[1:]))
    dask = optional("dask", "Rows that are read later", "stores")
    what = dask.delayed(_what(estimator, method, along), pure=False, traverse=False)
    return da.map_blocks(
        _call_what,
        rows,
        *others,
        what=what,
        empty=empty,
        name=f"{type(estimator).__name__}-{method}-{dask.base.tokenize(object())}",
        chunks=chunks,
        drop_axis=[1] if empty.ndim == 1 else [],
        meta=empty,
    )


def row_blocks(X: Data) -> Any:
    """Make a Dask array of deferred rows, each block of which has all columns."""
    da = optional("dask.array", "Rows that are read later", "stores")
    if hasattr(X, "dask"):
        if X.ndim != 2:
            raise ValueError(f"Expected 2D array, got {X.ndim}D array instead.")
        return X.rechunk({1: -1})
    stored = StoredRows(X)
    most = stored.rows_in(_BLOCK)
    sizes: list[int] = []
    for size in np.diff(stored.edges).tolist():
        if sizes and sizes[-1] + size <= most:
            sizes[-1] += size
        else:
            sizes.append(size)
    return da.from_array(X, chunks=(tuple(sizes), X.shape[1]), name=False)


def _what(estimator: Any, method: str, along: dict[str, Data]) -> dict[str, Any]:
    """All that a block needs to know besides its rows."""
    return {
        "estimator": copy.copy(estimator),
        "method": method,
        "names": list(along),
        "config": sklearn.get_config(),  # threads and processes have their own
    }


def _call_what(rows: Any, *others: Any, what: dict[str, Any], empty: Any) -> Any:
    # Dask makes blocks without rows, for instance by a mask.
    return _call(rows, *others, **what) if rows.shape[0] else empty


def _call(
    rows: Any,
    *others: Any,
    estimator: Any,
    method: str,
    names: list[str],
    config: dict[str, Any],
) -> Any:
    along = {name: part[:, 0] for name, part in zip(names, others, strict=True)}
    with config_context(**config):
        return getattr(estimator, method)(rows, **along)
