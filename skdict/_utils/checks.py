"""Checks of numbers that users pass in, and their conversion to native arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array as _check_array

from skdict._utils.arrays import row_blocks
from skdict._utils.sklearn_private import get_namespace, move_to
from skdict._utils.types import AnyArray, Data

__all__ = [
    "as_floats",
    "as_numpy",
    "check_array",
    "check_finite",
    "check_floats",
    "check_folds",
    "check_numbers",
    "on_host",
    "readable",
    "refuse_sparse_frames",
    "rows_not_finite",
]


def readable(X: Data) -> Any:
    """Detach a tensor, and make float32 of half precision: numpy lacks bfloat16.

    Anything else comes back as it is. The device stays.
    """
    if not hasattr(X, "detach"):
        return X
    X = X.detach()
    half = X.dtype.is_floating_point and X.dtype.itemsize < 4
    return X.float() if half else X


def on_host(X: Data) -> Any:
    """Bring a tensor to numpy from any device; anything else comes back as it is."""
    return readable(X).cpu().numpy() if hasattr(X, "detach") else X


def as_numpy(array: Data) -> np.ndarray:
    """Bring an array to numpy from any namespace and device."""
    array = on_host(array)
    if hasattr(array, "__array_namespace__") and not isinstance(array, np.ndarray):
        array = move_to(array, xp=np, device="cpu")
    return np.asarray(array)


def as_floats(X: AnyArray) -> AnyArray:
    """Convert numbers to native float32 or float64.

    Parameters
    ----------
    X : array or sparse matrix of numbers
        As `check_array` returns it with ``dtype="numeric"``.

    Returns
    -------
    X : array or sparse matrix
        float16, integers and booleans become float32; long double and objects become
        float64. float32 and float64 stay, in native byte order.

    Raises
    ------
    ValueError
        If the entries are no numbers, for instance dates.
    """
    xp, _ = get_namespace(X)
    if X.dtype in (xp.float32, xp.float64):
        return X
    kind = getattr(X.dtype, "kind", "i")  # only numpy has floats of other widths
    if kind not in "biufO":
        raise ValueError(f"Numbers are needed, but the entries are {X.dtype}.")
    # Objects are what numpy makes of a list of fractions or decimals.
    is_wide = kind == "O" or (kind == "f" and X.dtype.itemsize > 4)
    dtype = xp.float64 if is_wide else xp.float32
    with np.errstate(over="ignore"):  # a check for infinity follows
        return X.astype(dtype) if sp.issparse(X) else xp.astype(X, dtype)


@contextmanager
def refuse_sparse_frames(name: str) -> Iterator[None]:
    """Say which parameter is a frame of sparse columns that scikit-learn cannot read.

    The message of pandas is about a conversion that the user did not ask for.
    """
    try:
        yield
    except ValueError as error:
        if "fill value must be 0" not in str(error):
            raise
        raise ValueError(
            f"{name} is a frame of sparse columns whose fill value is not 0: pass "
            "frame.sparse.to_dense() instead."
        ) from error


def check_array(X: Data, *, input_name: str = "", **kwargs: Any) -> AnyArray:
    """Call scikit-learn's check, with the name of the parameter in every message."""
    try:
        with refuse_sparse_frames(input_name):
            return _check_array(X, input_name=input_name, **kwargs)
    except (TypeError, ValueError) as error:
        if re.search(rf"\b{re.escape(input_name)}\b", str(error)):
            raise
        # Later lines would print the array.
        reason = str(error).partition("\n")[0].rstrip(":.")
        raise ValueError(f"{input_name}: {reason}.") from error


def check_floats(X: Data, **kwargs: Any) -> AnyArray:
    """Call `check_array` for a table of numbers, and make native floats of them.

    A list of dtypes would not do: `check_array` converts whatever has no dtype, or one
    that is not in the list, to the first of them. Digits of float64 would get lost.
    """
    return as_floats(check_array(readable(X), dtype="numeric", **kwargs))


def check_numbers(X: Data, *, dtype: Any = "numeric", **kwargs: Any) -> AnyArray:
    """Call `check_array` for what metrics read: numpy arrays, in which integers stay.

    Tensors are brought to numpy from any device.
    """
    X = check_array(on_host(X), dtype=dtype, **kwargs)
    return X if X.dtype.kind in "biu" else as_floats(X)


def check_folds(
    folds: Iterable[tuple[Data, Data]], n_samples: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """List folds as pairs of indices from 0.

    Parameters
    ----------
    folds : iterable of (train, test)
        Indices of rows, which may count from the end, or masks of them.
    n_samples : int
        Number of rows.

    Raises
    ------
    ValueError
        If there are no folds, or if one names rows that do not exist.
    """

    def indices(side: Data, i: int) -> np.ndarray:
        rows = np.asarray(side)
        if rows.dtype == bool and rows.shape == (n_samples,):
            return np.flatnonzero(rows)
        if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
            raise ValueError(
                f"Fold {i} of cv holds neither indices of rows nor masks of all "
                f"{n_samples} rows, but an array of {rows.dtype} of shape {rows.shape}."
            )
        wrong = rows[(rows < -n_samples) | (rows >= n_samples)]
        if len(wrong):
            raise ValueError(
                f"Fold {i} of cv names row {wrong[0]}, but there are {n_samples} rows."
            )
        return np.where(rows < 0, rows + n_samples, rows).astype(np.intp)

    listed = [tuple(indices(side, i) for side in fold) for i, fold in enumerate(folds)]
    if not listed or any(len(fold) != 2 for fold in listed):
        raise ValueError(
            "cv must give at least one pair (train, test). An iterator can be used "
            "only once: pass a list."
        )
    return [(train, test) for train, test in listed]


def check_finite(
    X: AnyArray, name: str, problem: str = "holds NaN or infinity"
) -> None:
    """Raise a ValueError that counts the rows with NaN or infinity.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_rows, n_columns)
        Numbers, in any namespace and on any device.
    name : str
        Name of the table, with which the message begins.
    problem : str, default="holds NaN or infinity"
        What the message says about the table before it counts the rows.

    Raises
    ------
    ValueError
        With the number of rows that hold NaN or infinity, and the first of them.
    """
    bad = rows_not_finite(X)
    if len(bad):
        raise ValueError(
            f"{name} {problem} in {len(bad)} of {X.shape[0]} rows, the first of them "
            f"row {bad[0]}."
        )


def rows_not_finite(X: AnyArray) -> np.ndarray:
    """Find the rows that hold NaN or infinity."""
    entries = X.data if sp.issparse(X) else X
    xp, _ = get_namespace(entries)
    # A finite sum proves that all entries are finite; a sum that is not may only have
    # overflowed.
    with np.errstate(over="ignore", invalid="ignore"):
        if bool(xp.isfinite(xp.sum(entries))):
            return np.empty(0, dtype=np.int64)
    if sp.issparse(X):
        entries = X.tocoo()
        return np.unique(entries.coords[0][~np.isfinite(entries.data)])
    # In blocks, so that no boolean array as large as X stands beside it.
    bad = [~as_numpy(xp.all(xp.isfinite(X[b, :]), axis=1)) for b in row_blocks(X)]
    return np.flatnonzero(np.concatenate(bad))
