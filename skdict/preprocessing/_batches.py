"""Labels of batches: where they come from, and which of them are known."""

from __future__ import annotations

import numpy as np

from skdict._utils.checks import as_numpy
from skdict._utils.labels import join, kind_of
from skdict._utils.types import Data
from skdict.rows import is_deferred

__all__ = ["known_positions", "split_off_column", "union"]


def split_off_column(
    X: Data, batch: Data | None, column: str | int | None
) -> tuple[Data, Data | None]:
    """Split X into features and the column of batches, if there is one.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_columns)
        The samples.
    batch : array-like or None
        What the user passed as `batch`.
    column : str, int or None
        Name or number of the column; None if X has only features.

    Returns
    -------
    X : array-like of shape (n_samples, n_features)
        A frame if X was one; otherwise an array.
    batch : array-like of shape (n_samples,) or None
    """
    if column is None:
        return X, batch
    if batch is not None:
        raise ValueError(
            f"The batch is given twice: as an argument and as batch_column={column!r}."
        )
    names = list(X.columns) if hasattr(X, "columns") else None
    if isinstance(column, str):
        if names is None:
            raise ValueError(
                f"batch_column={column!r} is a name, but X has no named columns: it is "
                f"a {type(X).__name__}. Pass a data frame, or the column's number."
            )
        if column not in names:
            raise ValueError(f"X has no column {column!r}, which batch_column names.")
        number = names.index(column)
    else:
        number = column
    if names is None and is_deferred(X):
        raise ValueError(
            f"batch_column={column}, but the rows are read later: pass the labels as "
            "batch instead."
        )
    if names is None:
        # As objects, because strings in a list would make strings of its numbers.
        X = as_numpy(X) if hasattr(X, "dtype") else np.array(X, dtype=object)
        if X.ndim != 2:
            raise ValueError(
                f"Expected 2D array, got {X.ndim}D array instead: X has no columns, "
                f"but batch_column={column}."
            )
    n_columns = X.shape[1]
    if not -n_columns <= number < n_columns:
        raise ValueError(f"batch_column={column}, but X has {n_columns} columns.")
    number %= n_columns
    if names is None:
        features = np.delete(X, number, axis=1)
        if features.dtype == object:
            features = np.array(features.tolist())
        return features, X[:, number]
    return X[names[:number] + names[number + 1 :]], X[names[number]]


def _check_kind(labels: np.ndarray, known: np.ndarray) -> None:
    """Raise if the labels are of another kind than the known ones."""
    kind, known_kind = kind_of(labels), kind_of(known)
    if len(known) and len(labels) and kind != known_kind:
        raise ValueError(
            f"batch holds {kind} now, such as {labels[:1].tolist()[0]!r}, but "
            f"{known_kind} in fit, such as {known[:1].tolist()[0]!r}."
        )


def known_positions(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Find the position of each label among the known ones, which are sorted.

    Returns
    -------
    ndarray of shape (n_samples,), int
        len(known) for a label that is not known.
    """
    if len(known) == 0:
        return np.zeros(len(labels), dtype=np.intp)
    _check_kind(labels, known)
    n_known = len(known)
    together = join([known, labels], "batch")  # one dtype, so that they compare exactly
    known, labels = together[:n_known], together[n_known:]
    positions = np.searchsorted(known, labels)
    is_known = known[np.minimum(positions, n_known - 1)] == labels
    return np.where(is_known, positions, n_known)


def union(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sorted union of two sets of labels, and the places of both in it."""
    _check_kind(b, a)
    labels, positions = np.unique(join([a, b], "batch"), return_inverse=True)
    return labels, positions[: len(a)], positions[len(a) :]
