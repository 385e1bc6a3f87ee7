"""Labels, batches and groups as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from skdict._utils.labels import as_mask, encode, equals, labels_or_missing
from skdict._utils.types import Data
from skdict._utils.warn import warn


def encode_classes(y: Data, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort the classes and give each sample the number of its class."""
    classes, labels = encode(y, "y", n_samples)
    if len(classes) < 2:
        raise ValueError(
            "Selectivity compares a class with the others, so y needs at least two "
            f"classes; it holds only {classes[0]}."
        )
    return classes, labels


def row_of(label: Any, classes: np.ndarray) -> np.ndarray:
    """Find the row of a class, as an array of one index."""
    found = np.flatnonzero(equals(classes, label, "label"))
    if not found.size:
        raise ValueError(
            f"No sample has the label {label!r}; the classes are {classes.tolist()}."
        )
    return found


def encode_batch(
    batch: Data | None, labels: np.ndarray, control: Data | None = None
) -> np.ndarray | None:
    """Number the batches inside which labels may be permuted; None if there are none.

    The control samples of a batch form a batch of their own: their labels are
    exchanged among themselves only.
    """
    if batch is None and control is None:
        return None
    batch_ids = np.zeros(len(labels), dtype=np.intp)
    if batch is not None:
        batch_ids = encode(batch, "batch", len(labels))[1]
    if control is not None:
        batch_ids = cross(batch_ids, as_mask(control, "control", len(labels)))
    if not can_permute(labels, batch_ids):
        warn(
            "No batch holds samples of two classes: permuting y inside the batches "
            "changes nothing, so nothing is tested.",
        )
    return batch_ids


def encode_groups(
    groups: Data | None, n_samples: int, shared: dict[str, Data | None]
) -> np.ndarray | None:
    """Number the groups that exchange their labels as a whole.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        Group of each sample.
    n_samples : int
        Number of samples.
    shared : dict of array-like of shape (n_samples,)
        Columns, by name, that must be the same for all samples of a group. None is
        skipped.

    Returns
    -------
    group_ids : ndarray of shape (n_samples,) or None
        Number of each sample's group, in the order in which groups occur. None if
        there are no groups or if each holds a single sample: samples are then
        exchanged one by one.
    """
    if groups is None:
        return None
    names, ids = encode(groups, "groups", n_samples)
    for name, column in shared.items():
        if column is not None:
            _check_shared(names, ids, name, column)
    if len(names) == n_samples:
        return None
    first = np.unique(ids, return_index=True)[1]
    return np.argsort(np.argsort(first))[ids]


def _check_shared(names: np.ndarray, ids: np.ndarray, name: str, column: Data) -> None:
    # Targets may be fractions, which `as_labels` refuses. No values are missing: the
    # caller has checked the columns.
    if name == "control":
        column = as_mask(column, name, len(ids))
    values, value_ids = np.unique(
        labels_or_missing(column, name)[0], return_inverse=True
    )
    group_of_pair, value_of_pair = np.divmod(
        np.unique(ids * len(values) + value_ids), len(values)
    )
    mixed = np.flatnonzero(np.bincount(group_of_pair) > 1)
    if mixed.size:
        own = values[value_of_pair[group_of_pair == mixed[0]]].tolist()
        listed = ", ".join(map(str, own[:5])) + (", ..." if len(own) > 5 else "")
        raise ValueError(
            f"{name} differs inside {mixed.size} of {len(names)} groups, the first of "
            f"them {names[mixed[0]]} with {listed}. A group is exchanged as a "
            f"whole, so all of its samples must share {name}."
        )


def can_permute(labels: np.ndarray, batch_ids: np.ndarray | None) -> bool:
    """Whether any batch holds samples of two classes."""
    return bool(exchanged_classes(labels, batch_ids).any())


def exchanged_classes(labels: np.ndarray, batch_ids: np.ndarray | None) -> np.ndarray:
    """Mask of the classes that share a batch with another: permutation moves them."""
    n_classes = labels.max() + 1
    if batch_ids is None:
        return np.full(n_classes, n_classes > 1)
    batch, classes = np.divmod(np.unique(batch_ids * n_classes + labels), n_classes)
    shared = np.bincount(batch)[batch] > 1
    exchanged = np.zeros(n_classes, dtype=bool)
    exchanged[classes[shared]] = True
    return exchanged


def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number the pairs of a first and a second number that occur."""
    pairs = first * (second.max() + 1) + second
    return np.unique(pairs, return_inverse=True)[1]


def named_columns(table: Data, name: str) -> dict[str, Any]:
    """Turn a dict or DataFrame into a dict of columns whose keys are strings."""
    if table is None:
        return {}
    if hasattr(table, "shape") and not hasattr(table, "items"):
        # Tables of Arrow and polars, which have no items.
        names = getattr(table, "column_names", getattr(table, "columns", None))
        if names is not None:
            return {key: table[key] for key in names}
    if not hasattr(table, "items"):
        raise ValueError(
            f"{name} must be a dict or a DataFrame, so that its columns have names, "
            f"got {type(table).__name__}."
        )
    keys = [str(key) for key, _ in table.items()]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{name} has two columns that are called {key}.")
    return {str(key): column for key, column in table.items()}
