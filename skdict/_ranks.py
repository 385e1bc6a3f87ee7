"""The processes that train together, and what they tell each other.

Under ``torchrun`` every process, which torch calls a rank, runs the same script on the
same rows. A rank computes with its part of each batch; sums over the batch are made
here. Nothing else in the library knows of ``torch.distributed``.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["ALONE", "Ranks", "fails_together", "ranks"]

Method = TypeVar("Method", bound=Callable[..., Any])

# How long a process waits for the others before it raises an error, where the group is
# made here. Without a limit, one that has died would keep the others waiting.
_TIMEOUT = timedelta(minutes=10)
# How long a process that has failed waits for the others to fail, too.
_FAREWELL = timedelta(seconds=30)


class Ranks:
    """A process that trains alone: all sums are its own.

    Attributes
    ----------
    rank : int
        Number of this process; the first one, 0, writes files and shows progress.
    size : int
        Number of processes.
    """

    rank = 0
    size = 1

    def cut(self, n: int) -> slice:
        """The part of ``n`` things in a row that is this process's."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def count(self, fired: Tensor, n_rows: int) -> tuple[Tensor, int | Tensor]:
        """Add up how often atoms fired and on how many rows."""
        return fired, n_rows

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes."""
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """The largest of each entry."""
        return tensor

    def min(self, tensor: Tensor) -> Tensor:
        """The least of each entry."""
        return -self.max(-tensor)

    def mean(self, tensor: Tensor, fraction: float | Tensor) -> Tensor:
        """Mean over a batch of which this process has a fraction of the rows."""
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, which have one shape, one after the other."""
        return tensor[None]

    def take(self, rows: Tensor, places: Tensor) -> Tensor:
        """Rows of a batch of which each process has a part, the first rank's first."""
        return rows[places]

    def follow_first_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""

    def check_same(self, value: Any, what: str) -> None:
        """Raise ValueError if the processes do not have the same value."""

    def any(self, flag: bool) -> bool:
        """Whether it is true of any process."""
        return bool(self.max(torch.tensor(int(flag), device="cpu")))

    def total(self, n: int) -> int:
        """Sum of a whole number."""
        return int(self.sum(torch.tensor(n, device="cpu")))

    def fail(self) -> None:
        """End the others, unless they have failed, too."""


ALONE = Ranks()


class _Group(Ranks):
    """A process of the default group of ``torch.distributed``."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def count(self, fired: Tensor, n_rows: int) -> tuple[Tensor, int | Tensor]:
        sums = self.sum(torch.cat([fired, fired.new_tensor([n_rows])]))
        return sums[:-1], sums[-1]

    def sum(self, tensor: Tensor) -> Tensor:
        return self._reduce(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        return self._reduce(tensor, dist.ReduceOp.MAX)

    def _reduce(self, tensor: Tensor, op: Any) -> Tensor:
        device = _between(tensor.device)
        sent = tensor.detach().to(device, copy=True).contiguous()
        dist.all_reduce(sent, op)
        return sent.to(tensor.device)

    def mean(self, tensor: Tensor, fraction: float | Tensor) -> Tensor:
        return self.sum(tensor * fraction)

    def gather(self, tensor: Tensor) -> Tensor:
        sent = tensor.detach().to(_between(tensor.device)).contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(parts, sent)
        return torch.stack(parts).to(tensor.device)

    def take(self, rows: Tensor, places: Tensor) -> Tensor:
        sizes = self.gather(torch.tensor(len(rows), device="cpu"))
        places = places - int(sizes[: self.rank].sum())
        mine = (places >= 0) & (places < len(rows))
        taken = rows.new_zeros(len(places), *rows.shape[1:])
        taken[mine] = rows[places[mine]]
        return self.sum(taken)

    @torch.no_grad()
    def follow_first_(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            sent = tensor.detach().to(_between(tensor.device)).contiguous()
            dist.broadcast(sent, 0)
            tensor.copy_(sent)

    def check_same(self, value: Any, what: str) -> None:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ValueError(
                    f"The processes of torch.distributed train together, but {what} is "
                    f"{values[0]} on rank 0 and {other} on rank {rank}. Let each of "
                    "them run the same script on the same rows."
                )

    def fail(self) -> None:
        # Those that have raised the same error meet here, and may go on together. One
        # that has not waits for a sum of the training, until its connections close.
        try:
            dist.all_reduce(torch.zeros(1, device="cpu"), group=_farewell())
        except RuntimeError:
            _State.world = _State.farewell = None
            _State.have_parted = True
            with suppress(RuntimeError):
                dist.destroy_process_group()


class _State:
    """What is known of the group of this process."""

    world: Any = None  # the group for which there is a farewell
    farewell: Any = None
    have_parted = False


def _farewell() -> Any:
    """A second group of the same processes; they make it together."""
    if _State.world is not dist.group.WORLD:
        _State.farewell = dist.new_group(backend="gloo", timeout=_FAREWELL)
        _State.world = dist.group.WORLD
    return _State.farewell


def fails_together(method: Method) -> Method:
    """Decorate a method that trains: if it fails on one process, it does on all.

    Without it the others would wait for one that has raised an error and lives, until
    the time of the group is over.
    """

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        together = ranks()
        try:
            return method(*args, **kwargs)
        except BaseException:
            together.fail()
            raise

    return cast("Method", run)


def ranks() -> Ranks:
    """The processes with which this one trains.

    They are those of ``torch.distributed``. Where ``torchrun`` has started the process
    and the script has not made the group, it is made here.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if not _is_launched():
            return ALONE
        if _State.have_parted:
            raise RuntimeError(
                "One of the processes of torch.distributed has failed, and they have "
                "parted. Start them anew."
            )
        _join()
    if dist.get_world_size() == 1:
        return ALONE
    _farewell()
    return _Group()


def _is_launched() -> bool:
    """Whether torchrun started this process itself, not a process above it."""
    names = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    return (
        all(name in os.environ for name in names)
        and int(os.environ["WORLD_SIZE"]) > 1
        and multiprocessing.parent_process() is None
    )


def _join() -> None:
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        local = int(os.environ.get("LOCAL_RANK", 0))
        torch.cuda.set_device(local % torch.cuda.device_count())
    dist.init_process_group(backend, timeout=_TIMEOUT)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _between(device: torch.device) -> torch.device:
    """Where a tensor must lie for the group to send it."""
    backends = dist.get_backend_config()
    if f"{device.type}:" in backends:
        return device
    return torch.device("cpu" if "cpu:" in backends else "cuda")
