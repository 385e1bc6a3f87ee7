"""Profiles by name, and cosines of some or all pairs of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from skdict._utils.arrays import blocks, unit_csr, unit_rows
from skdict._utils.types import AnyArray, Data
from skdict.stats import check_codes

# Number of entries of the temporary arrays, 32 MB in float64.
_BLOCK_ENTRIES = 2**22
# Up to this number of rows the cosines of all pairs are held in memory, in 200 MB.
_MAX_TABLE_ROWS = 5000


class UnitProfiles:
    """Rows scaled to unit length, dense or CSR; zero rows have the cosine 0 with all.

    Parameters
    ----------
    X : {array-like, sparse matrix or array} of shape (n_rows, n_features)
        The rows.
    name : str
        What messages call them.
    """

    def __init__(self, X: Data, name: str) -> None:
        X = check_codes(X, name)
        self.rows: AnyArray
        if sp.issparse(X):
            self.rows = unit_csr(X)
        else:
            self.rows, _ = unit_rows(X)
        self._table: np.ndarray | None = None

    def __len__(self) -> int:
        return self.rows.shape[0]

    def cosines(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Cosine of each pair of a row of ``first`` and a row of ``second``."""
        if len(self) <= _MAX_TABLE_ROWS:
            return self._all_pairs()[first, second]
        found = np.empty(len(first))
        each = self.rows.shape[1]
        if sp.issparse(self.rows):
            each = max(1, self.rows.nnz // len(self))
        for block in blocks(len(first), each, _BLOCK_ENTRIES):
            a, b = self.rows[first[block]], self.rows[second[block]]
            if sp.issparse(a):
                found[block] = np.asarray(a.multiply(b).sum(axis=1)).ravel()
            else:
                found[block] = np.einsum("ij,ij->i", a, b)
        return found

    def forget(self) -> None:
        """Free the memory of the cosines."""
        self._table = None

    def _all_pairs(self) -> np.ndarray:
        table = self._table
        if table is None:
            table = np.empty((len(self), len(self)))
            for block in blocks(len(self), len(self), _BLOCK_ENTRIES):
                table[block] = _dense(self.rows[block] @ self.rows.T)
            self._table = table  # whole: other threads may ask meanwhile
        return table

    def all_cosines(self) -> Iterator[np.ndarray]:
        """Yield the cosines of all pairs of different rows, each pair once."""
        n = len(self)
        for block in blocks(n, n, _BLOCK_ENTRIES):
            if n <= _MAX_TABLE_ROWS:
                table = self._all_pairs()[block, block.start :]
            else:
                table = _dense(self.rows[block] @ self.rows[block.start :].T)
            yield table[np.triu_indices(table.shape[0], 1, table.shape[1])]


def named_profiles(profiles: Any) -> dict[str, UnitProfiles]:
    """Check one or several tables of profiles, which have the same rows."""
    given = profiles if isinstance(profiles, dict) else {"profiles": profiles}
    if not given:
        raise ValueError("profiles is an empty dict.")
    checked = {
        name: UnitProfiles(X, "profiles" if X is profiles else f"profiles[{name!r}]")
        for name, X in given.items()
    }
    (first, n_rows), *others = ((name, len(unit)) for name, unit in checked.items())
    for name, n in others:
        if n != n_rows:
            raise ValueError(
                f"profiles[{name!r}] has {n} rows, but profiles[{first!r}] has "
                f"{n_rows}: all must be of the same samples."
            )
    return checked


def _dense(table: Any) -> np.ndarray:
    return table.toarray() if sp.issparse(table) else table
