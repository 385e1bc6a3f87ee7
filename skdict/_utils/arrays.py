"""Blocks of rows, rows whose arithmetic stays finite, and compact codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = [
    "blocks",
    "compact",
    "power_of_two",
    "row_blocks",
    "scale_down",
    "unit_csr",
    "unit_rows",
]

# Number of entries of a block of rows by default: 32 MB in float64.
_BLOCK_ENTRIES = 2**22


def blocks(n: int, n_entries_each: int, max_entries: int) -> Iterator[slice]:
    """Yield slices of rows, columns or draws that are worked on at a time.

    Parameters
    ----------
    n : int
        Number of rows, columns or draws.
    n_entries_each : int
        Number of entries that each of them takes in a temporary array.
    max_entries : int
        Largest number of entries of such an array. A block has at least one row, column
        or draw, however many entries that takes.

    Yields
    ------
    block : slice
    """
    size = max(1, max_entries // max(1, n_entries_each))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def row_blocks(X: Any, max_entries: int | None = None) -> Iterator[slice]:
    """Yield slices of the rows of a table, each with at most `max_entries` entries."""
    n_rows, n_columns = X.shape
    yield from blocks(n_rows, n_columns, max_entries or _BLOCK_ENTRIES)


def unit_rows(A: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scale rows to unit length, in float64.

    Parameters
    ----------
    A : array-like of shape (n_rows, n_columns)
        Finite numbers.

    Returns
    -------
    unit : ndarray of shape (n_rows, n_columns)
        Zero rows stay zero.
    nonzero : ndarray of shape (n_rows,), bool
        Which rows are not zero.
    """
    A = np.asarray(A, dtype=np.float64)
    # Divide by the largest entry first: squares of very large or very small entries
    # would leave the range of float64.
    largest = np.abs(A).max(axis=1)
    nonzero = largest > 0
    A = A / np.where(nonzero, largest, 1.0)[:, None]
    norms = np.sqrt(np.einsum("ij,ij->i", A, A))
    return A / np.where(nonzero, norms, 1.0)[:, None], nonzero


def unit_csr(X: Any) -> Any:
    """Scale the rows of a CSR matrix to unit length, in float64; see `unit_rows`."""
    X = X.astype(np.float64)
    for is_largest in (True, False):
        if is_largest:
            norms = np.ravel(abs(X).max(axis=1).todense())
        else:
            norms = np.sqrt(np.ravel(X.multiply(X).sum(axis=1)))
        per_entry = np.repeat(np.where(norms > 0, norms, 1.0), np.diff(X.indptr))
        X = type(X)((X.data / per_entry, X.indices, X.indptr), shape=X.shape)
    return X


def power_of_two(largest: float) -> np.float64:
    """Find the power of two that brings ``largest`` to between 1/2 and 1.

    Multiplication by it is exact and keeps the squares of finite data finite. It stops
    at 2**-1020 and 2**1020, which is near enough and keeps it a normal number.
    """
    exponent = -int(np.frexp(largest)[1])
    return np.ldexp(1.0, min(max(exponent, -1020), 1020))


def scale_down(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Bring values below 1/2 by a power of two; return its exponent as well.

    Sums and differences of two such values, and their squares, are finite. Nothing is
    rounded except values below 1e-308 of the largest.
    """
    exponent = int(np.frexp(np.abs(values).max())[1]) + 1
    return np.ldexp(values, -exponent), exponent


def compact(codes: Any) -> Any:
    """Make dense codes CSR if most are zeros: probes are then ten times faster."""
    if sp.issparse(codes) or np.count_nonzero(codes) > np.size(codes) / 4:
        return codes
    return sp.csr_matrix(codes)
