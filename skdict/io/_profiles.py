"""Embeddings and what is known about them, from the files in which they come."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skdict._utils.extras import optional
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.warn import warn
from skdict.io._control import Rule, control_mask, some
from skdict.io._tables import (
    Chosen,
    CSVTable,
    ParquetTable,
    check_names,
    natural_order,
    open_table,
    read_group,
)

__all__ = ["Profiles", "read_profiles"]


class Profiles(NamedTuple):
    """Rows, what is known about them, and which of them are controls.

    Parameters
    ----------
    X : DataFrame, array or dask array of shape (n_rows, n_features)
        The rows.

    metadata : DataFrame of n_rows rows
        What is known about each row, in the order of the rows.

    control : ndarray of shape (n_rows,), bool, or None
        Which rows are controls; None if no rule was given.

    feature_names : list of str
        Names of the columns of `X`.

    See Also
    --------
    read_profiles : Profiles from parquet and CSV files.
    from_anndata : Profiles from an AnnData object.
    """

    X: Any
    metadata: pd.DataFrame
    control: np.ndarray | None
    feature_names: list[str]


@validate_params(
    {
        "path": [str, os.PathLike],
        "metadata": [str, os.PathLike, pd.DataFrame, None],
        "on": [str, list, tuple, None],
        "features": [str, list, tuple, None],
        "control": [dict, str, callable, None],
        "duplicates": [StrOptions({"error", "first", "all"})],
        "unmatched": [StrOptions({"drop", "error"})],
        "missing": [StrOptions({"error", "keep", "drop_features"})],
        "lazy": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def read_profiles(
    path: str | os.PathLike,
    *,
    metadata: str | os.PathLike | pd.DataFrame | None = None,
    on: str | Sequence[str] | None = None,
    features: str | Sequence[str] | None = None,
    control: Rule = None,
    duplicates: str = "error",
    unmatched: str = "drop",
    missing: str = "error",
    lazy: bool = False,
) -> Profiles:
    """Read embeddings with their metadata, and find the controls.

    Parameters
    ----------
    path : str or path-like
        A parquet file, a CSV file (also ``.csv.gz``), or a folder of such files, which
        is read with its subfolders. Subfolders called ``plate=3`` add a column
        ``plate``. The columns may be in another order in each file.

    metadata : str, path-like or DataFrame, default=None
        What is known about the rows, if this is in another file. None means that it is
        in the columns of `path` that are no features.
        The names of the wells may be the index of a DataFrame, if this has a name.

    on : str or list of str, default=None
        The columns that name a well (or a cell, an image) in both tables. None means
        all columns that both have, other than features. Without `metadata` these are
        the columns whose values may not repeat; None means that they may.

    features : str or list of str, default=None
        The feature columns: their common prefix, the name of one column of lists, or a
        list of their names. None takes the first of these that there is:

        - columns called feature_0, feature_1 and so on, or 0, 1 and so on;
        - the only column that holds lists of numbers;
        - if there are columns that begin with ``Metadata_``, all others.

        A list sets the order of the columns. Otherwise they are in natural order, with
        feature_2 before feature_10.

    control : dict, str or callable, default=None
        The rule for controls.

        - A dict has a value or a list of values for each of some columns:
          ``{"treatment": "EMPTY_control"}``. Controls have one of the values in every
          one of these columns.
        - A str is a query for :meth:`pandas.DataFrame.eval`.
        - A callable takes the metadata and returns a boolean array.

        Rows with a missing value in a column of the dict or of the query are no
        controls, and a warning counts them. A rule that finds no controls is an error.

    duplicates : {"error", "first", "all"}, default="error"
        What happens if the values in `on` repeat. "first" keeps the first row of each.
        "all" keeps all rows of `path`, for instance several cells of a well; those of
        `metadata` may still not repeat.

    unmatched : {"drop", "error"}, default="drop"
        What happens to rows without metadata and to metadata without rows, also to
        those with a missing value in `on`. "drop" leaves them out, with a warning that
        counts them.

    missing : {"error", "keep", "drop_features"}, default="error"
        What happens to features with missing or infinite values in some rows. "keep"
        leaves NaN and infinity where they are; estimators refuse such rows.
        "drop_features" leaves out these features, with a warning that counts them.

    lazy : bool, default=False
        Whether `X` is a dask array, which reads parquet files when it is computed, with
        one block for each row group. The metadata are read in any case.

    Returns
    -------
    profiles : Profiles
        X : DataFrame or dask array of shape (n_rows, n_features), float32
            The rows, in the order of the files.
        metadata : DataFrame of n_rows rows
            All columns that are no features.
        control : ndarray of shape (n_rows,), bool, or None
            Which rows are controls.
        feature_names : list of str
            The names of the features.

    Raises
    ------
    ValueError
        If a file cannot be read, has no rows, or has other columns than the first; if
        there are no features, or some that are no numbers; if wells repeat or values
        are missing and this is not allowed; if no row is a control.
    ImportError
        If a package is missing: pyarrow for parquet files, dask for `lazy`. The extra
        "tables" has both.

    See Also
    --------
    from_anndata : The same from an AnnData object.
    skdict.ControlPCAWhitener : Whitening with the controls.

    Notes
    -----
    With `lazy`, missing values are found when a block is computed, and "drop_features"
    is not possible. A row group is read as a whole, so write files with row groups of
    some 10,000 rows.

    The columns of `on` are read from a CSV file as text, unless the other table has
    numbers there. A well "001" therefore stays what it is.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skdict.io import read_profiles
    >>> wells = ["A01", "A02", "A03"]
    >>> rows = pd.DataFrame(np.eye(3), columns=["feature_0", "feature_1", "feature_2"])
    >>> rows.insert(0, "well_id", wells)
    >>> treatments = ["TP53", "EMPTY_control", "KRAS"]
    >>> table = pd.DataFrame({"well_id": wells, "treatment": treatments})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "embeddings.csv"
    ...     rows.to_csv(path, index=False)
    ...     profiles = read_profiles(
    ...         path, metadata=table, control={"treatment": "EMPTY_control"}
    ...     )
    >>> profiles.X.shape
    (3, 3)
    >>> profiles.control
    array([False,  True, False])
    """
    path = Path(path)
    keys = (
        None if on is None else list(dict.fromkeys([on] if isinstance(on, str) else on))
    )
    if keys == []:
        raise ValueError("on=[] names no columns.")
    rows, other = _open(path, metadata, keys)
    if lazy and not isinstance(rows, ParquetTable):
        raise ValueError(
            f"lazy=True needs parquet files, and {path} is CSV. Write it once with "
            "DataFrame.to_parquet."
        )
    if lazy and missing == "drop_features":
        raise ValueError(
            "lazy=True goes with missing='error' or missing='keep': which features "
            "have missing values is known only after reading all rows."
        )
    if rows.n_rows == 0:
        raise ValueError(f"{path} has no rows.")
    chosen = _choose_features(rows, features, path)
    own = rows.metadata([c for c in rows.columns if c not in set(chosen.columns)])
    table, keep = _describe(own, other, keys, path, duplicates, unmatched)
    mask = control_mask(table, control)
    if lazy and isinstance(rows, ParquetTable):
        X: Any = _lazy_rows(rows, chosen, keep, missing)
        return Profiles(X, table, mask, chosen.names)
    X = _all_rows(rows, chosen, keep, missing)
    return Profiles(X, table, mask, list(X))


def _open(
    path: Path, metadata: Any, keys: list[str] | None
) -> tuple[CSVTable | ParquetTable, pd.DataFrame | None]:
    """Open both tables, so that the keys have the same type in both."""
    rows = open_table(path, keys or ())
    if metadata is None:
        return rows, None
    if isinstance(metadata, pd.DataFrame):
        check_names(metadata.columns, "The metadata")
        # Names of wells may be in the index.
        named = [name for name in metadata.index.names if name is not None]
        if named and not set(named) & set(metadata.columns):
            metadata = metadata.reset_index()
        other, kinds = metadata, CSVTable(metadata).columns
    else:
        source = open_table(Path(metadata))
        other, kinds = source.metadata(list(source.columns)), source.columns
    shared = [name for name in kinds if name in rows.columns]
    keys = shared if keys is None else [name for name in keys if name in shared]
    # A CSV file does not tell whether 001 is a number; the other table does.
    from_csv = not isinstance(metadata, pd.DataFrame) and isinstance(source, CSVTable)
    if isinstance(rows, CSVTable):
        texts = [name for name in keys if from_csv or kinds[name] != "number"]
        rows = rows.with_texts(path, texts)
    if from_csv:
        both_csv = isinstance(rows, CSVTable)
        texts = [name for name in keys if both_csv or rows.columns[name] != "number"]
        source = open_table(Path(metadata), texts)
        other = source.metadata(list(source.columns))
    return rows, other.reset_index(drop=True)


def _choose_features(
    rows: CSVTable | ParquetTable, features: Any, path: Path
) -> Chosen:
    kinds = rows.columns
    lists = [name for name, kind in kinds.items() if kind == "list"]
    if isinstance(features, str):
        if features in lists:
            return Chosen([features], True, rows.width(features))
        names = [name for name in kinds if name.startswith(features)]
        if not names:
            raise ValueError(
                f"No column of {path} begins with features={features!r}. There are "
                f"{len(kinds)}: {some(kinds)}."
            )
    elif features is not None:
        return _chosen(list(features), kinds, path)
    else:
        names = [n for n in kinds if re.fullmatch(r"(feature_)?\d+", n)]
        if not names and len(lists) == 1:
            return Chosen(lists, True, rows.width(lists[0]))
        if not names and any(n.startswith("Metadata_") for n in kinds):
            names = [n for n in kinds if not n.startswith("Metadata_")]
        if not names:
            raise ValueError(
                f"{path} has no columns feature_0, feature_1, ..., not one column of "
                "lists and no columns Metadata_...: say which its features are, with "
                f"features=prefix or a list of names. There are {len(kinds)} columns: "
                f"{some(kinds)}."
            )
    return _chosen(sorted(names, key=natural_order), kinds, path)


def _chosen(names: list[Any], kinds: dict[str, str], path: Path) -> Chosen:
    absent = [name for name in names if name not in kinds]
    if absent or not names:
        raise ValueError(
            f"features names no columns of {path}: {some(absent)}. There are "
            f"{len(kinds)}: {some(kinds)}."
        )
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise ValueError(f"features has {some(twice)} more than once.")
    wrong = [name for name in names if kinds[name] != "number"]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(names)} feature columns of {path} do not hold "
            f"numbers: {some(wrong)}. Say which the features are, with features=prefix "
            "or a list of names."
        )
    return Chosen(names, False, len(names))


def _describe(
    own: pd.DataFrame,
    other: pd.DataFrame | None,
    keys: list[str] | None,
    path: Path,
    duplicates: str,
    unmatched: str,
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Join the metadata to the rows; return them and which rows stay (None: all)."""
    if other is None and not keys:
        return own, None
    if other is not None and not keys:
        keys = [name for name in own.columns if name in other.columns]
        if not keys:
            raise ValueError(
                f"The metadata and {path} have no column in common by which their rows "
                "could be joined. The metadata have "
                f"{some(other.columns) or 'none'}; {path} has "
                f"{some(own.columns) or 'features only'}."
            )
    keys = keys or []
    tables = {str(path): own} | ({} if other is None else {"The metadata": other})
    for where, table in tables.items():
        absent = [name for name in keys if name not in table.columns]
        if absent:
            raise ValueError(
                f"on names {some(absent)}. {where}: no such column, only "
                f"{some(table.columns)}."
            )
    own_keys = _Keys(own, keys)
    keep = own_keys.known.copy() if other is not None else np.ones(len(own), bool)
    if duplicates != "all":
        again = own_keys.repeated()
        _refuse_repeated(own_keys, again, duplicates, str(path))
        keep &= ~again
    if other is None:
        return _rows(own, keep), None if keep.all() else keep

    more = [name for name in other.columns if name not in keys]
    both = [name for name in more if name in own.columns]
    if both:
        raise ValueError(
            f"The metadata and {path} both have {some(both)} beside the columns of on. "
            "Put these into on, or leave them out of the metadata."
        )
    other_keys = _Keys(other, keys)
    again = other_keys.repeated()
    _refuse_repeated(
        other_keys, again, "error" if duplicates == "all" else duplicates, "metadata"
    )
    usable = np.flatnonzero(other_keys.known & ~again)
    _check_types(own, other, keys, path)
    found = other_keys.index[usable].get_indexer(own_keys.index)
    alone = ~own_keys.known | (found < 0)
    used = np.zeros(len(other), dtype=bool)
    used[usable[found[keep & ~alone]]] = True
    idle = ~used & ~again
    _report_unmatched(own_keys, alone, other_keys, idle, unmatched, path)
    keep &= ~alone
    added = other[more].iloc[usable[found[keep]]].reset_index(drop=True)
    table = pd.concat([_rows(own, keep), added], axis=1)
    return table, None if keep.all() else keep


