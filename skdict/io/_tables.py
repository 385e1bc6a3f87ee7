"""Tables in parquet and CSV files, read by columns."""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skdict._utils.extras import optional
from skdict.io._control import some

__all__ = [
    "CSVTable",
    "Chosen",
    "ParquetTable",
    "check_names",
    "natural_order",
    "open_table",
    "read_group",
]

_PARQUET = (".parquet", ".parq", ".pq")
_CSV = (".csv", ".csv.gz")
# Rows that are converted at a time, beside the array into which they are put.
_ROWS_AT_ONCE = 4_096
# The index of a frame that pandas wrote without a name.
_INDEX = re.compile(r"__index_level_\d+__")


class Chosen(NamedTuple):
    """The feature columns of a table: numbers, or one column of lists of numbers."""

    columns: list[str]
    is_list: bool
    width: int

    @property
    def names(self) -> list[str]:
        if not self.is_list:
            return self.columns
        return [f"{self.columns[0]}_{i}" for i in range(self.width)]


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts feature_2 before feature_10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]


def open_table(path: Path, text_columns: Sequence[str] = ()) -> CSVTable | ParquetTable:
    """Open a file, or all the files of a folder, by the endings of their names.

    `text_columns` are those that are read from CSV files as text.
    """
    files = _files_of(path)
    if files[0].name.lower().endswith(_PARQUET):
        return ParquetTable.open(path, files)
    return CSVTable.open(files, text_columns)


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if not path.is_dir():
        if not path.name.lower().endswith(_PARQUET + _CSV):
            endings = ", ".join(_PARQUET + _CSV)
            raise ValueError(f"{path} ends in none of {endings}.")
        return [path]
    below = [
        f
        for f in path.rglob("*")
        if f.is_file()
        # Names of this kind are notes that programs leave for themselves.
        and not any(part[0] in "._" for part in f.relative_to(path).parts)
    ]
    for suffixes in (_PARQUET, _CSV):
        files = [f for f in below if f.name.lower().endswith(suffixes)]
        if files:
            return sorted(files, key=lambda f: natural_order(str(f.relative_to(path))))
    raise ValueError(f"The folder {path} has no parquet or CSV files.")


def check_names(names: Iterable[Any], where: Path | str) -> None:
    """Refuse a table in which several columns have the same name."""
    names = list(names)
    twice = [n for n, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"{where} has more than one column called {some(twice)}.")


def _check_same_columns(by_file: dict[Path, list[str]]) -> None:
    (first, expected), *others = by_file.items()
    for path, names in others:
        if set(names) == set(expected):
            continue
        lacks = [n for n in expected if n not in set(names)]
        more = [n for n in names if n not in set(expected)]
        said = [f"lacks {some(lacks)}"] if lacks else []
        said += [f"has {some(more)} besides"] if more else []
        raise ValueError(
            f"The files have different columns: {path} {' and '.join(said)}, compared "
            f"with {first}."
        )


