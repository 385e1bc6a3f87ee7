"""Labels and groups as numbers."""

import numpy as np

from skdict._utils.labels import as_mask, encode, labels_or_missing
from skdict._utils.warn import warn


def encode_classes(y, n_samples):
    """Sort the classes and number each sample by its class."""
    classes, labels = encode(y, "y", n_samples)
    if len(classes) < 2:
        raise ValueError(
            "Selectivity compares a class with the others, so y needs at least two "
            f"classes; it holds only {classes[0]}."
        )
    return classes, labels


def encode_groups(groups, labels, control=None):
    """Number the groups inside which labels may be permuted; None for all samples.

    Control samples are groups of their own: their labels are exchanged among
    themselves only. Called by public functions directly, for the warning's sake.
    """
    if groups is None and control is None:
        return None
    group_ids = np.zeros(len(labels), dtype=np.intp)
    if groups is not None:
        group_ids = encode(groups, "groups", len(labels))[1]
    if control is not None:
        group_ids = cross(group_ids, as_mask(control, "control", len(labels)))
    if not can_permute(labels, group_ids):
        warn(
            "No group holds samples of two classes: permuting y inside the groups "
            "changes nothing, so nothing is tested.",
        )
    return group_ids


def encode_units(units, n_samples, shared):
    """Number the units whose labels are exchanged as a whole; None for single samples.

    Parameters
    ----------
    units : array-like of shape (n_samples,) or None
        Unit of each sample.
    n_samples : int
        Number of samples.
    shared : dict of array-like of shape (n_samples,)
        What must be the same for all samples of a unit, by name; None is left out.

    Returns
    -------
    unit_ids : ndarray of shape (n_samples,) or None
        Units by number, in the order in which they occur: units of one sample are
        permuted as the samples themselves.
    """
    if units is None:
        return None
    names, ids = encode(units, "units", n_samples)
    for name, column in shared.items():
        if column is not None:
            _check_shared(names, ids, name, column)
    if len(names) == n_samples:
        return None
    first = np.unique(ids, return_index=True)[1]
    return np.argsort(np.argsort(first))[ids]


def _check_shared(names, ids, name, column):
    # Targets are numbers, also fractional ones; nothing is missing where all the rest
    # was checked.
    if name == "control":
        column = as_mask(column, name, len(ids))
    values, value_ids = np.unique(
        labels_or_missing(column, name)[0], return_inverse=True
    )
    unit_of_pair, value_of_pair = np.divmod(
        np.unique(ids * len(values) + value_ids), len(values)
    )
    mixed = np.flatnonzero(np.bincount(unit_of_pair) > 1)
    if mixed.size:
        own = values[value_of_pair[unit_of_pair == mixed[0]]].tolist()
        listed = ", ".join(map(str, own[:5])) + (", ..." if len(own) > 5 else "")
        raise ValueError(
            f"{name} differs inside {mixed.size} of {len(names)} units, the first of "
            f"them {names[mixed[0]]} with {listed}. A unit is exchanged as a whole, so "
            f"that all of its samples must share {name}."
        )


def can_permute(labels, group_ids) -> bool:
    """Whether any group holds samples of two classes."""
    return bool(exchanged_classes(labels, group_ids).any())


def exchanged_classes(labels, group_ids):
    """Which classes share a group with another, so that permutation moves them."""
    n_classes = labels.max() + 1
    if group_ids is None:
        return np.full(n_classes, n_classes > 1)
    groups, classes = np.divmod(np.unique(group_ids * n_classes + labels), n_classes)
    shared = np.bincount(groups)[groups] > 1
    exchanged = np.zeros(n_classes, dtype=bool)
    exchanged[classes[shared]] = True
    return exchanged


def cross(first, second):
    """Number the combinations of two numberings that occur."""
    pairs = first * (second.max() + 1) + second
    return np.unique(pairs, return_inverse=True)[1]


def named_columns(table, name):
    """A dict or DataFrame of columns as a dict, whose keys are strings."""
    if table is None:
        return {}
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