def _rows(table: pd.DataFrame, keep: np.ndarray) -> pd.DataFrame:
    return table if keep.all() else table[keep].reset_index(drop=True)


class _Keys:
    """The columns of a table that name its rows."""

    def __init__(self, table: pd.DataFrame, keys: list[str]) -> None:
        frame = table[keys]
        self.known = frame.notna().all(axis=1).to_numpy(dtype=bool)
        # The same values compare equal, whatever the columns store them in.
        columns = [_plain(frame[name]) for name in keys]
        self.index = (
            pd.Index(columns[0])
            if len(columns) == 1
            else pd.MultiIndex.from_arrays(columns, names=keys)
        )

    def repeated(self) -> np.ndarray:
        return self.index.duplicated() & self.known

    def named(self, which: np.ndarray) -> list[Any]:
        return list(dict.fromkeys(self.index[which].tolist()))


def _plain(column: pd.Series) -> np.ndarray:
    if _is_number(column):
        if column.isna().any():
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return column.to_numpy()
    return column.to_numpy(dtype=object)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype)


def _check_types(
    own: pd.DataFrame, other: pd.DataFrame, keys: list[str], path: Path
) -> None:
    for name in keys:
        if _is_number(own[name]) != _is_number(other[name]):
            raise ValueError(
                f"{name!r} is {own[name].dtype} in {path}, but {other[name].dtype} in "
                "the metadata, so that no row would match. Convert one of them."
            )


