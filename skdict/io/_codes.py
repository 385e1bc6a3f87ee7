"""Codes on disk: written block by block, resumed where a writing was interrupted."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from tqdm.auto import tqdm

from skdict._utils.checks import check_finite
from skdict._utils.extras import optional
from skdict._utils.files import write_file
from skdict._utils.read_ahead import read_ahead
from skdict._utils.sklearn_private import align_api_if_sparse
from skdict._utils.types import Codes
from skdict.stats import check_codes

__all__ = ["read_codes", "write_codes"]

Format = Literal["auto", "zarr", "parquet"]

# What a folder holds while its codes are incomplete. Readers of zarr and parquet skip
# names that begin with a dot.
_PROGRESS = ".skdict-progress.json"
_VERSION = 1
# Rows that are written at a time where the codes have no blocks of their own.
_ROWS = 2**16
# Blocks that Dask computes at a time, while those before are written.
_BLOCKS = 8
# Entries of a chunk of a zarr store: 4 MiB.
_CHUNK = 2**20


def write_codes(
    codes: Codes,
    path: str | os.PathLike,
    *,
    format: Format = "auto",
    overwrite: bool = False,
    verbose: int = 0,
) -> None:
    """Write codes to disk block by block.

    A Dask array of codes, as ``transform`` gives it for rows in zarr, HDF5 or Dask, is
    computed some blocks at a time and never held as a whole. If the writing is
    interrupted, the same call goes on after the last complete block.

    Parameters
    ----------
    codes : dask.array.Array or CSR matrix or array of shape (n_samples, n_components)
        The codes.
    path : path-like
        Folder of the store. Its parent must exist. A path inside a store of AnnData,
        for instance ``"cells.zarr/obsm/X_icfl"``, adds the codes to it.
    format : {"auto", "zarr", "parquet"}, default="auto"
        "zarr" has the layout of AnnData's CSR matrices, which
        ``anndata.io.read_elem`` and ``anndata.experimental.read_elem_lazy`` read.
        "parquet" has one line per row: ``row``, ``indices`` and ``values``, the last
        two as lists, in several files. "auto" is parquet where the path ends in
        ".parquet".
    overwrite : bool, default=False
        Replace codes that are there, complete or not, instead of going on with them.
    verbose : int, default=0
        Above zero, show a progress bar.

    Raises
    ------
    FileExistsError
        If there are complete codes or something else at the path, or incomplete codes
        of another shape, format or content.
    ValueError
        If the codes are no table or hold NaN or infinity.
    ImportError
        If zarr or pyarrow is not installed.

    See Also
    --------
    read_codes : Read them, as a Dask array.

    Examples
    --------
    >>> import tempfile
    >>> import scipy.sparse as sp
    >>> from skdict.io import read_codes, write_codes
    >>> codes = sp.random(100, 8, density=0.3, format="csr", random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_codes(codes, f"{folder}/codes.zarr")
    ...     again = read_codes(f"{folder}/codes.zarr").compute()
    >>> bool((again != codes).nnz == 0)
    True
    """
    folder = Path(path)
    writers: dict[str, type[_Writer]] = {"zarr": _ZarrWriter, "parquet": _ParquetWriter}
    if format == "auto":
        format = "parquet" if folder.suffix == ".parquet" else "zarr"
    if format not in writers:
        raise ValueError(f"format must be 'auto', 'zarr' or 'parquet', got {format!r}.")
    blocks, edges, dtype = _blocks_of(codes)
    shape = (int(edges[-1]), int(codes.shape[1]))
    writer = writers[format](folder, shape, dtype)
    if overwrite:
        _remove(folder)
    start = writer.resume(blocks, edges)
    numbers = np.arange(start, len(edges) - 1)
    some = np.array_split(numbers, -(-len(numbers) // _BLOCKS)) if len(numbers) else []
    with tqdm(
        total=shape[0], initial=int(edges[start]), unit="row", disable=verbose <= 0
    ) as bar:
        for together, parts in zip(some, read_ahead(blocks, some), strict=True):
            for i, part in zip(together, parts, strict=True):
                writer.append(part, int(edges[i + 1]))
                bar.update(part.shape[0])
    writer.finish()


def read_codes(path: str | os.PathLike) -> Any:
    """Read codes that :func:`write_codes` has written, when they are asked for.

    Parameters
    ----------
    path : path-like
        The folder.

    Returns
    -------
    codes : dask.array.Array of shape (n_samples, n_components)
        Its blocks are CSR; ``codes.compute()`` is one CSR matrix.

    Raises
    ------
    FileNotFoundError
        If there are no codes at the path.
    ValueError
        If their writing was interrupted, or the files are damaged.
    ImportError
        If Dask, zarr or pyarrow is not installed.

    See Also
    --------
    write_codes : Write them.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    if (folder / _PROGRESS).exists():
        raise ValueError(
            f"The codes in {folder} are incomplete, because their writing was "
            "interrupted. Call write_codes again with the same codes: it goes on."
        )
    parts = sorted(folder.glob("part-*.parquet"))
    stored = _ParquetCodes(parts) if parts else _ZarrCodes(folder)
    da = optional("dask.array", "read_codes")
    meta = align_api_if_sparse(sp.csr_array((0, stored.shape[1]), dtype=stored.dtype))
    chunks = (tuple(np.diff(stored.edges).tolist()), stored.shape[1])
    return da.from_array(stored, chunks=chunks, asarray=False, meta=meta, name=False)


def _blocks_of(codes: Codes) -> tuple[Any, np.ndarray, np.dtype]:
    """Function that gives some blocks as checked CSR, their edges, and their dtype."""
    if len(codes.shape) != 2:
        raise ValueError(f"Codes are a table, but these have the shape {codes.shape}.")
    if hasattr(codes, "dask"):
        if np.isnan(codes.shape[0]):
            codes = codes.compute_chunk_sizes()
        codes = codes.rechunk({1: -1})
        edges = np.concatenate([[0], np.cumsum(codes.chunks[0])]).astype(np.int64)
        delayed = codes.to_delayed()[:, 0]

        def compute(some: np.ndarray) -> list[sp.csr_array]:
            dask = optional("dask", "write_codes")
            parts = zip(some, dask.compute(*delayed[some]), strict=True)
            return [_checked(part, int(edges[i])) for i, part in parts]

        return compute, edges, np.dtype(codes.dtype)
    codes = sp.csr_array(check_codes(codes))
    edges = np.append(np.arange(0, codes.shape[0], _ROWS), codes.shape[0])

    def cut(some: np.ndarray) -> list[sp.csr_array]:
        return [_checked(codes[edges[i] : edges[i + 1]], int(edges[i])) for i in some]

    return cut, edges.astype(np.int64), codes.dtype


def _checked(block: Codes, first_row: int) -> sp.csr_array:
    block = sp.csr_array(block)
    block.sum_duplicates()
    check_finite(block, f"The codes from row {first_row} on")
    return block


def _remove(folder: Path) -> None:
    """Remove codes, and nothing else."""
    if not folder.exists():
        return
    is_ours = (folder / _PROGRESS).exists() or any(folder.glob("part-*.parquet"))
    if not is_ours and not _is_csr_group(folder):
        raise FileExistsError(f"{folder} holds something else than codes.")
    shutil.rmtree(folder)


def _is_csr_group(folder: Path) -> bool:
    names = ("zarr.json", ".zgroup")
    if not any((folder / name).is_file() for name in names):
        return False
    return _open_group(folder).attrs.get("encoding-type") == "csr_matrix"


class _Writer:
    """Appends blocks of codes; a file tells how far it has come."""

    format = ""

    def __init__(self, folder: Path, shape: tuple[int, int], dtype: np.dtype) -> None:
        self.folder = folder
        self.shape = shape
        self.dtype = dtype
        self.n_rows = 0
        self.nnz = 0

    def resume(self, blocks: Any, edges: np.ndarray) -> int:
        """Begin, or go on; return the first block that is missing."""
        header = {
            "version": _VERSION,
            "format": self.format,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
        }
        progress = self.folder / _PROGRESS
        if not progress.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise FileExistsError(
                    f"{self.folder} exists. Pass overwrite=True to replace codes."
                )
            self.folder.mkdir(exist_ok=True)
            self.begin()
            self._record(header)
            return 0
        found = json.loads(progress.read_text())
        for key, value in header.items():
            if found.get(key) != value:
                raise FileExistsError(
                    f"{self.folder} holds the beginning of other codes: their {key} "
                    f"is {found.get(key)}, not {value}. Pass overwrite=True to "
                    "replace them."
                )
        self.n_rows, self.nnz = found["n_rows"], found["nnz"]
        start = int(np.searchsorted(edges, self.n_rows))
        if edges[start] != self.n_rows:
            raise FileExistsError(
                f"{self.folder} holds {self.n_rows} rows of codes with other blocks. "
                "Pass overwrite=True to replace them."
            )
        self.cut_back()
        if start:
            first = int(edges[start - 1])
            (last,) = blocks(np.array([start - 1]))
            differs = (last != self.read(first, self.n_rows)).sum(axis=1)
            if np.any(differs):
                raise FileExistsError(
                    f"{self.folder} holds the beginning of other codes: the first row "
                    f"that differs is {first + int(np.flatnonzero(differs)[0])}. Pass "
                    "overwrite=True to replace them."
                )
        return start

    def append(self, block: sp.csr_array, n_rows: int) -> None:
        """Write the rows up to ``n_rows``."""
        self.write(block.astype(self.dtype, copy=False))
        self.n_rows, self.nnz = n_rows, self.nnz + block.nnz
        self._record(json.loads((self.folder / _PROGRESS).read_text()))

    def _record(self, header: dict[str, Any]) -> None:
        progress = header | {"n_rows": self.n_rows, "nnz": self.nnz}
        write_file(self.folder / _PROGRESS, [json.dumps(progress).encode()])

    def finish(self) -> None:
        """Say that all rows are there."""
        self.close()
        (self.folder / _PROGRESS).unlink()

    def begin(self) -> None:
        raise NotImplementedError

    def cut_back(self) -> None:
        """Forget what was written after the last complete block."""

    def read(self, first: int, last: int) -> sp.csr_array:
        raise NotImplementedError

    def write(self, block: sp.csr_array) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _ZarrWriter(_Writer):
    format = "zarr"

    def begin(self) -> None:
        # Inside a store, all is of one format.
        is_old = (self.folder.parent / ".zgroup").exists()
        group = _open_group(self.folder, "w-", zarr_format=2 if is_old else 3)
        n, m = self.shape
        wide = np.int64 if m > np.iinfo(np.int32).max else np.int32
        for name, size, dtype in (
            ("data", 0, self.dtype),
            ("indices", 0, wide),
            ("indptr", n + 1, np.int64),
        ):
            group.create_array(name, shape=(size,), dtype=dtype, chunks=(_CHUNK,))

    def cut_back(self) -> None:
        for name in ("data", "indices"):
            self._group[name].resize((self.nnz,))

    def read(self, first: int, last: int) -> sp.csr_array:
        return _read_csr(self._group, first, last, self.shape[1])

    def write(self, block: sp.csr_array) -> None:
        group, end = self._group, self.nnz + block.nnz
        for name in ("data", "indices"):
            group[name].resize((end,))
            group[name][self.nnz : end] = getattr(block, name)
        rows = slice(self.n_rows + 1, self.n_rows + block.shape[0] + 1)
        group["indptr"][rows] = self.nnz + block.indptr[1:].astype(np.int64)

    def close(self) -> None:
        self._group.attrs.update(
            {
                "encoding-type": "csr_matrix",
                "encoding-version": "0.1.0",
                "shape": list(self.shape),
            }
        )
        _consolidate(self.folder)

    @property
    def _group(self) -> Any:
        return _open_group(self.folder, "r+")


class _ParquetWriter(_Writer):
    format = "parquet"

    def begin(self) -> None:
        optional("pyarrow.parquet", "write_codes to parquet")

    def cut_back(self) -> None:
        for part in self.folder.glob("part-*.parquet"):
            if int(part.stem.removeprefix("part-")) >= self.n_rows:
                part.unlink()

    def read(self, first: int, last: int) -> sp.csr_array:
        return _read_part(self._part(first), self.shape[1])

    def write(self, block: sp.csr_array) -> None:
        pa = optional("pyarrow", "write_codes to parquet")
        parquet = optional("pyarrow.parquet", "write_codes to parquet")
        offsets = pa.array(block.indptr.astype(np.int64))
        lists = {
            name: pa.LargeListArray.from_arrays(offsets, pa.array(values))
            for name, values in (("indices", block.indices), ("values", block.data))
        }
        rows = np.arange(self.n_rows, self.n_rows + block.shape[0])
        table = pa.table({"row": rows, **lists})
        table = table.replace_schema_metadata({"n_features": str(self.shape[1])})
        stream = pa.BufferOutputStream()
        parquet.write_table(table, stream)
        write_file(self._part(self.n_rows), [stream.getvalue().to_pybytes()])

    def close(self) -> None:
        if self.shape[0] == 0:
            self.write(sp.csr_array(self.shape, dtype=self.dtype))

    def _part(self, first_row: int) -> Path:
        return self.folder / f"part-{first_row:012d}.parquet"


class _ZarrCodes:
    """Rows of codes in a zarr store."""

    def __init__(self, folder: Path) -> None:
        if not _is_csr_group(folder):
            raise FileNotFoundError(
                f"{folder} holds no codes: neither a CSR matrix in AnnData's layout "
                "nor parquet files of write_codes."
            )
        self.folder = folder
        group = _open_group(folder)
        self.shape = tuple(int(n) for n in group.attrs["shape"])
        self.dtype = group["data"].dtype
        self.ndim = 2
        if group["indptr"].shape != (self.shape[0] + 1,):
            raise ValueError(f"The codes in {folder} are damaged: see indptr.")
        n_rows = self.shape[0]
        self.edges = np.append(np.arange(0, max(n_rows, 1), _ROWS), n_rows)

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        first, last, _ = key[0].indices(self.shape[0])
        part = _read_csr(_open_group(self.folder), first, last, self.shape[1])
        return align_api_if_sparse(part)


class _ParquetCodes:
    """Rows of codes in parquet files."""

    def __init__(self, parts: list[Path]) -> None:
        parquet = optional("pyarrow.parquet", "read_codes")
        self.parts = parts
        heads = [parquet.read_metadata(part) for part in parts]
        schema = parquet.read_schema(parts[0])
        width = int(schema.metadata[b"n_features"])
        self.edges = np.cumsum([0, *(head.num_rows for head in heads)])
        self.shape = (int(self.edges[-1]), width)
        self.dtype = np.dtype(schema.field("values").type.value_type.to_pandas_dtype())
        self.ndim = 2
        first_rows = [int(part.stem.removeprefix("part-")) for part in parts]
        if first_rows != self.edges[:-1].tolist():
            raise ValueError(f"Files of the codes in {parts[0].parent} are missing.")

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        first, last, _ = key[0].indices(self.shape[0])
        blocks = []
        for i in range(len(self.parts)):
            start, stop = self.edges[i : i + 2]
            if start < last and first < stop:
                block = _read_part(self.parts[i], self.shape[1])
                blocks.append(block[max(0, first - start) : last - start])
        if not blocks:
            return align_api_if_sparse(
                sp.csr_array((0, self.shape[1]), dtype=self.dtype)
            )
        return align_api_if_sparse(sp.vstack(blocks, format="csr"))


def _open_group(folder: Path, mode: str = "r", **options: Any) -> Any:
    zarr = optional("zarr", "Codes in a zarr store", "stores")
    return zarr.open_group(str(folder), mode=mode, **options)


def _consolidate(folder: Path) -> None:
    """Make a store that lists all that is in it list the new codes, too."""
    root = folder
    while any((root.parent / name).is_file() for name in ("zarr.json", ".zgroup")):
        root = root.parent
    if root != folder and _open_group(root).metadata.consolidated_metadata is not None:
        with warnings.catch_warnings():  # that zarr 3 has no standard for the list
            warnings.simplefilter("ignore")
            optional("zarr", "Codes in a zarr store", "stores").consolidate_metadata(
                str(root)
            )


def _read_csr(group: Any, first: int, last: int, width: int) -> sp.csr_array:
    indptr = np.asarray(group["indptr"][first : last + 1])
    entries = slice(int(indptr[0]), int(indptr[-1]))
    parts = (group["data"][entries], group["indices"][entries], indptr - indptr[0])
    return sp.csr_array(parts, shape=(last - first, width))


def _read_part(path: Path, width: int) -> sp.csr_array:
    parquet = optional("pyarrow.parquet", "read_codes")
    table = parquet.read_table(path).combine_chunks()
    lists = {name: table[name].combine_chunks() for name in ("indices", "values")}
    indptr = lists["indices"].offsets.to_numpy()
    parts = (
        lists["values"].flatten().to_numpy(),
        lists["indices"].flatten().to_numpy(),
    )
    return sp.csr_array((*parts, indptr), shape=(len(table), width))
