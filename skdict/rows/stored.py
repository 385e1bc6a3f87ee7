"""Rows that stay on disk, or are not computed, until they are read."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import sklearn
import torch
from torch import Tensor

from skdict._utils.arrays import row_blocks
from skdict._utils.checks import as_floats, rows_not_finite
from skdict._utils.types import AnyArray, Data
from skdict.rows.devices import as_tensor

# Largest number of stored bytes of a block, unless a single chunk is larger. A disk
# reads blocks of this size in any order about as fast as it reads a whole file.
_BLOCK_BYTES = 2**20
# Fraction of the working memory up to which rows are read as a whole, and that which
# one buffer takes. Two buffers and the batches cut from them are there at a time.
_WHOLE, _BUFFER = 1 / 2, 1 / 8


class StoredRows:
    """A table whose rows are read when they are asked for.

    It stands in for an ndarray wherever only rows are taken: ``rows[slice]`` and
    ``rows[indices]``. What is read is checked and has the dtype that an array in
    memory would get.

    Parameters
    ----------
    source : memmap, zarr.Array, h5py.Dataset, dask.array.Array or alike
        Has ``shape``, ``dtype`` and slices of rows.
    name : str, default="X"
        What messages call it.
    dtype : dtype, default=None
        float32 or float64. None: float64 if the source has that or is wider.

    Attributes
    ----------
    shape : tuple of int
        Number of rows and of columns.
    dtype : dtype
        Of what is read.
    edges : ndarray of int64 of shape (n_blocks + 1,)
        Where the blocks begin in which rows are best read, and the number of rows.

    Raises
    ------
    ValueError
        If the source is no table of numbers, or its size is not known.
    """

    ndim = 2

    def __init__(self, source: Any, name: str = "X", dtype: Any = None) -> None:
        if len(source.shape) != 2:
            raise ValueError(
                f"Expected 2D array, got {len(source.shape)}D array instead: {name} is "
                f"a {type(source).__name__} of shape {tuple(source.shape)}."
            )
        if any(math.isnan(n) for n in source.shape):
            raise ValueError(
                f"{name} is a Dask array whose number of rows is not known: call its "
                "compute_chunk_sizes() first."
            )
        self.source = source
        self.name = name
        self.shape = (int(source.shape[0]), int(source.shape[1]))
        self.dtype = np.dtype(dtype or as_floats(np.empty(0, source.dtype)).dtype)
        self.edges = _edges(source, self.rows_in(_BUFFER))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        # Code for arrays of any namespace writes out the columns that it takes.
        rows = key[0] if isinstance(key, tuple) else key
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self.read(start, max(start, stop))[::step]
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        order = None
        if (rows[1:] < rows[:-1]).any():
            order = rows.argsort(kind="stable")
            rows = rows[order]
        taken = np.empty((len(rows), self.shape[1]), self.dtype)
        cuts = np.searchsorted(rows, self.edges)
        for i in np.flatnonzero(np.diff(cuts)):
            part = rows[cuts[i] : cuts[i + 1]]
            block = self.read(int(part[0]), int(part[-1]) + 1)
            place = slice(cuts[i], cuts[i + 1])
            taken[place if order is None else order[place]] = block[part - part[0]]
        return taken

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read consecutive rows.

        Raises
        ------
        ValueError
            If there are NaN or infinity among them.
        Exception
            What the source raises, with a note of the rows that were asked for.
        """
        try:
            rows = _computed(self.source[start:stop])
        except Exception as error:
            error.add_note(f"While rows {start} to {stop} of {self.name} were read.")
            raise
        if rows.shape != (stop - start, self.shape[1]):
            raise ValueError(
                f"Rows {start} to {stop} of {self.name} came with the shape "
                f"{rows.shape}."
            )
        rows = check_part(rows, start, self.name, self.dtype)
        _let_pages_go(self.source)
        return rows

    def scattered(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` different rows at random, from few enough blocks to read quickly.

        Returns
        -------
        Tensor of int64
            Their numbers, in ascending order.
        """
        n = min(n, len(self))

        def mixed(n: int) -> Tensor:
            return torch.randperm(n, generator=generator, device="cpu")

        blocks = mixed(len(self.edges) - 1).numpy()
        ends = np.diff(self.edges)[blocks].cumsum()
        enough = max(_SCATTERED_BLOCKS, int(np.searchsorted(ends, n)) + 1)
        blocks, ends = blocks[:enough], ends[:enough]
        # From each block as many as belong to its size.
        counts = np.diff(np.rint(ends / ends[-1] * n).astype(np.int64), prepend=0)
        firsts, sizes = self.edges[blocks], np.diff(self.edges)[blocks]
        parts = zip(firsts.tolist(), sizes.tolist(), counts.tolist(), strict=True)
        picked = [first + mixed(size)[:count] for first, size, count in parts]
        return torch.cat(picked).sort().values

    @property
    def fits(self) -> bool:
        """Whether the working memory has room for all rows."""
        return len(self) <= self.rows_in(_WHOLE)

    @property
    def buffer_rows(self) -> int:
        """Number of rows of a buffer."""
        return self.rows_in(_BUFFER)

    def rows_in(self, fraction: float) -> int:
        """Number of rows that a fraction of the working memory holds."""
        mebibytes = sklearn.get_config()["working_memory"]
        row_bytes = max(1, self.shape[1]) * self.dtype.itemsize
        return max(1, int(fraction * mebibytes * 2**20) // row_bytes)


def check_part(rows: Any, start: int, name: str, dtype: Any) -> np.ndarray:
    """Check consecutive rows of a table, the first of which has the number `start`."""
    if sp.issparse(rows):
        raise TypeError(
            f"The rows of {name} are sparse, but dense rows are needed. A Dask array "
            "becomes dense by map_blocks(lambda part: part.toarray())."
        )
    rows = widened(np.asarray(rows)).astype(dtype, copy=False)
    bad = rows_not_finite(rows)
    if len(bad):
        raise ValueError(
            f"Input {name} contains NaN or infinity in {len(bad)} of the rows {start} "
            f"to {start + len(rows)}, the first of them row {start + bad[0]}."
        )
    return rows


def widened(X: AnyArray) -> AnyArray:
    """Convert numbers to float32 or float64, as :func:`as_floats` does."""
    if not isinstance(X, np.ndarray) or X.dtype != np.float16 or X.ndim != 2:
        return as_floats(X)
    # numpy takes ten times as long as torch. Part by part, because what is read-only is
    # copied first.
    wide = np.empty_like(X, dtype=np.float32, subok=False)
    for rows in row_blocks(X):
        torch.from_numpy(wide[rows]).copy_(as_tensor(X[rows]))
    return wide


class RememberingRows(StoredRows):
    """Stored rows that remember what was asked of them, for those who ask the same."""

    def __init__(self, source: Any, name: str = "X", dtype: Any = None) -> None:
        super().__init__(source, name, dtype)
        self.known: dict[Hashable, Any] = {}

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, np.ndarray):
            read = super().__getitem__
            return self.remember(key.tobytes(), lambda: read(key))
        return super().__getitem__(key)

    def remember(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """What was computed for this key before, or is now."""
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]


# Blocks from which scattered rows are drawn.
_SCATTERED_BLOCKS = 256

# Rows in memory, and any rows.
Part: TypeAlias = np.ndarray | Tensor
Table: TypeAlias = np.ndarray | Tensor | StoredRows


def take(table: Any, rows: slice | Tensor) -> Any:
    """Take rows of a table, as an ndarray or a tensor."""
    if isinstance(rows, slice):
        return table[rows]
    return table[rows.to(table.device) if isinstance(table, Tensor) else rows.numpy()]


def is_deferred(X: Data) -> bool:
    """Whether rows of X are read or computed only when asked for: zarr, HDF5, Dask.

    Such arrays, and no others, say in which chunks they are stored.
    """
    return hasattr(X, "chunks") and hasattr(X, "dtype") and hasattr(X, "shape")


def is_stored(X: Data) -> bool:
    """Whether X is deferred or a memory map."""
    return isinstance(X, np.memmap) or is_deferred(X)


def _let_pages_go(source: Any) -> None:
    """Let the system take back the pages of a memory map; it has them on disk."""
    # A map that is copied on write would lose what was written to it. Windows has no
    # such advice.
    if isinstance(source, np.memmap) and source.mode in ("r", "r+"):
        advise = getattr(getattr(source, "_mmap", None), "madvise", None)
        if advise is not None:
            advise(mmap.MADV_DONTNEED)


def _computed(rows: Any) -> Any:
    return rows.compute() if hasattr(rows, "compute") else rows


def _edges(source: Any, most: int) -> np.ndarray:
    """Where blocks begin: whole chunks, as far as they have at most ``most`` rows."""
    n_rows = int(source.shape[0])
    chunks = getattr(source, "shards", None) or getattr(source, "chunks", None)
    if chunks is not None and not np.isscalar(chunks[0]):  # those of Dask differ
        edges = np.concatenate([[0], np.cumsum(chunks[0])])
        return np.unique(edges).astype(np.int64)
    row_bytes = max(1, int(source.shape[1]) * source.dtype.itemsize)
    size = min(max(1, _BLOCK_BYTES // row_bytes), most)
    if chunks is not None:
        chunk = int(chunks[0])
        size = chunk * max(1, size // chunk) if chunk <= most else most
    return np.append(np.arange(0, n_rows, size), n_rows)


def draw_rows(X: Table, n: int, generator: torch.Generator) -> Tensor:
    """Draw at most ``n`` different rows at random.

    Returns
    -------
    Tensor of int64
        Their numbers, in random order: the first of them may become atoms.
    """
    if isinstance(X, StoredRows):
        rows = X.scattered(n, generator)
        return rows[torch.randperm(len(rows), generator=generator, device="cpu")]
    return torch.randperm(len(X), generator=generator, device="cpu")[:n]


def whole_or_stored(X: AnyArray, name: str = "X", dtype: Any = None) -> AnyArray:
    """Read stored rows if the working memory has room for them, else wrap them."""
    rows = StoredRows(X, name, dtype)
    if not rows.fits:
        return rows
    # A memory map is an array already, and its pages are read as they are needed.
    return X if isinstance(X, np.memmap) else rows.read(0, len(rows))


def in_memory(X: Data, who: str, name: str = "X") -> Data:
    """Read a deferred table if the working memory has room for it.

    Raises
    ------
    TypeError
        If it has not. `who` needs the rows in memory, and the message says how to
        choose some.
    """
    if not is_deferred(X) or len(X.shape) != 2:
        return X
    rows = StoredRows(X, name)
    if not rows.fits:
        raise TypeError(
            f"{who} needs its rows in memory, but {name} is a {type(X).__name__} of "
            f"{len(rows)} rows, which take more than half of scikit-learn's "
            f"working_memory. Choose some of them, numpy.asarray({name}[start:stop]), "
            "and likewise of what belongs to them."
        )
    return rows.read(0, len(rows))
