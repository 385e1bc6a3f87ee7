"""Conversion of labels, groups, batches and masks from what users pass to arrays.

NumPy would turn a missing label among strings into "nan", a number among strings into
"1", and nullable integers into float64: classes would appear or merge. Here the entries
are looked at before NumPy sees them. They may come in lists, arrays, masked arrays or
tensors, or as columns of pandas, polars and Arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from skdict._utils.types import Data

__all__ = [
    "as_labels",
    "as_mask",
    "encode",
    "equals",
    "is_missing",
    "join",
    "kind_of",
    "labels_or_missing",
]


def as_labels(values: Data, name: str, n_samples: int | None = None) -> np.ndarray:
    """Convert labels to an array of one kind; none may be missing.

    Parameters
    ----------
    values : array-like of shape (n_samples,) or (n_samples, 1)
        Booleans, whole numbers, strings, dates or time spans. Bytes are decoded.
    name : str
        Name of the parameter, for messages.
    n_samples : int, default=None
        Number of labels that there must be.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        Of dtype bool, int64, uint64 (if a number is 2**63 or more), str, datetime64 or
        timedelta64. Labels are equal if and only if they were equal before.

    Raises
    ------
    ValueError
        If labels are missing or infinite, fractional, of several kinds or of another
        type, or if their number is wrong.
    """
    column, missing = _column(values, name, n_samples)
    if missing.any():
        raise ValueError(
            f"{name} holds {missing.sum()} missing or infinite values of "
            f"{len(missing)}, the first of them at row {missing.argmax()}."
        )
    return _typed(column, name, fractions=False)


def labels_or_missing(
    values: Data, name: str, n_samples: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Convert labels as `as_labels` does, but accept missing and fractional ones.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        As from `as_labels`, or float64. The entry of a missing label means nothing.
    missing : ndarray of shape (n_samples,), bool
        Which labels are missing.
    """
    column, missing = _column(values, name, n_samples)
    known = _typed(column[~missing], name, fractions=True)
    labels = np.zeros(len(missing), known.dtype)
    labels[~missing] = known
    return labels, missing


