"""Epochs over stored rows: whole blocks in random order, mixed in a buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from skdict._ranks import ALONE, Ranks
from skdict._utils.read_ahead import read_ahead
from skdict.rows.stored import Part, StoredRows, Table, take


class BufferedEpochs:
    """Batches of rows of one or more tables, of which at least one is stored.

    Every epoch takes each row once. Blocks of the first stored table come in random
    order. As many as a buffer holds are read one after the other, their rows are mixed
    and cut into batches, and meanwhile the next blocks are read. The rows of a batch
    thus come from as many places as a buffer has blocks.

    Parameters
    ----------
    tables : sequence of ndarray, Tensor or StoredRows of shape (n, ...)
        Row i of each belongs to row i of the others.
    batch_size, generator, without
        As in :class:`~skdict.rows.RowBatches`.
    ranks : Ranks
        The processes that share each batch. This one reads its part of each buffer, and
        its part of a batch are the rows that lie there.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        batch_size: int,
        generator: torch.Generator | None = None,
        without: Tensor | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        stored = [table for table in tables if isinstance(table, StoredRows)]
        self.tables = tables
        self.edges = stored[0].edges
        self.buffer_rows = min(table.buffer_rows for table in stored)
        self.batch_size = batch_size
        self.generator = generator
        self.ranks = ranks
        self.without = np.empty(0, np.int64) if without is None else without.numpy()

    @property
    def n_rows(self) -> int:
        """Number of rows that take part."""
        return int(self.edges[-1]) - len(self.without)

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[list[Part]]:
        return self.batches()

    @property
    def order(self) -> dict[str, int]:
        """What the order of the rows depends on, besides the generator."""
        return {
            "rows of a batch": self.batch_size,
            "rows of a buffer": self.buffer_rows,
            "blocks of rows": len(self.edges) - 1,
        }

    def batches(self, start: int = 0) -> Iterator[list[Part]]:
        """Draw an epoch, and return its batches from the ``start``-th one on.

        The generator is used before the first batch is asked for, and not after. What
        belongs to earlier batches only is not read.
        """
        if self.generator is None:
            return self._cut(None, start)
        # Of its own, because what else draws between two buffers must not matter.
        seed = torch.randint(2**62, (), generator=self.generator, device="cpu")
        return self._cut(torch.Generator("cpu").manual_seed(int(seed)), start)

    def _cut(
        self, generator: torch.Generator | None, start_batch: int
    ) -> Iterator[list[Part]]:
        sizes = list(self._sizes())
        buffers = self._draw(generator)
        # The batches are cut from one long row of mixed buffers.
        start = sum(sizes[:start_batch])
        while buffers and start >= (n_rows := self._n_kept(buffers[0])):
            _mix(n_rows, generator)
            buffers, start = buffers[1:], start - n_rows
        left = iter(sizes[start_batch:])
        size = next(left, 0)
        rest: list[Part] = [take(table, slice(0)) for table in self.tables]
        n_rest = 0
        for n, buffer in read_ahead(self._read, buffers):
            order = _mix(n, generator)
            while 0 < size <= n_rest + n - start:
                stop = start + size - n_rest
                batch = _join(rest, buffer, self._mine(order[start:stop], n))
                if generator is not None and not len(batch[0]):
                    raise too_few_rows(self.ranks)
                yield batch
                rest, n_rest, start = [part[:0] for part in rest], 0, stop
                size = next(left, 0)
            rest = _join(rest, buffer, self._mine(order[start:], n))
            n_rest, start = n_rest + n - start, 0
            del buffer  # the next but one is read into its room

    def _sizes(self) -> Iterator[int]:
        """Number of rows of each batch."""
        n, n_batches = self.n_rows, len(self)
        for i in range(n_batches):
            if self.generator is None:
                yield min(self.batch_size, n - i * self.batch_size)
            else:
                yield n // n_batches + (i < n % n_batches)

    def _draw(self, generator: torch.Generator | None) -> list[np.ndarray]:
        """Which blocks go into each buffer."""
        order = _mix(len(self.edges) - 1, generator)
        starts, room = [], 0
        for i, size in enumerate(np.diff(self.edges)[order].tolist()):
            if size > room:
                starts.append(i)
                room = self.buffer_rows
            room -= size
        return np.split(order, starts[1:])

    def _mine(self, rows: np.ndarray, n: int) -> np.ndarray:
        """Those of the rows of a buffer that this process has read."""
        mine = self.ranks.cut(n)
        if mine == slice(0, n):
            return rows
        return rows[(rows >= mine.start) & (rows < mine.stop)] - mine.start

    def _read(self, blocks: np.ndarray) -> tuple[int, list[Part]]:
        """Read this process's part of some blocks of all tables.

        Returns
        -------
        n : int
            Rows of the blocks, those of other processes included.
        buffers : list
            The rows that were read of each table.
        """
        kept = [self._kept(block) for block in blocks]
        n = sum(len(rows) for rows in kept)
        mine, start = self.ranks.cut(n), 0
        for i, rows in enumerate(kept):
            first, last = mine.start - start, mine.stop - start
            start += len(rows)
            kept[i] = rows[max(0, first) : max(0, last)]
        kept = [rows for rows in kept if len(rows)]
        n_rows = mine.stop - mine.start
        buffers: list[Part] = []
        for table in self.tables:
            if not isinstance(table, StoredRows):
                rows = np.concatenate([np.empty(0, np.int64), *kept])
                buffers.append(take(table, torch.from_numpy(rows)))
                continue
            buffer = np.empty((n_rows, *table.shape[1:]), table.dtype)
            end = 0
            for rows in kept:
                start, end = end, end + len(rows)
                first, last = int(rows[0]), int(rows[-1]) + 1
                part = table.read(first, last)
                buffer[start:end] = (
                    part if len(part) == len(rows) else part[rows - first]
                )
            buffers.append(buffer)
        return n, buffers

    def _n_kept(self, blocks: np.ndarray) -> int:
        """Number of rows of some blocks that take part."""
        firsts, lasts = self.edges[blocks], self.edges[blocks + 1]
        i, j = np.searchsorted(self.without, [firsts, lasts])
        return int((lasts - firsts - (j - i)).sum())

    def _kept(self, block: int) -> np.ndarray:
        """Rows of a block that take part."""
        first, last = self.edges[block], self.edges[block + 1]
        i, j = np.searchsorted(self.without, [first, last])
        rows = np.arange(first, last)
        return np.delete(rows, self.without[i:j] - first) if j > i else rows


def _mix(n: int, generator: torch.Generator | None) -> np.ndarray:
    """An order of ``n`` rows: at random, or as they are."""
    if generator is None:
        return np.arange(n)
    return torch.randperm(n, generator=generator, device="cpu").numpy()


def _join(rest: list[Part], buffer: list[Part], rows: np.ndarray) -> list[Part]:
    """Rows that an earlier buffer left over, and some of this one."""
    taken = [take(part, torch.from_numpy(rows)) for part in buffer]
    if not len(rest[0]):
        return taken
    return [
        torch.cat([a, b]) if isinstance(a, Tensor) else np.concatenate([a, b])
        for a, b in zip(rest, taken, strict=True)
    ]


def too_few_rows(ranks: Ranks) -> ValueError:
    """What to raise where a process has no row of a batch."""
    return ValueError(
        f"The rows of a batch are shared by {ranks.size} processes, and one of them "
        "has none. Raise batch_size, or train with fewer processes."
    )
