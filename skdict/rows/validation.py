"""Checks of what users pass in, and the way in and out of array namespaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length, validate_data
from torch import Tensor

from skdict._utils.checks import (
    as_numpy,
    check_finite,
    check_floats,
    readable,
    refuse_sparse_frames,
)
from skdict._utils.sklearn_private import get_namespace_and_device
from skdict._utils.types import AnyArray, Data
from skdict.rows.stored import (
    StoredRows,
    Table,
    is_stored,
    whole_or_stored,
    widened,
)


def validate_rows(estimator: Any, X: Data, *, reset: bool) -> AnyArray:
    """Check a table of rows; float16, integers and booleans become float32.

    Stored rows for which there is no room in memory are checked as they are read.

    Raises
    ------
    ValueError
        With the number of rows that hold NaN or infinity and the first of them,
        or what :func:`sklearn.utils.validation.validate_data` finds wrong.
    """
    if is_stored(X):
        X = whole_or_stored(X)
    if isinstance(X, StoredRows):
        validate_data(estimator, np.zeros((1, X.shape[1]), X.dtype), reset=reset)
        return X
    with refuse_sparse_frames("X"):
        X = validate_data(
            estimator,
            readable(X),
            dtype="numeric",  # see check_floats
            ensure_all_finite=False,
            reset=reset,
        )
    X = widened(X)
    check_finite(X, "Input X", "contains NaN or infinity")
    return X


def validate_targets(y: Data, X: AnyArray) -> Table:
    """Check numbers that go with rows; they get the dtype of the rows.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        As the user has them.
    X : array of shape (n_samples, n_features)
        From :func:`validate_rows`.

    Returns
    -------
    y : ndarray, Tensor or StoredRows
        Of as many dimensions as before.

    Raises
    ------
    ValueError
        If the lengths differ, with the number of entries of ``y`` that hold NaN or
        infinity or that overflow, or what scikit-learn finds wrong.
    """
    if is_stored(y) and len(y.shape) == 2:
        y = whole_or_stored(y, "y", X.dtype)
        if isinstance(y, StoredRows):
            check_consistent_length(X, y)
            return y
    y = check_floats(y, ensure_2d=False, ensure_all_finite=False, input_name="y")
    check_consistent_length(X, y)
    rows = y if isinstance(y, Tensor) else as_numpy(y)
    name = str(X.dtype).rpartition(".")[2]
    check_finite(_as_table(rows), "Input y", "contains NaN or infinity")
    if isinstance(rows, Tensor):
        rows = rows.to(getattr(torch, name))
    else:
        with np.errstate(over="ignore"):  # a check for infinity follows
            rows = rows.astype(name, copy=False)
    check_finite(_as_table(rows), "Input y", f"overflows {name}")
    return rows


def _as_table(y: AnyArray) -> AnyArray:
    return y[:, None] if y.ndim == 1 else y


def like(tensor: Tensor, X: AnyArray) -> AnyArray:
    """Copy a tensor to the namespace and the device of ``X``.

    Floating-point numbers also get the dtype of ``X``.
    """
    tensor = tensor.detach()
    if isinstance(X, Tensor):
        return torch.as_tensor(
            tensor,
            dtype=X.dtype if tensor.is_floating_point() else None,
            device=X.device,
        ).clone()
    array = tensor.cpu().numpy()
    xp, _, device = get_namespace_and_device(X)
    dtype = X.dtype if tensor.is_floating_point() else xp.bool
    return xp.asarray(array, dtype=dtype, device=device, copy=True)


def as_rows(X: AnyArray) -> Table:
    """Make a table of an array, which :class:`~skdict.rows.RowBatches` reads."""
    return X if isinstance(X, Tensor | StoredRows) else as_numpy(X)