def encode(
    values: Data, name: str, n_samples: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sort the distinct labels and number each sample by its label."""
    return np.unique(as_labels(values, name, n_samples), return_inverse=True)


def as_mask(values: Data, name: str, n_samples: int | None = None) -> np.ndarray:
    """Convert a mask of booleans, or of zeros and ones, to an array of bool."""
    column, missing = _column(values, name, None)
    if n_samples is not None and len(column) != n_samples:
        raise ValueError(
            f"There are {n_samples} rows, but {name} has length {len(column)}: a mask "
            "has an entry for each row. Indices of rows are not accepted, since "
            "splitters could not cut them to folds."
        )
    if column.dtype.kind in "biuf":
        wrong = missing | ((column != 0) & (column != 1))
    else:
        wrong = missing | [not _is_zero_or_one(entry) for entry in column.tolist()]
    if wrong.any():
        first = wrong.argmax()
        shown = "missing" if missing[first] else repr(_plain(column[first]))
        raise ValueError(
            f"{name} must be a boolean or 0/1 array with one entry per sample, but "
            f"{wrong.sum()} of {len(wrong)} entries are neither, the first of them "
            f"{shown} at row {first}."
        )
    return column.astype(bool)


def equals(labels: np.ndarray, label: Any, name: str) -> np.ndarray:
    """Mark the labels, as from `as_labels`, that equal one label.

    A label of another kind equals none, except that True equals 1 and that a date may
    be a string. `name` is that of the parameter, for messages.
    """
    if kind_of(labels) == "dates" and isinstance(label, str):
        try:
            label = np.datetime64(label)
        except ValueError:
            return np.zeros(len(labels), dtype=bool)
    wanted, missing = labels_or_missing([label], name)
    if missing.any():
        raise ValueError(f"{name}={label!r} is a missing value, which no label equals.")
    if _comparable(kind_of(labels)) != _comparable(kind_of(wanted)):
        return np.zeros(len(labels), dtype=bool)
    return labels == wanted[0]


def join(arrays: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Concatenate arrays of labels, as from `as_labels`, which must be of one kind."""
    arrays = [array for array in arrays if len(array)] or list(arrays[:1])
    kinds = sorted({kind_of(array) for array in arrays})
    if len(kinds) > 1:
        raise _mixed(name, kinds)
    if kinds[0] in ("booleans", "strings") or len({a.dtype for a in arrays}) == 1:
        return np.concatenate(arrays)
    # NumPy would make float64 of int64 with uint64, and would let dates overflow.
    return as_labels([x for array in arrays for x in array], name)


def kind_of(labels: np.ndarray) -> str:
    """Name the kind of labels in an array as from `as_labels`."""
    return _KIND_OF_DTYPE[labels.dtype.kind]


def is_missing(values: np.ndarray) -> np.ndarray:
    """Mark the entries that are NaN, infinite, None or otherwise missing."""
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype.kind != "O" or set(map(type, values)) <= {str, int, bool, bytes}:
        return np.zeros(len(values), dtype=bool)
    return np.fromiter(map(_is_missing_object, values), dtype=bool, count=len(values))


_KIND_OF_DTYPE = {
    "b": "booleans",
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "numbers",
    "U": "strings",
    "M": "dates",
    "m": "time spans",
}

# The order counts: timedelta64 is a subclass of np.integer, and bool of int.
_KIND_OF_TYPE = (
    ((np.timedelta64, timedelta), "time spans"),
    ((np.datetime64, date), "dates"),
    ((bool, np.bool_), "booleans"),
    ((int, np.integer, float, np.floating), "numbers"),
    (str, "strings"),
    (bytes, "bytes"),
)


def _comparable(kind: str) -> str:
    return "numbers" if kind in ("booleans", "whole numbers") else kind


# From containers to arrays


def _column(
    values: Data, name: str, n_samples: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Put the entries in an array, of objects if need be, and mark the missing ones."""
    array = _to_numpy(values, name)
    if array.dtype.names is not None:  # several columns in one
        raise _wrong_type(name, str(array.dtype))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.ravel()
    if array.ndim != 1:
        raise ValueError(
            f"{name} should be a 1d array of labels, got a {type(values).__name__} "
            f"of shape {tuple(getattr(values, 'shape', array.shape))}."
        )
    if n_samples is not None and len(array) != n_samples:
        raise ValueError(
            f"There are {n_samples} rows, but {name} has length {len(array)}."
        )
    hidden = np.ma.getmaskarray(array)
    array = np.asarray(array)
    # NumPy's strings of variable length may be missing, as objects may.
    dtype = object if array.dtype.kind == "T" else array.dtype.newbyteorder("=")
    array = array.astype(dtype, copy=False)
    return array, hidden | is_missing(array)


def _to_numpy(values: Any, name: str) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor of torch, on any device
        values = values.detach().cpu()
        try:
            return values.numpy()
        except TypeError:  # bfloat16
            return _objects(values.tolist())
    # `shape` first: a lazy frame of polars has none, and warns if asked for columns.
    if hasattr(values, "shape") and hasattr(values, "columns"):
        values = _only_column(values, name)
    if isinstance(values, np.ndarray):  # with its mask, if it has one
        return values
    if hasattr(values, "to_pylist"):  # Arrow
        return _objects(values.to_pylist())
    if hasattr(values, "null_count") and hasattr(values, "dtype"):  # polars
        return _of_polars(values, name)
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype):
        return np.asarray(values)
    if dtype is not None and hasattr(values, "__array__"):  # an extension of pandas
        return np.asarray(values, dtype=object)
    if dtype is not None and hasattr(values, "__dlpack__"):
        return np.from_dlpack(values, device="cpu")
    is_sequence = hasattr(values, "__len__") and hasattr(values, "__getitem__")
    if not is_sequence or isinstance(values, str | bytes | dict | type):
        raise ValueError(
            f"{name} must be a list or an array with one label for each row, got "
            f"{type(values).__name__}."
        )
    return _objects(values)


def _only_column(table: Any, name: str) -> Any:
    columns = list(table.columns)
    if len(columns) != 1:
        raise ValueError(
            f"{name} should be a 1d array of labels, got a {type(table).__name__} "
            f"with {len(columns)} columns: pass one of them."
        )
    if hasattr(table, "column_names"):  # Arrow has the columns themselves
        return columns[0]
    return table[columns[0]]


def _of_polars(series: Any, name: str) -> np.ndarray:
    if series.dtype.is_nested():
        raise _wrong_type(name, str(series.dtype))
    # As Python's dates, they would lose their nanoseconds.
    if series.dtype.is_temporal():
        return series.to_numpy()
    if series.dtype.is_numeric() and not series.null_count():
        try:
            return series.to_numpy()
        except Exception:  # NumPy has no integers of 128 bits
            return _objects(series.to_list())
    return _objects(series.to_list())


def _objects(values: Any) -> np.ndarray:
    """Put a sequence in an array of objects, into which NumPy does not look."""
    objects = np.fromiter(values, dtype=object, count=len(values))
    types = set(map(type, objects))
    if types and types <= {list, np.ndarray} and {*map(np.size, objects)} == {1}:
        return _objects([np.ravel(entry)[0] for entry in objects])  # one column
    if any(getattr(type_, "ndim", None) is not None for type_ in types):
        for i, entry in enumerate(objects):
            is_scalar = not isinstance(entry, np.generic)
            if is_scalar and getattr(entry, "ndim", None) == 0:  # a tensor's entries
                objects[i] = entry.item()
    return objects


def _is_missing_object(value: Any) -> bool:
    if value is None:
        return True
    try:
        if bool(value != value):  # NaN and NaT
            return True
        return isinstance(value, float | np.floating) and bool(np.isinf(value))
    except TypeError:  # pandas.NA has no truth value
        return True
    except ValueError:  # an array has none either
        return False


# From arrays to arrays of one kind


def _typed(column: np.ndarray, name: str, fractions: bool) -> np.ndarray:
    """Convert labels, none of which is missing, to an array of one kind."""
    kind = column.dtype.kind
    if kind == "O":
        return _from_objects(column, name, fractions)
    if kind == "f":
        if fractions:
            return column.astype(np.float64, copy=False)
        _check_whole(column, name)
        return _whole_numbers(column, name)
    if kind in "iu":
        return _whole_numbers(column, name)
    if kind == "S":
        distinct, ids = np.unique(column, return_inverse=True)
        return np.array(_decode(distinct.tolist(), name), dtype=str)[ids]
    if kind not in "bUMm":
        raise _wrong_type(name, str(column.dtype))
    return column


def _from_objects(objects: np.ndarray, name: str, fractions: bool) -> np.ndarray:
    types = set(map(type, objects))
    kinds: dict[str, str] = {}
    for type_ in sorted(types, key=lambda type_: type_.__name__):
        kind = next((k for t, k in _KIND_OF_TYPE if issubclass(type_, t)), None)
        if kind is None:
            raise _wrong_type(name, type_.__name__)
        kinds.setdefault(kind, type_.__name__)
    if len(kinds) > 1:
        raise _mixed(name, [*kinds.values()])
    # Each distinct label is converted once, because few labels stand for many rows.
    places: dict[object, int] = {}
    ids = np.fromiter(
        (places.setdefault(x, len(places)) for x in objects), np.intp, len(objects)
    )
    return _from_distinct([*places], next(iter(kinds), None), name, fractions)[ids]


def _from_distinct(
    labels: list, kind: str | None, name: str, fractions: bool
) -> np.ndarray:
    if kind == "booleans":
        return np.array(labels, dtype=bool)
    if kind == "numbers":
        floats = [x for x in labels if isinstance(x, float | np.floating)]
        if fractions and not all(x == np.floor(x) for x in floats):
            return np.array(labels, dtype=np.float64)
        _check_whole(np.array(floats), name)
        return _whole_numbers(labels, name)
    if kind == "dates":
        if len({getattr(x, "tzinfo", None) is None for x in labels}) > 1:
            raise _mixed(name, ["dates with a time zone", "dates without one"])
        return _in_one_unit([*map(_as_datetime64, labels)], "M8[D]", name)
    if kind == "time spans":
        return _in_one_unit([*map(_as_timedelta64, labels)], "m8[D]", name)
    if kind == "bytes":
        labels = _decode(labels, name)
    if any(x.endswith("\0") for x in labels):
        raise ValueError(
            f"{name} holds strings that end with a null character, which NumPy drops."
        )
    # The text itself: subclasses such as enumerations define `str` in another way.
    return np.array([str.__str__(x) for x in labels], dtype=str)


def _whole_numbers(numbers: np.ndarray | list, name: str) -> np.ndarray:
    """Convert whole numbers to int64, or to uint64 if only that holds them all."""
    low = high = 0
    if isinstance(numbers, np.ndarray) and len(numbers):
        low, high = int(numbers.min()), int(numbers.max())
    elif len(numbers):
        low, high = int(min(numbers)), int(max(numbers))
    for dtype in (np.int64, np.uint64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            if isinstance(numbers, np.ndarray):
                return numbers.astype(dtype, copy=False)
            return np.array([int(x) for x in numbers], dtype=dtype)
    raise ValueError(
        f"{name} holds whole numbers from {low} to {high}, which do not fit in 64 "
        "bits: pass them as strings."
    )


def _check_whole(numbers: np.ndarray, name: str) -> None:
    if (numbers != np.floor(numbers)).any():
        raise ValueError(
            f"{name} holds fractional numbers, but class labels are needed: cut a "
            "continuous quantity into classes first, or pass the numbers as strings."
        )


def _decode(labels: Iterable[bytes], name: str) -> list[str]:
    try:
        return [x.decode() for x in labels]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} holds bytes that are no text in UTF-8: {error}."
        ) from error


def _as_datetime64(value: Any) -> np.datetime64:
    if isinstance(value, np.datetime64):
        return value
    if hasattr(value, "to_datetime64"):  # of pandas, with nanoseconds, in UTC
        return value.to_datetime64()
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return np.datetime64(value, "us")
    return np.datetime64(value, "D")


def _as_timedelta64(value: Any) -> np.timedelta64:
    if isinstance(value, np.timedelta64):
        return value
    if hasattr(value, "to_timedelta64"):
        return value.to_timedelta64()
    return np.timedelta64(value, "us")


def _in_one_unit(values: list, days: str, name: str) -> np.ndarray:
    array = np.array(values)
    # Dates that are too far apart for the finest of their units overflow in NumPy.
    if (
        array.dtype.kind == "O"
        or (
            array.astype(days) != np.array([value.astype(days) for value in values])
        ).any()
    ):
        raise ValueError(
            f"{name} holds dates or time spans that have no unit of time in common: "
            "pass them as strings."
        )
    return array


def _is_zero_or_one(value: Any) -> bool:
    numbers = bool | np.bool_ | int | np.integer | float | np.floating
    return isinstance(value, numbers) and value in (0, 1)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _mixed(name: str, kinds: Iterable[str]) -> ValueError:
    return ValueError(
        f"{name} mixes labels of types that cannot be compared, {' and '.join(kinds)}: "
        "make all of them strings, for instance."
    )


def _wrong_type(name: str, type_name: str) -> ValueError:
    return ValueError(
        f"{name} holds labels of type {type_name}. Labels are booleans, whole numbers, "
        "strings, dates or time spans: pass others as strings."
    )
