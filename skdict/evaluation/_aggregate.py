"""Rows of one group as one row: tokens and cells to wells, wells to perturbations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

from skdict._utils.arrays import blocks
from skdict._utils.labels import as_labels, encode
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import CSR, AnyArray, Data
from skdict.stats import check_codes, cross, named_columns

# Number of entries of a dense block whose groups are reduced at a time.
_BLOCK_ENTRIES = 2**22


class Aggregated(NamedTuple):
    """One row for each group.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_groups, n_features)
        The mean, median or maximum of the rows of each group. CSR if the rows were.

    metadata : DataFrame of n_groups rows
        The columns that name the group, those that all rows of every group share, and
        `n_rows`, the number of rows in the group.

    See Also
    --------
    aggregate : Makes it.
    """

    X: Any
    metadata: pd.DataFrame


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "groups": ["array-like", dict],
        "statistic": [StrOptions({"mean", "median", "max"})],
        "metadata": [dict, "array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def aggregate(
    X: Data,
    groups: Data,
    *,
    statistic: str = "mean",
    metadata: Data | None = None,
) -> Aggregated:
    """Make one row of all rows of a group: of a well's cells, a perturbation's wells.

    Parameters
    ----------
    X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
        Embeddings, reconstructions or codes. A sparse input is never densified, and the
        result is sparse, too.

    groups : array-like of shape (n_samples,), or dict or DataFrame of such columns
        What becomes one row. With several columns, such as plate and well, a group is
        a combination of values that occurs.

    statistic : {"mean", "median", "max"}, default="mean"
        What the entry of a group is, feature by feature. "max" answers whether a
        feature is active anywhere in the group, and keeps its strongest value.

    metadata : dict of array-like of shape (n_samples,) or DataFrame, default=None
        What is known about the rows. Columns that differ inside any group, such as the
        position of a cell in its well, are left out of the result.

    Returns
    -------
    aggregated : Aggregated
        A named tuple of `X`, with one row for each group, and `metadata`, a DataFrame
        with the same rows: the columns of `groups` (called `groups` if there is only an
        array), the columns of `metadata` that are the same in all rows of every group,
        and `n_rows`. Groups are sorted by the columns of `groups`.

    Raises
    ------
    ValueError
        If `X` is empty or holds NaN or infinity, if lengths differ, if a column of
        `groups` has missing values, or if a column is called `n_rows`.

    See Also
    --------
    relationship_recall : Whether aggregated profiles recover known relationships.
    replicate_retrieval : Whether the wells of a perturbation find each other.

    Notes
    -----
    Call it twice to give each well the same weight, however many cells it has: first
    from cells to wells, then from wells to perturbations.

    The mean of codes is linear: a linear decoder makes of the mean code the mean
    reconstruction. Median and maximum are not, and the median of a feature that is
    active in fewer than half of the rows is 0.

    Examples
    --------
    >>> from skdict.evaluation import aggregate
    >>> cells = [[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]]
    >>> wells = aggregate(
    ...     cells, ["A1", "A1", "A2"],
    ...     metadata={"gene": ["x", "x", "y"], "cell": [0, 1, 0]},
    ... )
    >>> wells.X
    array([[1., 1.],
           [4., 4.]])
    >>> wells.metadata
      groups gene  n_rows
    0     A1    x       2
    1     A2    y       1
    >>> aggregate(wells.X, wells.metadata["gene"]).metadata["groups"].tolist()
    ['x', 'y']
    """
    X = check_codes(X, "X")
    n_samples = X.shape[0]
    names, ids = _number_groups(groups, n_samples)
    n_rows = np.bincount(ids)
    columns = names | _shared_columns(metadata, ids, n_samples, names)
    if "n_rows" in columns:
        raise ValueError(
            "A column is called n_rows, as the number of rows in each group: rename it."
        )
    reduce = _reduce_sparse if sp.issparse(X) else _reduce_dense
    return Aggregated(
        reduce(X, ids, n_rows, statistic), pd.DataFrame(columns | {"n_rows": n_rows})
    )


def _number_groups(
    groups: Data, n_samples: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Number the group of each row; name the groups in one or several columns."""
    given = {"groups": groups}
    if isinstance(groups, dict) or hasattr(groups, "columns"):
        given = named_columns(groups, "groups")
    if not given:
        raise ValueError("groups has no columns.")
    ids = np.zeros(n_samples, np.intp)
    columns = {}
    for name, column in given.items():
        shown = "groups" if column is groups else f"groups[{name!r}]"
        columns[name] = as_labels(column, shown, n_samples)
        ids = cross(ids, encode(columns[name], shown)[1])
    first = np.unique(ids, return_index=True)[1]
    return {name: column[first] for name, column in columns.items()}, ids


