"""Checks of what users pass in, and the way in and out of array namespaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from skdict._utils.checks import (
    as_floats,
    as_numpy,
    check_finite,
    readable,
    refuse_sparse_frames,
)
from skdict._utils.sklearn_private import get_namespace_and_device
from skdict._utils.types import AnyArray, Data


def validate_rows(estimator: Any, X: Data, *, reset: bool) -> AnyArray:
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
    check_finite(X, "Input X", "contains NaN or infinity")
    return X


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


def as_rows(X: AnyArray) -> np.ndarray | Tensor:
    """Make an ndarray or a tensor, which :class:`~skdict.rows.RowBatches` reads."""
    return X if isinstance(X, torch.Tensor) else as_numpy(X)
