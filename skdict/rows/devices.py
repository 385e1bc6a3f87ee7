"""Arrays as tensors, and the devices that they go to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Make a tensor of an array, on its device, and without a copy if that is safe.

    Memory that numpy holds read-only is copied, because torch would share it and an
    in-place operation would crash the process. An array with negative strides is
    copied, because torch has none.
    """
    if isinstance(array, Tensor):
        return array
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array)


def to_device(array: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Bring an array to a device as a tensor; float64 becomes float32 on MPS."""
    tensor = as_tensor(array)
    # MPS has no float64.
    dtype = torch.float32 if device.type == "mps" else tensor.dtype
    if device.type == "cuda" and tensor.device.type == "cpu":
        # From pageable memory, the copy would wait for all earlier work on the device.
        return tensor.pin_memory().to(device=device, dtype=dtype, non_blocking=True)
    return tensor.to(device=device, dtype=dtype)


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn a `device` parameter into a torch device that can be used here.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        "auto" takes CUDA if there is one, else MPS, else the CPU. Anything else is a
        name that torch knows, for instance "cpu" or "cuda:1".

    Returns
    -------
    device : torch.device
        The device.

    Raises
    ------
    TypeError
        If `device` is neither a string nor a torch device.
    ValueError
        If the name is unknown, the device is not available on this machine, or
        it holds no data (torch's "meta").

    Examples
    --------
    >>> from skdict.rows import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if not isinstance(device, str | torch.device):
        raise TypeError(
            "device must be a string or a torch.device, got "
            f"{type(device).__name__}: {device!r}."
        )
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a device that torch knows; use 'auto', "
            "'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    if resolved.type == "meta":
        raise ValueError("device='meta' holds no data, so nothing can be computed.")
    if resolved.type != "cpu":
        try:
            torch.empty(1, device=resolved)
        # What torch raises here depends on how it was built: AssertionError,
        # NotImplementedError or one of several RuntimeErrors.
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0].split(". ")[0]
            raise ValueError(
                f"device={str(device)!r} is not available on this machine: {reason}."
            ) from error
    return resolved
