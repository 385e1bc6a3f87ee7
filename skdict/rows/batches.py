"""From rows in memory or on disk to whole batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from skdict._ranks import ALONE, Ranks
from skdict.rows.devices import to_device
from skdict.rows.shuffling import BufferedEpochs, too_few_rows
from skdict.rows.stored import Part, StoredRows, Table, take


class RowBatches:
    """Batches of rows, each moved to the device in one piece.

    Parameters
    ----------
    X : ndarray, Tensor or StoredRows of shape (n, d)
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
    without : Tensor of int64, default=None
        Rows that do not take part, in ascending order.
    ranks : Ranks
        The processes that share each batch; this one reads its part only.
    """

    def __init__(
        self,
        X: Table,
        batch_size: int,
        device: torch.device,
        *,
        scale: float = 1.0,
        generator: torch.Generator | None = None,
        without: Tensor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.epochs: Batches = epochs([X], batch_size, generator, without, ranks)
        self.device = device
        self.scale = scale

    @property
    def n_rows(self) -> int:
        """Number of rows that take part."""
        return self.epochs.n_rows

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[Tensor]:
        for (rows,) in self.epochs:
            yield load(rows, self.device, self.scale)


class Batches(Protocol):
    """An epoch: lists of rows, one for each table, that go together."""

    batch_size: int
    generator: torch.Generator | None

    @property
    def n_rows(self) -> int:
        """Number of rows that take part."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def __iter__(self) -> Iterator[list[Part]]:
        """Draw an epoch."""

    @property
    def order(self) -> dict[str, int]:
        """What the order of the rows depends on, besides the generator."""

    def batches(self, start: int = 0) -> Iterator[list[Part]]:
        """Draw an epoch, and return its batches from the ``start``-th one on."""


def load(rows: Part, device: torch.device, scale: float) -> Tensor:
    """Bring rows to the device, divided by the scale."""
    loaded = to_device(rows, device)
    return loaded if scale == 1.0 else loaded / scale


def epochs(
    tables: Sequence[Table],
    batch_size: int,
    generator: torch.Generator | None = None,
    without: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> Batches:
    """Cut tables into batches, from memory or from where they are stored."""
    if any(isinstance(table, StoredRows) for table in tables):
        return BufferedEpochs(tables, batch_size, generator, without, ranks)
    return WholeEpochs(tables, batch_size, generator, without, ranks)


class WholeEpochs:
    """Batches of rows of one or more tables in memory; row i of each goes together.

    Parameters
    ----------
    tables : sequence of ndarray or Tensor of shape (n, ...)
        Not stored elsewhere.
    batch_size, generator, without
        As in :class:`RowBatches`.
    ranks
        As in :class:`RowBatches`.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        batch_size: int,
        generator: torch.Generator | None = None,
        without: Tensor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.tables = tables
        self.batch_size = batch_size
        self.generator = generator
        self.ranks = ranks
        self.among = None
        if without is not None:
            takes_part = torch.ones(len(tables[0]), dtype=torch.bool, device="cpu")
            takes_part[without] = False
            self.among = takes_part.nonzero()[:, 0]

    @property
    def n_rows(self) -> int:
        """Number of rows that take part."""
        return len(self.tables[0] if self.among is None else self.among)

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[list[Part]]:
        return self.batches()

    @property
    def order(self) -> dict[str, int]:
        """What the order of the rows depends on, besides the generator."""
        return {"rows of a batch": self.batch_size}

    def batches(self, start: int = 0) -> Iterator[list[Part]]:
        """Draw an epoch, and return its batches from the ``start``-th one on.

        The generator is used before the first batch is asked for, and not after.
        """
        parts = self._parts()[start:]
        mine = (self._mine(rows) for rows in parts)
        return ([take(table, rows) for table in self.tables] for rows in mine)

    def _parts(self) -> Sequence[slice | Tensor]:
        """Draw which rows make up each batch; without a generator, this process's."""
        if self.generator is None:
            parts = []
            for start in range(0, self.n_rows, self.batch_size):
                mine = self.ranks.cut(min(self.batch_size, self.n_rows - start))
                parts.append(slice(start + mine.start, start + mine.stop))
            return parts if self.among is None else [self.among[p] for p in parts]
        order = torch.randperm(
            self.n_rows, generator=self.generator, device=self.generator.device
        )
        if self.among is not None:
            order = self.among[order]
        return order.tensor_split(len(self))

    def _mine(self, rows: slice | Tensor) -> slice | Tensor:
        """This process's rows of a batch."""
        if isinstance(rows, slice) or self.generator is None:
            return rows
        if len(rows) < self.ranks.size:
            raise too_few_rows(self.ranks)
        # In ascending order, so that a memmap is read in one sweep.
        return rows.sort().values[self.ranks.cut(len(rows))]
