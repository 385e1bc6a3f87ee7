"""Checks of what users pass in, and the way in and out of array namespaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from skdict._utils.checks import as_floats, on_host, readable, refuse_sparse_frames
from skdict._utils.sklearn_private import (
    get_namespace,
    get_namespace_and_device,
    move_to,
)


def validate_rows(estimator, X, *, reset: bool):
    """Check a table of rows; float16, integers and booleans become float32.

    Raises
    ------
    ValueError
        With the number of rows that hold NaN or infinity and the first of them,
        or what :func:`sklearn.utils.validation.validate_data` finds wrong.
    """
    with refuse_sparse_frames("X"):
        X = validate_data(
            estimator,
            readable(X),
            dtype="numeric",  # see check_floats
            ensure_all_finite=False,
            reset=reset,
        )
    X = as_floats(X)
    check_finite(X, "Input X contains NaN or infinity")
    return X


def check_finite(X, problem: str) -> None:
    """Raise a ValueError that counts the rows with NaN or infinity."""
    xp, _ = get_namespace(X)
    with np.errstate(over="ignore", invalid="ignore"):
        # One pass without a temporary; it may overflow, so it only acquits.
        if bool(xp.isfinite(xp.sum(X))):
            return
    bad = ~as_numpy(xp.all(xp.isfinite(X), axis=1))
    if bad.any():
        raise ValueError(
            f"{problem} in {bad.sum()} of {len(bad)} rows "
            f"(the first is row {bad.argmax()})."
        )


def as_numpy(array) -> np.ndarray:
    """The array in numpy, wherever it lives."""
    array = on_host(array)
    if hasattr(array, "__array_namespace__") and not isinstance(array, np.ndarray):
        array = move_to(array, xp=np, device="cpu")
    return np.asarray(array)


def like(tensor: Tensor, X) -> Any:
    """The tensor in the namespace and on the device of ``X``.

    Numbers also get the dtype of ``X``; the memory is never shared.
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


def as_rows(X) -> np.ndarray | Tensor:
    """What :class:`~skdict.rows.RowBatches` reads: an ndarray or a tensor."""
    return X if isinstance(X, torch.Tensor) else as_numpy(X)
