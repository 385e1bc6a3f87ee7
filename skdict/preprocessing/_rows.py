"""Rows in, rows out: what the estimators with control statistics share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from skdict._utils.arrays import blocks
from skdict._utils.checks import check_finite, check_floats
from skdict._utils.sklearn_private import (
    check_same_namespace,
    get_namespace,
    get_namespace_and_device,
    max_precision_float_dtype,
)
from skdict._utils.types import AnyArray, Data

__all__ = ["Home", "check_transformed", "map_blocks", "place_in", "storage_eps"]

# Namespace and device in which an array lives.
Home: TypeAlias = tuple[Any, Any]

# Number of entries of the blocks of rows that are transformed. Whitening 200,000 x 1024
# rows takes 1.12 times as long as one product of all; 1.26 times with half as many
# entries, 1.28 times with twice as many.
_BLOCK_ENTRIES = 2**23


def storage_eps(X: Data) -> float:
    """Resolution of an array or a frame in half precision; 0 for anything else.

    Validation turns half precision into float32, and other dtypes show theirs later.
    """
    dtypes = list(X.dtypes) if hasattr(X, "dtypes") else [getattr(X, "dtype", "")]
    names = (str(dtype).rpartition(".")[2].lower() for dtype in dtypes)
    return min((_HALF_EPS.get(name, 0.0) for name in names), default=0.0)


_HALF_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def place_in(tensor: Tensor, *, home: Home) -> AnyArray:
    """Copy a tensor of float64 to an array of a namespace on a device.

    Parameters
    ----------
    tensor : Tensor
        On the CPU.
    home : tuple (namespace, device)
        Where the copy is to live. It gets the most precise dtype that the device has.

    Returns
    -------
    array
    """
    xp, device = home
    array = np.array(tensor.numpy(), order="C")
    if xp.__name__ == get_namespace(array)[0].__name__:
        return array
    dtype = max_precision_float_dtype(xp, device)
    return xp.asarray(array, dtype=dtype, device=device)


def check_transformed(
    estimator: Any, X: Data, *, attribute: str, n_columns: int
) -> AnyArray:
    """Check rows that are to be mapped back: they must be as `transform` returns them.

    They must live where the fitted `attribute` does.
    """
    check_same_namespace(X, estimator, attribute=attribute, method="inverse_transform")
    X = check_floats(X, ensure_all_finite=False, input_name="X", estimator=estimator)
    check_finite(X, "X")
    if X.shape[1] != n_columns:
        raise ValueError(
            f"X has {X.shape[1]} columns, but inverse_transform expects the "
            f"{n_columns} that transform returns."
        )
    return X


def map_blocks(
    function: Callable[..., AnyArray],
    X: AnyArray,
    *along: AnyArray,
    n_out: int,
    dtype: Any,
    what: str,
) -> AnyArray:
    """Apply a function to blocks of rows, which it gets in `dtype`.

    The arrays `along` have one entry for each row and are cut into the same blocks.
    `what` names the operation in the message about an overflow.
    """
    xp, _, device = get_namespace_and_device(X)
    n_rows = X.shape[0]
    kwargs = {} if device is None else {"device": device}
    out = xp.empty((n_rows, n_out), dtype=X.dtype, **kwargs)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in blocks(n_rows, max(X.shape[1], n_out), _BLOCK_ENTRIES):
            rows = xp.astype(X[block, :], dtype, copy=False)
            result = function(rows, *(array[block] for array in along))
            out[block, :] = xp.astype(result, X.dtype, copy=False)
    check_finite(out, what, f"overflows {X.dtype}")
    return out
