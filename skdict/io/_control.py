"""Which rows are controls, by a rule about the columns of the metadata."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from skdict._utils.warn import warn

__all__ = ["Rule", "control_mask", "some"]

Rule: TypeAlias = Mapping[str, Any] | str | Callable[[pd.DataFrame], Any] | None

_SHOWN = 8
# Texts that pandas reads as missing from a CSV file although they may be meant.
_READ_AS_MISSING = ("NA", "N/A", "None", "nan", "NaN", "null", "NULL", "n/a")


def some(values: Iterable[Any]) -> str:
    """List the first of some values, in the form in which a user would type them."""
    values = list(values)
    shown = ", ".join(
        repr(getattr(v, "item", lambda v=v: v)()) for v in values[:_SHOWN]
    )
    return f"{shown}, ..." if len(values) > _SHOWN else shown


def control_mask(metadata: pd.DataFrame, rule: Rule) -> np.ndarray | None:
    """Apply a rule to the metadata, and refuse one that finds no controls.

    Parameters
    ----------
    metadata : DataFrame of n_rows rows
        What is known about the rows.

    rule : dict, str, callable or None
        As `read_profiles` explains it.

    Returns
    -------
    control : ndarray of shape (n_rows,), bool, or None
        None if there is no rule.
    """
    if rule is None:
        return None
    if isinstance(rule, str):
        mask = _by_query(metadata, rule)
    elif isinstance(rule, Mapping):
        mask = _by_values(metadata, rule)
    else:
        mask = _as_mask(rule(metadata), metadata, "The function given as control")
        if not mask.any():
            raise ValueError(
                f"The function given as control finds none among {len(metadata)} rows."
            )
    return mask


def _by_values(metadata: pd.DataFrame, rule: Mapping[str, Any]) -> np.ndarray:
    if not rule:
        raise ValueError("control={} names no column.")
    found = {name: _matches(metadata, name, wanted) for name, wanted in rule.items()}
    _warn_of_missing(metadata, list(rule))
    mask = np.logical_and.reduce(list(found.values()))
    if not mask.any():
        empty = [name for name, one in found.items() if not one.any()]
        raise ValueError(
            f"control={dict(rule)!r} matches none of the {len(metadata)} rows. "
            + (
                " ".join(_what_is_there(metadata, n, rule[n]) for n in empty)
                if empty
                else "Each column has such rows, but no row has all of these values."
            )
        )
    return mask


def _matches(metadata: pd.DataFrame, name: str, wanted: Any) -> np.ndarray:
    column = _column(metadata, name)
    values = _as_values(wanted)
    if not values:
        raise ValueError(f"control names no values of {name!r}.")
    if any(pd.isna(value) for value in values):
        raise ValueError(
            f"control={{{name!r}: {wanted!r}}} asks for a missing value, and rows "
            "with missing values do not count as controls. If they are to count, say "
            f"so with a function: control=lambda table: table[{name!r}].isna()."
        )
    mask = column.isin(values).to_numpy(dtype=bool, na_value=False)
    absent = [v for v in values if not column.isin([v]).any()]
    if absent and len(absent) < len(values):
        warn(f"No row has {some(absent)} in the column {name!r} that control names.")
    return mask


def _as_values(wanted: Any) -> list[Any]:
    if isinstance(wanted, str | bytes) or not isinstance(wanted, Iterable):
        return [wanted]
    return list(wanted)


def _column(metadata: pd.DataFrame, name: str) -> pd.Series:
    if name not in metadata.columns:
        raise ValueError(
            f"control names the column {name!r}, which the metadata lack. There are "
            f"{len(metadata.columns)}: {some(metadata.columns)}."
        )
    column = metadata[name]
    if isinstance(column, pd.DataFrame):
        raise ValueError(f"control names {name!r}, which several columns are called.")
    return column


def _what_is_there(metadata: pd.DataFrame, name: str, wanted: Any) -> str:
    counts = metadata[name].value_counts()
    counts = counts[counts > 0]
    shown = ", ".join(f"{some([v])} ({n})" for v, n in counts.iloc[:_SHOWN].items())
    more = ", ..." if len(counts) > _SHOWN else ""
    missing = int(metadata[name].isna().sum())
    text = f"The column {name!r} ({metadata[name].dtype}) holds "
    text += f"{len(counts)} different values: {shown}{more}" if len(counts) else "none"
    text += f", and {missing} missing ones." if missing else "."
    misread = [v for v in _as_values(wanted) if v in _READ_AS_MISSING]
    if missing and misread:
        text += f" From a CSV file, {some(misread)} is read as missing."
    return text


def _by_query(metadata: pd.DataFrame, query: str) -> np.ndarray:
    try:
        result = metadata.eval(query, engine="python")
    except Exception as error:
        raise ValueError(
            f"control={query!r} cannot be evaluated as a query ({error}). The metadata "
            f"have {len(metadata.columns)} columns: {some(metadata.columns)}."
        ) from error
    mask = _as_mask(result, metadata, f"control={query!r}", warns=False)
    names = _names_in(query, metadata)
    mask &= ~_warn_of_missing(metadata, names)
    if not mask.any():
        raise ValueError(
            f"control={query!r} matches none of the {len(metadata)} rows. "
            + " ".join(_what_is_there(metadata, name, None) for name in names)
        )
    return mask


def _names_in(query: str, metadata: pd.DataFrame) -> list[str]:
    """Find the columns that a query names, outside its quoted texts."""
    code = re.sub(r"'[^']*'|\"[^\"]*\"", "", query)
    quoted = re.findall("`([^`]*)`", code)
    plain = re.findall(r"(?<![\w.@])[^\W\d]\w*", re.sub("`[^`]*`", "", code))
    return [n for n in dict.fromkeys([*quoted, *plain]) if n in metadata.columns]


def _warn_of_missing(metadata: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Say in how many rows a column of the rule has no value, and mark these rows."""
    missing = np.zeros(len(metadata), dtype=bool)
    for name in names:
        lacks = metadata[name].isna().to_numpy(dtype=bool)
        missing |= lacks
        if lacks.any():
            warn(
                f"{lacks.sum()} of {len(lacks)} rows have no value in the column "
                f"{name!r} that control names: they do not count as controls."
            )
    return missing


def _as_mask(
    result: Any, metadata: pd.DataFrame, what: str, warns: bool = True
) -> np.ndarray:
    array = pd.array(result) if isinstance(result, list) else result
    series = pd.Series(getattr(array, "array", array)) if np.ndim(array) == 1 else None
    if series is None or len(series) != len(metadata):
        raise ValueError(
            f"{what} gives {_shape(result)}, not one truth value for each of the "
            f"{len(metadata)} rows."
        )
    missing = series.isna().to_numpy(dtype=bool)
    known = series[~missing]
    if not (pd.api.types.is_bool_dtype(known.dtype) or known.isin([True, False]).all()):
        raise ValueError(f"{what} gives {series.dtype}, not truth values.")
    if warns and missing.any():
        warn(
            f"{what} gives no truth value for {missing.sum()} of {len(missing)} rows: "
            "they do not count as controls."
        )
    mask = np.zeros(len(series), dtype=bool)
    mask[~missing] = known.astype(bool).to_numpy()
    return mask


def _shape(result: Any) -> str:
    shape = np.shape(result)
    return f"an array of shape {shape}" if shape else f"a {type(result).__name__}"
