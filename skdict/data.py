"""From rows in memory or on disk to whole batches on the device."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "RowBatches",
    "as_tensor",
    "centre_and_spread",
    "resolve_device",
    "to_device",
]


class RowBatches:
    """Batches of rows, each moved to the device in one piece.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n, d)
        The rows. Never written to, never copied as a whole: a read-only memmap
        serves.
    batch_size : int
        Rows in a batch. With a generator the batches of a pass differ in size by
        one row at most, so that no step rests on a small remainder.
    device : torch.device
        Where the batches go.
    scale : float, default=1.0
        What the rows are divided by.
    generator : torch.Generator, default=None
        Shuffles the rows anew for each pass; None keeps their order.
    among : Tensor of int64, default=None
        Indices of the rows that take part. None: all.
    """

    def __init__(
        self,
        X: np.ndarray | Tensor,
        batch_size: int,
        device: torch.device,
        *,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
        among: Tensor | None = None,
    ):
        self.X = X
        self.among = among
        self.batch_size = batch_size
        self.device = device
        self.scale = scale
        self.generator = generator

    @property
    def n_rows(self) -> int:
        """Number of rows in a pass."""
        return len(self.X if self.among is None else self.among)

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        if self.generator is None:
            for start in range(0, self.n_rows, self.batch_size):
                part = slice(start, start + self.batch_size)
                yield self._load(part if self.among is None else self.among[part])
            return
        order = torch.randperm(
            self.n_rows, generator=self.generator, device=self.generator.device
        )
        if self.among is not None:
            order = self.among[order]
        for rows in order.tensor_split(len(self)):
            # In ascending order, a batch is read from a memmap in one sweep.
            yield self._load(rows.sort().values)

    def _load(self, rows: slice | Tensor) -> Tensor:
        batch: np.ndarray | Tensor
        if isinstance(self.X, Tensor):
            batch = self.X[rows if isinstance(rows, slice) else rows.to(self.X.device)]
        else:
            batch = self.X[rows if isinstance(rows, slice) else rows.numpy()]
        loaded = to_device(batch, self.device)
        return loaded if self.scale == 1.0 else loaded / self.scale


def centre_and_spread(
    X: np.ndarray | Tensor, batch_size: int = 8192
) -> tuple[Tensor, float]:
    """Mean row, and root mean square distance of the rows from it.

    Accumulated in float64 over rows brought to a magnitude of 1 by a power of two,
    which is exact, so that rows of any magnitude neither overflow nor vanish; and
    from the first row as origin, so that equal rows have no spread at all.
    """
    cpu = torch.device("cpu")
    largest = max(float(rows.abs().max()) for rows in RowBatches(X, batch_size, cpu))
    scale = math.ldexp(1.0, math.frexp(largest)[1] - 1)
    batches = RowBatches(X, batch_size, cpu, scale=scale)
    origin = next(iter(batches))[0].double()
    sums = [(rows.double() - origin).sum(0) for rows in batches]
    mean = origin + torch.stack(sums).sum(0) / len(X)
    squares = sum(float((rows - mean).square().sum()) for rows in batches) / len(X)
    dtype = next(iter(batches)).dtype
    return (mean * scale).to(dtype), squares**0.5 * scale


def as_tensor(array: np.ndarray | Tensor) -> Tensor:
    """The array as a tensor where it lies, without a copy where that is safe.

    Memory that numpy holds read-only is copied, because torch would share it and
    an in-place operation on it ends the process; so are negative strides, which
    torch does not know.
    """
    if isinstance(array, Tensor):
        return array
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array)


def to_device(array: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """The array as a tensor on the device, in the widest dtype that it supports."""
    tensor = as_tensor(array)
    # MPS has no float64.
    dtype = torch.float32 if device.type == "mps" else tensor.dtype
    if device.type == "cuda" and tensor.device.type == "cpu":
        # From memory that may be paged out, the copy would wait for all work before.
        return tensor.pin_memory().to(device=device, dtype=dtype, non_blocking=True)
    return tensor.to(device=device, dtype=dtype)


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn a `device` parameter into a torch device that can be used here.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        "auto" takes CUDA where there is one, then MPS, then the CPU. Anything
        else is taken as torch understands it, for instance "cpu" or "cuda:1".

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
    >>> from skdict.data import resolve_device
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