def _shared_columns(
    metadata: Data, ids: np.ndarray, n_samples: int, names: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Reduce the columns that all rows of every group share."""
    first = np.unique(ids, return_index=True)[1]
    shared = {}
    for name, column in named_columns(metadata, "metadata").items():
        if hasattr(column, "to_pylist") or hasattr(column, "null_count"):
            # Arrow and polars, in which pandas does not see what is missing.
            column = getattr(column, "to_pylist", None) or column.to_list
            column = column()
        column = pd.Series(column).reset_index(drop=True)
        if len(column) != n_samples:
            raise ValueError(
                f"There are {n_samples} rows, but metadata[{name!r}] has length "
                f"{len(column)}."
            )
        if name in names:
            continue
        values = pd.factorize(column)[0]  # missing values are -1, and so alike
        if np.array_equal(values, values[first][ids]):
            shared[name] = column.iloc[first].reset_index(drop=True)
    return shared


def _reduce_dense(
    X: np.ndarray, ids: np.ndarray, n_rows: np.ndarray, statistic: str
) -> np.ndarray:
    dtype = X.dtype if X.dtype.kind == "f" else np.float64
    reduced = np.empty((len(n_rows), X.shape[1]), dtype)
    order = np.argsort(ids, kind="stable")
    ends = np.cumsum(n_rows)
    starts = ends - n_rows
    if statistic == "median":
        for group, (start, end) in enumerate(zip(starts, ends, strict=True)):
            reduced[group] = _middle(np.sort(X[order[start:end]], axis=0))
        return reduced
    for columns in blocks(X.shape[1], X.shape[0], _BLOCK_ENTRIES):
        part = X[:, columns][order].astype(np.float64, copy=False)
        if statistic == "max":
            reduced[:, columns] = np.maximum.reduceat(part, starts, axis=0)
        else:
            # Divide before the sum, which may overflow.
            weights = np.repeat(1 / n_rows, n_rows)[:, None]
            reduced[:, columns] = np.add.reduceat(part * weights, starts, axis=0)
    return reduced


def _middle(ordered: np.ndarray) -> np.ndarray:
    n = len(ordered)
    if n % 2:
        return ordered[n // 2]
    # Halve first: the sum may overflow.
    return ordered[n // 2 - 1] / 2 + ordered[n // 2] / 2


def _reduce_sparse(
    X: CSR, ids: np.ndarray, n_rows: np.ndarray, statistic: str
) -> AnyArray:
    """Reduce the stored entries of each pair of group and feature; the rest is zero."""
    n_groups, n_features = len(n_rows), X.shape[1]
    dtype = X.dtype if X.dtype.kind == "f" else np.float64
    group = np.repeat(ids, np.diff(X.indptr)).astype(np.int64)
    pair = group * n_features + X.indices
    values = X.data.astype(np.float64, copy=False)
    if statistic == "median":
        order = np.lexsort((values, pair))
    else:
        order = np.argsort(pair, kind="stable")
    values = values[order]
    pairs, starts, n_stored = np.unique(
        pair[order], return_index=True, return_counts=True
    )
    groups, features = np.divmod(pairs, n_features)
    size = n_rows[groups]
    if not len(pairs):
        reduced = np.empty(0)
    elif statistic == "mean":
        weights = np.repeat(1 / size, n_stored)
        reduced = np.add.reduceat(values * weights, starts)
    elif statistic == "max":
        reduced = np.maximum.reduceat(values, starts)
        reduced = np.where(n_stored < size, np.maximum(reduced, 0), reduced)
    else:
        negative = np.add.reduceat((values < 0).astype(np.int64), starts)

        def ordered(rank: np.ndarray) -> np.ndarray:
            """Value of this rank among the stored values and the zeros between."""
            n_zeros = size - n_stored
            place = np.where(rank < negative, rank, rank - n_zeros)
            is_zero = (rank >= negative) & (rank < negative + n_zeros)
            return np.where(is_zero, 0.0, values[starts + np.where(is_zero, 0, place)])

        reduced = ordered((size - 1) // 2) / 2 + ordered(size // 2) / 2
    kept = reduced != 0
    indptr = np.concatenate(([0], np.cumsum(np.bincount(groups[kept], None, n_groups))))
    return type(X)(
        (reduced[kept].astype(dtype), features[kept], indptr),
        shape=(n_groups, n_features),
    )
