"""Conditions on one column of metadata, and the best one for each of many features."""

from __future__ import annotations

from keyword import iskeyword
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skdict._utils.labels import kind_of, labels_or_missing
from skdict._utils.types import Data

# Columns of numbers with more distinct values are cut at quantiles.
_MAX_BINS = 32


class Column(NamedTuple):
    """A column whose rows have been put into bins.

    Parameters
    ----------
    name : str
    bins : ndarray of shape (n_samples,)
        Bin of each row. Numbers and dates are in their order; the last bin holds the
        missing values, if there are any.
    values : ndarray
        Value of each bin but that of missing values: the level, or the largest number.
    ordered : bool
        Whether the values are numbers or dates.
    has_missing : bool
    above : ndarray
        Of numbers and dates, the smallest one that is larger than each value but the
        last.
    """

    name: str
    bins: np.ndarray
    values: np.ndarray
    ordered: bool
    has_missing: bool
    above: np.ndarray

    @property
    def n_bins(self) -> int:
        """Number of bins, with that of missing values."""
        return len(self.values) + self.has_missing


def make_column(name: str, values: Data, n_samples: int) -> Column:
    """Put the values of a column into bins."""
    labels, missing = labels_or_missing(values, f"metadata[{name!r}]", n_samples)
    if missing.any():
        absent = np.asarray(values, dtype=object).ravel()[missing]
        if any(isinstance(x, float | np.floating) and np.isinf(x) for x in absent):
            raise ValueError(
                f"metadata[{name!r}] holds infinite numbers: no rule can name them."
            )
    distinct = every = np.unique(labels[~missing])
    ordered = kind_of(labels) not in ("booleans", "strings")
    if ordered and len(distinct) > _MAX_BINS:
        # Quantiles of the rows, so that no bin is nearly empty.
        known = np.sort(labels[~missing])
        places = np.linspace(0, len(known) - 1, _MAX_BINS + 1)[1:].round().astype(int)
        distinct = np.unique(known[places])
    bins = np.where(missing, len(distinct), np.searchsorted(distinct, labels))
    above = every[np.searchsorted(every, distinct[:-1]) + 1]
    return Column(name, bins, distinct, ordered, bool(missing.any()), above)


