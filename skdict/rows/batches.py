"""From rows in memory or on disk to whole batches on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from skdict.rows.devices import to_device


class RowBatches:
    """Batches of rows, each moved to the device in one piece.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n, d)
        The rows. Never written to, never copied as a whole: a read-only memmap
        serves.
    batch_size : int
        Number of rows in a batch. With a generator the batches of an epoch differ in
        size by one row at most, so that no step rests on a small remainder.
    device : torch.device
        Where the batches go.
    scale : float, default=1.0
        Number by which the rows are divided.
    generator : torch.Generator, default=None
        Shuffles the rows anew in each epoch; None keeps their order.
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
    ) -> None:
        self.X = X
        self.among = among
        self.batch_size = batch_size
        self.device = device
        self.scale = scale
        self.generator = generator

    @property
    def n_rows(self) -> int:
        """Number of rows that take part."""
        return len(self.X if self.among is None else self.among)

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.load, self.parts())

    def parts(self) -> Iterator[slice | Tensor]:
        """Draw an epoch: which rows make up each batch."""
        if self.generator is None:
            for start in range(0, self.n_rows, self.batch_size):
                part = slice(start, start + self.batch_size)
                yield part if self.among is None else self.among[part]
            return
        order = torch.randperm(
            self.n_rows, generator=self.generator, device=self.generator.device
        )
        if self.among is not None:
            order = self.among[order]
        for rows in order.tensor_split(len(self)):
            # In ascending order, so that a memmap is read in one sweep.
            yield rows.sort().values

    def load(self, rows: slice | Tensor) -> Tensor:
        """Bring some rows to the device, divided by the scale."""
        batch: np.ndarray | Tensor
        if isinstance(self.X, Tensor):
            batch = self.X[rows if isinstance(rows, slice) else rows.to(self.X.device)]
        else:
            batch = self.X[rows if isinstance(rows, slice) else rows.numpy()]
        loaded = to_device(batch, self.device)
        return loaded if self.scale == 1.0 else loaded / self.scale