@dataclass
class CSVTable:
    """CSV files, which are read as a whole."""

    frame: pd.DataFrame

    @classmethod
    def open(cls, files: list[Path], text_columns: Sequence[str]) -> CSVTable:
        frames = {path: _read_csv(path, text_columns) for path in files}
        _check_same_columns({path: list(frame) for path, frame in frames.items()})
        return cls(pd.concat(frames.values(), ignore_index=True))

    def with_texts(self, path: Path, columns: Sequence[str]) -> CSVTable:
        """Read the files again if some columns were not read as text."""
        if all(self.frame[name].dtype == object for name in columns):
            return self
        return CSVTable.open(_files_of(path), columns)

    @property
    def n_rows(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> dict[str, str]:
        return {name: _kind_of(self.frame[name]) for name in self.frame}

    def metadata(self, columns: Sequence[str]) -> pd.DataFrame:
        return self.frame[list(columns)]

    def width(self, column: str) -> int:
        raise NotImplementedError

    def blocks(self, chosen: Chosen) -> Iterator[np.ndarray]:
        for start in range(0, self.n_rows, _ROWS_AT_ONCE):
            part = self.frame[chosen.columns].iloc[start : start + _ROWS_AT_ONCE]
            with np.errstate(over="ignore"):
                yield part.to_numpy(dtype=np.float32)


def _kind_of(column: pd.Series) -> str:
    dtype = column.dtype
    is_number = pd.api.types.is_numeric_dtype(dtype)
    return "number" if is_number and not pd.api.types.is_bool_dtype(dtype) else "other"


# What pandas, gzip and the decoder raise.
_NO_CSV = (
    pd.errors.ParserError,
    pd.errors.ParserWarning,
    UnicodeDecodeError,
    EOFError,
    OSError,
    csv.Error,
    zlib.error,
)


def _read_csv(path: Path, text_columns: Sequence[str]) -> pd.DataFrame:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        # pandas would call the second of two columns "name.1".
        check_names([name for name in header if name], path)
        if not any(header):
            raise ValueError(f"{path} is empty, or its first line has no names.")
        text = {name: str for name in text_columns if name in header}
        with warnings.catch_warnings():
            # pandas would cut lines that are longer than the header.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, dtype=text, low_memory=False, index_col=False)
    except _NO_CSV as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    # A column without a name is an index that was written along.
    return frame.loc[:, [bool(name) for name in header]]


@dataclass
class ParquetTable:
    """Parquet files, of which the needed columns are read."""

    files: list[Path]
    schemas: dict[Path, Any]
    partitions: dict[Path, dict[str, Any]]
    partition_types: dict[str, Any]
    rows: dict[Path, list[int]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, files: list[Path]) -> ParquetTable:
        pa = optional("pyarrow", "Reading parquet files")
        pq = optional("pyarrow.parquet", "Reading parquet files")
        schemas, rows = {}, {}
        for one in files:
            try:
                with pq.ParquetFile(one) as file:
                    schemas[one] = file.schema_arrow
                    groups = range(file.metadata.num_row_groups)
                    rows[one] = [file.metadata.row_group(i).num_rows for i in groups]
            except pa.ArrowException as error:
                raise ValueError(f"{one} cannot be read as parquet: {error}") from error
            check_names(schemas[one].names, one)
        _check_same_columns({one: _without_index(s) for one, s in schemas.items()})
        partitions, types = _partitions(path, files)
        return cls(files, schemas, partitions, types, rows)

    @property
    def n_rows(self) -> int:
        return sum(sum(groups) for groups in self.rows.values())

    @property
    def columns(self) -> dict[str, str]:
        kinds = dict.fromkeys(self.partition_types, "other")
        for name in _without_index(self.schemas[self.files[0]]):
            found = {_arrow_kind(s.field(name).type) for s in self.schemas.values()}
            found = found - {"null"} or {"number"}
            kinds[name] = found.pop() if len(found) == 1 else "other"
        return kinds

    def metadata(self, columns: Sequence[str]) -> pd.DataFrame:
        pa = optional("pyarrow", "Reading parquet files")
        pq = optional("pyarrow.parquet", "Reading parquet files")
        tables = []
        for path in self.files:
            stored = [c for c in columns if c in self.schemas[path].names]
            with pq.ParquetFile(path, pre_buffer=False) as file:
                table = file.read(columns=stored).select(stored)
            for name in columns:
                if name not in stored:
                    value = self.partitions[path].get(name)
                    scalar = pa.scalar(value, self.partition_types[name])
                    table = table.append_column(name, pa.repeat(scalar, len(table)))
            tables.append(table.select(list(columns)))
        if not columns:
            return pd.DataFrame(index=pd.RangeIndex(self.n_rows))
        tables = _alike(tables, pa)
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(f"A column differs between the files: {error}") from error
        frame = table.to_pandas()
        if set(columns) & set(frame.index.names):
            frame = frame.reset_index()
        return frame.reset_index(drop=True)[list(columns)]

    def width(self, column: str) -> int:
        pa = optional("pyarrow", "Reading parquet files")
        widths = {}
        for path in self.files:
            kind = self.schemas[path].field(column).type
            if pa.types.is_fixed_size_list(kind):
                widths[path] = kind.list_size
            elif (first := _first_length(path, column)) is not None:
                widths[path] = first
        if len(set(widths.values())) > 1:
            raise ValueError(
                f"The lists of {column!r} differ in length: "
                + ", ".join(f"{n} in {path}" for path, n in widths.items())
            )
        if not any(widths.values()):
            raise ValueError(f"The lists in the column {column!r} are empty.")
        return next(iter(widths.values()))

    def blocks(self, chosen: Chosen) -> Iterator[np.ndarray]:
        pq = optional("pyarrow.parquet", "Reading parquet files")
        for path in self.files:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=chosen.columns):
                    yield rows_of(batch, chosen, path)

    def groups(self) -> Iterator[tuple[Path, int, int]]:
        """Give the file, the number and the length of each row group that has rows."""
        for path in self.files:
            for i, n in enumerate(self.rows[path]):
                if n:
                    yield path, i, n