def _refuse_repeated(
    keys: _Keys, again: np.ndarray, duplicates: str, where: str
) -> None:
    if not again.any():
        return
    names = keys.named(again)
    rows = f"{again.sum()} further row{'s' if again.sum() > 1 else ''}"
    text = f"{len(names)} of the wells in {where} repeat, in {rows}: {some(names)}."
    if duplicates == "error":
        ways = "duplicates='first' keeps the first row of each"
        if where != "metadata":
            ways += "; duplicates='all' keeps all, for cells or images of one well"
        raise ValueError(f"{text} {ways}.")
    warn(f"{text} Only the first row of each is kept.")


def _report_unmatched(
    own: _Keys,
    alone: np.ndarray,
    other: _Keys,
    idle: np.ndarray,
    unmatched: str,
    path: Path,
) -> None:
    parts = []
    for keys, which, where in (
        (own, alone, f"rows of {path} have no metadata"),
        (other, idle, "rows of the metadata have no profile"),
    ):
        if which.any():
            nameless = int((which & ~keys.known).sum())
            parts.append(
                f"{which.sum()} of {len(which)} {where} ("
                + some(keys.named(which & keys.known))
                + (f"; {nameless} without a name" if nameless else "")
                + ")"
            )
    text = ", and ".join(parts).replace("(; ", "(")
    if alone.all():
        raise ValueError(f"No row could be joined: {text}.")
    if parts and unmatched == "error":
        raise ValueError(f"{text}. unmatched='drop' leaves them out.")
    if parts:
        warn(f"{text}. They are left out.")