def best_condition(
    excess: np.ndarray, column: Column, min_excess: np.ndarray, max_values: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the set of bins with the largest excess that one condition can select.

    Parameters
    ----------
    excess : ndarray of shape (n_bins, n_features)
        Active rows of each bin, less the number expected at the feature's rate.
    column : Column
    min_excess : ndarray of shape (n_features,)
        Excess that a further level of a category must add.
    max_values : int
        Largest number of levels that a condition names.

    Returns
    -------
    best : ndarray of shape (n_features,)
        The excess of the set; -inf if the column has a single bin.
    members : ndarray of shape (n_bins, n_features), bool
        The set.
    """
    n_bins, n_features = excess.shape
    if n_bins < 2:
        return np.full(n_features, -np.inf), np.zeros(excess.shape, bool)
    choose = _best_of_ordered if column.ordered else _best_of_levels
    return choose(excess, column, min_excess, max_values)


def _best_of_ordered(
    excess: np.ndarray, column: Column, min_excess: np.ndarray, max_values: int
) -> tuple[np.ndarray, np.ndarray]:
    n_known, n_features = len(column.values), excess.shape[1]
    up_to = np.cumsum(excess[:n_known], axis=0)
    all_known = up_to[-1]
    scores = [up_to[:-1], all_known - up_to[:-1]]
    if column.has_missing:
        scores += [excess[n_known:], all_known[None]]
    table = np.concatenate(scores)
    which, features = table.argmax(axis=0), np.arange(n_features)
    bins = np.arange(len(excess))[:, None]
    n_cuts = n_known - 1
    members = np.where(
        which < n_cuts, bins <= which, (bins > which - n_cuts) & (bins < n_known)
    )
    members = np.where(which == 2 * n_cuts, bins >= n_known, members)
    members = np.where(which == 2 * n_cuts + 1, bins < n_known, members)
    return table[which, features], members


def _best_of_levels(
    excess: np.ndarray, column: Column, min_excess: np.ndarray, max_values: int
) -> tuple[np.ndarray, np.ndarray]:
    # The set with the largest excess holds the levels with the largest excess each; the
    # best set without some levels lacks those with the smallest.
    (best, named), (of_rest, left_out) = (
        _take_largest(signed, min_excess, max_values) for signed in (excess, -excess)
    )
    # Leaving out levels of total excess -x leaves x more than that of all levels.
    of_rest += excess.sum(axis=0)
    better = of_rest > best
    return np.where(better, of_rest, best), np.where(better, ~left_out, named)


def _take_largest(
    excess: np.ndarray, min_excess: np.ndarray, max_values: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take the largest entries of each column: one, and those that add enough."""
    n_most = min(max_values, len(excess) - 1)
    largest = np.argpartition(-excess, n_most - 1, axis=0)[:n_most]
    values = np.take_along_axis(excess, largest, axis=0)
    order = np.argsort(-values, axis=0, kind="stable")
    largest = np.take_along_axis(largest, order, axis=0)
    values = np.take_along_axis(values, order, axis=0)
    taken = values >= np.maximum(min_excess, 0)
    taken[0] = True
    members = np.zeros(excess.shape, bool)
    np.put_along_axis(members, largest, taken, axis=0)
    return np.where(taken, values, 0).sum(axis=0), members


def write_condition(column: Column, members: np.ndarray) -> str:
    """Write a set of bins as an expression of ``DataFrame.query``."""
    name = _quoted(column.name)
    n_known = len(column.values)
    known, missing = members[:n_known], bool(members[n_known:].any())
    if not known.any():
        return f"{name}.isna()"
    if known.all() and not missing:
        return f"{name}.notna()"
    if column.ordered:
        sign, last = ("<=", known) if known[0] else (">", ~known)
        place = np.flatnonzero(last)[-1]
        return f"{name} {sign} {_threshold(column.values[place], column.above[place])}"
    inside, outside = column.values[known], column.values[~known]
    # Missing values differ from every level, so that "not in" holds for them.
    if len(outside) < len(inside):
        others = _among(name, outside, negated=True)
        return (
            f"({name}.notna() and {others})" if column.has_missing > missing else others
        )
    same = _among(name, inside, negated=False)
    return f"({name}.isna() or {same})" if missing else same


def can_be_queried(name: str) -> bool:
    """Whether ``DataFrame.query`` finds a column of this name.

    pandas fails for some characters. It does not find identifiers that Python changes,
    such as those with the sign for micro, and takes ``inf`` for the number.
    """
    quoted = _quoted(name)
    rule = " and ".join([f"{quoted} == 'b'", f'{quoted} != "\'"', f"{quoted} != '\"`'"])
    try:
        found = pd.DataFrame({name: ["a", "b"]}).query(rule, engine="python")
    except Exception:  # there are many kinds, none of which is documented
        return False
    return found.index.tolist() == [1]


def _quoted(name: str) -> str:
    return name if name.isidentifier() and not iskeyword(name) else f"`{name}`"


def _among(name: str, values: np.ndarray, negated: bool) -> str:
    shown = [_shown(value) for value in values]
    if len(shown) == 1:
        return f"{name} {'!=' if negated else '=='} {shown[0]}"
    return f"{name} {'not in' if negated else 'in'} [{', '.join(shown)}]"


def _threshold(value: Any, above: Any) -> str:
    """Write the shortest number from ``value`` to below ``above``."""
    if isinstance(value, np.floating):
        for digits in range(1, 17):
            text = f"{value:.{digits}g}"
            if value <= float(text) < above:
                return text
    return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, np.datetime64 | np.timedelta64):
        return repr(str(value))
    return repr(value.item())