def read_group(path: Path, group: int, chosen: Chosen) -> np.ndarray:
    """Read the feature columns of one row group."""
    pq = optional("pyarrow.parquet", "Reading parquet files")
    with pq.ParquetFile(path, pre_buffer=False) as file:
        batches = file.iter_batches(
            _ROWS_AT_ONCE, row_groups=[group], columns=chosen.columns
        )
        return np.concatenate([rows_of(batch, chosen, path) for batch in batches])


def rows_of(batch: Any, chosen: Chosen, path: Path) -> np.ndarray:
    """Convert the feature columns of a batch of Arrow to float32; missing is NaN."""
    rows = np.empty((batch.num_rows, chosen.width), dtype=np.float32)
    with np.errstate(over="ignore"):
        if chosen.is_list:
            _put_lists(batch.column(chosen.columns[0]), rows, chosen, path)
        else:
            for j, name in enumerate(chosen.columns):
                rows[:, j] = _as_numbers(batch.column(name))
    return rows


def _as_numbers(array: Any) -> Any:
    if array.null_count == len(array):
        return np.nan
    return array.to_numpy(zero_copy_only=False)


def _put_lists(array: Any, rows: np.ndarray, chosen: Chosen, path: Path) -> None:
    there = array.is_valid().to_numpy(zero_copy_only=False)
    rows[~there] = np.nan
    n = int(there.sum())
    values = array.flatten()  # without the lists that are missing
    lengths = array.value_lengths().drop_null()
    wrong = [
        length for length in lengths.unique().to_pylist() if length != chosen.width
    ]
    if wrong:
        raise ValueError(
            f"The lists of {chosen.columns[0]!r} differ in length: {chosen.width} and "
            f"{wrong[0]} in {path}."
        )
    if n:
        numbers = np.broadcast_to(_as_numbers(values), (n * chosen.width,))
        rows[there] = numbers.reshape(n, chosen.width)


def _first_length(path: Path, column: str) -> int | None:
    pq = optional("pyarrow.parquet", "Reading parquet files")
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[column]):
            lengths = batch.column(column).value_lengths().drop_null()
            if len(lengths):
                return lengths[0].as_py()
    return None


def _without_index(schema: Any) -> list[str]:
    return [name for name in schema.names if not _INDEX.fullmatch(name)]


def _arrow_kind(kind: Any) -> str:
    types = optional("pyarrow", "Reading parquet files").types
    if types.is_floating(kind) or types.is_integer(kind):
        return "number"
    if types.is_null(kind):
        return "null"
    is_list = (
        types.is_fixed_size_list(kind)
        or types.is_list(kind)
        or types.is_large_list(kind)
    )
    if is_list and _arrow_kind(kind.value_type) == "number":
        return "list"
    return "other"


def _alike(tables: list[Any], pa: Any) -> list[Any]:
    """Decode columns that are categorical in some files only; Arrow would refuse."""
    for name in tables[0].column_names:
        kinds = [table.schema.field(name).type for table in tables]
        if len(set(kinds)) == 1 or not any(map(pa.types.is_dictionary, kinds)):
            continue
        for i, (table, kind) in enumerate(zip(tables, kinds, strict=True)):
            if pa.types.is_dictionary(kind):
                place = table.schema.get_field_index(name)
                values = table.column(name).cast(kind.value_type)
                tables[i] = table.set_column(place, name, values)
    return tables


def _partitions(
    path: Path, files: list[Path]
) -> tuple[dict[Path, dict[str, Any]], dict[str, Any]]:
    """Read the columns that stand in the names of folders, as in plate=3/."""
    if not path.is_dir() or not any("=" in str(f.relative_to(path)) for f in files):
        return {}, {}
    ds = optional("pyarrow.dataset", "Reading a folder of parquet files")
    dataset = ds.dataset(
        [str(file) for file in files],
        format="parquet",
        partitioning=ds.partitioning(flavor="hive"),
        partition_base_dir=str(path),
    )
    values = {
        Path(fragment.path): ds.get_partition_keys(fragment.partition_expression)
        for fragment in dataset.get_fragments()
    }
    stored = set(dataset.get_fragments().__next__().physical_schema.names)
    names = {name for keys in values.values() for name in keys} - stored
    types = {name: dataset.schema.field(name).type for name in sorted(names)}
    return values, types