_NO_NUMBER = "missing values, infinity or numbers too large for float32"


def _all_rows(
    rows: CSVTable | ParquetTable,
    chosen: Chosen,
    keep: np.ndarray | None,
    missing: str,
) -> pd.DataFrame:
    n_rows = rows.n_rows if keep is None else int(keep.sum())
    X = np.empty((n_rows, chosen.width), dtype=np.float32)
    bad = np.zeros(chosen.width, dtype=np.int64)
    read = put = 0
    for block in rows.blocks(chosen):
        kept = block if keep is None else block[keep[read : read + len(block)]]
        X[put : put + len(kept)] = kept
        bad += _count_bad(kept)
        read, put = read + len(block), put + len(kept)
    names = chosen.names
    if bad.any() and missing != "keep":
        text = _describe_bad(names, bad, "")
        if missing == "error":
            raise ValueError(
                f"{text} missing='drop_features' leaves these features out, and "
                "missing='keep' leaves the values in."
            )
        if bad.all():
            raise ValueError(f"{text} No feature would be left.")
        warn(f"{text} These features are left out.")
        X, names = X[:, bad == 0], [n for n, b in zip(names, bad, strict=True) if not b]
    return pd.DataFrame(X, columns=names, copy=False)


def _count_bad(block: np.ndarray) -> Any:
    # A finite sum proves that all entries are finite.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(block.sum()):
            return 0
    return (~np.isfinite(block)).sum(axis=0)


def _describe_bad(names: list[str], bad: np.ndarray, where: str) -> str:
    counted = [f"{n!r} ({b})" for n, b in zip(names, bad, strict=True) if b]
    shown = ", ".join(counted[:8]) + (", ..." if len(counted) > 8 else "")
    return (
        f"{len(counted)} of {len(names)} features have {_NO_NUMBER}{where}; with the "
        f"number of rows: {shown}."
    )


def _lazy_rows(
    rows: ParquetTable, chosen: Chosen, keep: np.ndarray | None, missing: str
) -> Any:
    delayed = optional("dask", "lazy=True").delayed
    da = optional("dask.array", "lazy=True")
    blocks, start = [], 0
    read = delayed(_read_block)
    for path, group, n in rows.groups():
        kept = None if keep is None else keep[start : start + n]
        n_kept = n if kept is None else int(kept.sum())
        start += n
        if n_kept:
            block = read(path, group, chosen, kept, missing)
            shape = (n_kept, chosen.width)
            blocks.append(da.from_delayed(block, shape, dtype=np.float32))
    return da.concatenate(blocks)


def _read_block(
    path: Path, group: int, chosen: Chosen, keep: np.ndarray | None, missing: str
) -> np.ndarray:
    """Read the rows of a row group that stay; dask calls this."""
    block = read_group(path, group, chosen)
    if keep is not None:
        block = block[keep]
    bad = _count_bad(block)
    if missing == "error" and np.any(bad):
        where = f" in row group {group} of {path}"
        raise ValueError(_describe_bad(chosen.names, bad, where))
    return block
