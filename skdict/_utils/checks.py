"""Numbers that users pass in: as native arrays, and finite."""

from __future__ import annotations

import re
from contextlib import contextmanager

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_array as _check_array

from skdict._utils.arrays import row_blocks
from skdict._utils.sklearn_private import get_namespace, move_to

__all__ = [
    "as_floats",
    "as_numpy",
    "check_array",
    "check_finite",
    "check_floats",
    "check_numbers",
    "on_host",
    "readable",
    "refuse_sparse_frames",
]


def readable(X):
    """Detach a tensor and widen bfloat16, which numpy cannot read.

    Anything that is no tensor comes back as it is. So does a tensor in float32 or
    float64, on its device.
    """
    if not hasattr(X, "detach"):
        return X
    X = X.detach()
    half = X.dtype.is_floating_point and X.dtype.itemsize < 4
    return X.float() if half else X


def on_host(X):
    """Bring a tensor to numpy from wherever it lives; all else comes back as it is."""
    return readable(X).cpu().numpy() if hasattr(X, "detach") else X


def as_numpy(array) -> np.ndarray:
    """The array in numpy, wherever it lives."""
    array = on_host(array)
    if hasattr(array, "__array_namespace__") and not isinstance(array, np.ndarray):
        array = move_to(array, xp=np, device="cpu")
    return np.asarray(array)


def as_floats(X):
    """Native float32 or float64, with every digit that the input has there.

    Parameters
    ----------
    X : array or sparse matrix of numbers
        As `check_array` returns it with ``dtype="numeric"``.

    Returns
    -------
    X : array or sparse matrix
        float16, integers and booleans become float32; long double and objects float64;
        and float32 and float64 in foreign byte order native.

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
def refuse_sparse_frames(name):
    """Name the parameter where scikit-learn cannot read a frame of sparse columns.

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


def check_array(X, *, input_name="", **kwargs):
    """scikit-learn's check, whose every message names the parameter."""
    try:
        with refuse_sparse_frames(input_name):
            return _check_array(X, input_name=input_name, **kwargs)
    except (TypeError, ValueError) as error:
        if re.search(rf"\b{re.escape(input_name)}\b", str(error)):
            raise
        # What follows the first line prints the array.
        reason = str(error).partition("\n")[0].rstrip(":.")
        raise ValueError(f"{input_name}: {reason}.") from error


def check_floats(X, **kwargs):
    """`check_array` for a table of numbers, which become native floats.

    A list of dtypes would not do: `check_array` takes its first entry for everything
    that has no dtype of its own or none in the list, and float64 would lose digits.
    """
    return as_floats(check_array(readable(X), dtype="numeric", **kwargs))


def check_numbers(X, *, dtype="numeric", **kwargs):
    """`check_array` for what metrics read: in numpy, integers left as they are.

    Tensors are brought to numpy from wherever they live.
    """
    X = check_array(on_host(X), dtype=dtype, **kwargs)
    return X if X.dtype.kind in "biu" else as_floats(X)


def check_finite(X, name: str, problem: str = "holds NaN or infinity") -> None:
    """Raise a ValueError that counts the rows with NaN or infinity.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_rows, n_columns)
        Numbers, in any namespace and on any device.
    name : str
        Name of the table, with which the message begins.
    problem : str, default="holds NaN or infinity"
        What the message says of the table before it counts the rows.

    Raises
    ------
    ValueError
        With the number of rows that hold NaN or infinity, and the first of them.
    """
    entries = X.data if sp.issparse(X) else X
    xp, _ = get_namespace(entries)
    # A finite sum proves that all entries are finite; a sum that is not may only have
    # overflowed.
    with np.errstate(over="ignore", invalid="ignore"):
        if bool(xp.isfinite(xp.sum(entries))):
            return
    bad = _rows_not_finite(X, xp)
    if len(bad):
        raise ValueError(
            f"{name} {problem} in {len(bad)} of {X.shape[0]} rows, the first of them "
            f"row {bad[0]}."
        )


def _rows_not_finite(X, xp) -> np.ndarray:
    if sp.issparse(X):
        entries = X.tocoo()
        return np.unique(entries.coords[0][~np.isfinite(entries.data)])
    # In blocks, so that no boolean array as large as X stands beside it.
    bad = [~as_numpy(xp.all(xp.isfinite(X[b, :]), axis=1)) for b in row_blocks(X)]
    return np.flatnonzero(np.concatenate(bad))
