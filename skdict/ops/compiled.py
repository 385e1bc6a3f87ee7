"""Batched orthogonal matching pursuit on the CPU, row by row in one compiled loop.

It does what the Gram form of :mod:`skdict.ops.pursuit` does, up to rounding. One pass
over the correlations of a row updates them and finds the largest of each group of
columns, while they are in the cache of the core.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skdict.ops.independence import CANDIDATES_PER_ATOM
from skdict.ops.slots import SlotCode

# Numbers of the Gram matrix that a call reads, from which on it is compiled. To import
# numba and to load the loop takes about a second, once in a process. Only sizes count,
# because the same call has to give the same codes in every process.
_ENOUGH_WORK = 1 << 27
# Atoms of a step, which are found by insertion.
_MOST = 32
# Rows that a thread takes at a time.
_ROWS = 64


@functools.cache
def has_compiler() -> bool:
    """Whether numba is installed, and for the other packages that are."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return False
    return True


def takes(x: Tensor, atoms_per_step: int) -> bool:
    """Whether there is a loop for such rows and steps."""
    floats = (torch.float32, torch.float64)
    return x.device.type == "cpu" and x.dtype in floats and atoms_per_step <= _MOST


def saves_time(n_numbers: int) -> bool:
    """Whether numba is there, and the Gram matrix is read often enough for it."""
    return n_numbers >= _ENOUGH_WORK and has_compiler()


def pursue(
    c: Tensor,
    gram: Tensor,
    energy: Tensor,
    enough: Tensor,
    k: int,
    atoms_per_step: int,
    *,
    absolute: bool,
    span_distance: float,
    subtract_last: bool,
) -> SlotCode:
    """Pick atoms for some rows, by all threads that torch may use.

    Parameters
    ----------
    c : Tensor of shape (n, M)
        Correlations of the rows with the atoms. They become those of the residuals;
        without ``subtract_last``, of the residuals before the last step.
    gram : Tensor of shape (M, M)
        ``W W^T``.
    energy, enough : Tensor of shape (n,)
        ``||r||^2`` of the rows, and at which of it a row stops.
    k, atoms_per_step
        As in :func:`skdict.ops.batched_omp`.
    absolute : bool
        Whether atoms are picked by the largest magnitude.
    span_distance
        As in :func:`skdict.ops.batched_omp`.
    subtract_last : bool
        Whether the correlations are needed after the last step.

    Returns
    -------
    SlotCode
        With k slots; an atom may be there more than once.
    """
    n = len(c)
    atoms_per_step = min(atoms_per_step, k)
    indices = c.new_zeros((n, k), dtype=torch.int64)
    values = c.new_zeros((n, k))
    tables = [t.numpy() for t in (c, energy, enough, indices, values)]
    ridge = 10 * torch.finfo(c.dtype).eps
    options = (k, atoms_per_step, absolute, float(span_distance), subtract_last, ridge)
    loop = _loop()

    def run(start: int) -> None:
        loop(
            *(table[start : start + _ROWS] for table in tables), gram.numpy(), *options
        )

    starts = range(0, n, _ROWS)
    n_threads = min(torch.get_num_threads(), len(starts))
    if n_threads <= 1:
        for start in starts:
            run(start)
    else:
        with ThreadPoolExecutor(n_threads) as threads:
            list(threads.map(run, starts))
    return SlotCode(indices, values)


@functools.cache
def _loop() -> Callable[..., None]:
    """Compile the loop; it is kept on disk where that can be written."""
    import numba

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(pursue_rows, cache=True, **options)
    except RuntimeError:  # there is no folder to write to
        return numba.njit(pursue_rows, **options)


def pursue_rows(
    c: np.ndarray,
    energy: np.ndarray,
    enough: np.ndarray,
    indices: np.ndarray,
    values: np.ndarray,
    gram: np.ndarray,
    k: int,
    atoms_per_step: int,
    absolute: bool,
    span_distance: float,
    subtract_last: bool,
    ridge: float,
) -> None:
    """Algorithm 1 for each row by itself: the loop that is compiled.

    Column j is in group j modulo the number of groups. The largest correlations lie in
    the groups with the largest maxima, as in :func:`skdict.ops.largest.largest`. Slots
    for which there was no atom far enough from the others stay empty.
    """
    m = c.shape[1]
    n_groups = min(m, 512)
    maxima = np.empty(n_groups, c.dtype)
    support = np.zeros(atoms_per_step + 5, np.int64)
    z = np.zeros(atoms_per_step + 5, c.dtype)
    most = min(CANDIDATES_PER_ATOM * atoms_per_step, m)
    best = np.empty(most, c.dtype)
    groups = np.zeros(most, np.int64)
    candidates = np.zeros(most, np.int64)
    b = np.empty(atoms_per_step, c.dtype)
    left = np.empty(atoms_per_step, c.dtype)
    factor = np.empty((atoms_per_step, atoms_per_step), c.dtype)
    for i in range(c.shape[0]):
        row = c[i]
        n_picked = n_last = 0
        z[:] = 0
        while True:
            # c(t+1) = c(t) - G z(t), five atoms at a time; the places after the last
            # atom have coefficient 0. Before the first step only the maxima are taken.
            for s in range(0, max(n_last, 1), 5):
                maxima[:] = -math.inf
                z0, z1, z2, z3, z4 = z[s], z[s + 1], z[s + 2], z[s + 3], z[s + 4]
                for start in range(0, m, n_groups):
                    stop = min(start + n_groups, m)
                    part = row[start:stop]
                    g0 = gram[support[s], start:stop]
                    g1 = gram[support[s + 1], start:stop]
                    g2 = gram[support[s + 2], start:stop]
                    g3 = gram[support[s + 3], start:stop]
                    g4 = gram[support[s + 4], start:stop]
                    for j in range(stop - start):
                        v = part[j] - z0 * g0[j] - z1 * g1[j] - z2 * g2[j]
                        v = v - z3 * g3[j] - z4 * g4[j]
                        part[j] = v
                        v = abs(v) if absolute else v
                        maxima[j] = v if v > maxima[j] else maxima[j]
            if n_picked == k or not energy[i] > enough[i]:
                break
            n = min(atoms_per_step, k - n_picked)
            # Where an atom is too close to the span of the better ones, a second time
            # with more candidates.
            n_candidates = n
            while True:
                # The groups with the largest maxima, and their largest entries.
                best[:n_candidates] = -math.inf
                for j in range(n_groups):
                    if maxima[j] > best[n_candidates - 1]:
                        p = n_candidates - 1
                        while p > 0 and best[p - 1] < maxima[j]:
                            best[p], groups[p] = best[p - 1], groups[p - 1]
                            p -= 1
                        best[p], groups[p] = maxima[j], j
                best[:n_candidates] = -math.inf
                for g in range(min(n_candidates, n_groups)):
                    for j in range(groups[g], m, n_groups):
                        v = abs(row[j]) if absolute else row[j]
                        if v > best[n_candidates - 1]:
                            p = n_candidates - 1
                            while p > 0 and best[p - 1] < v:
                                best[p], candidates[p] = best[p - 1], candidates[p - 1]
                                p -= 1
                            best[p], candidates[p] = v, j
                # Least squares of r(t) on those atoms: solve_normal_equations for one
                # row. The pivots are the squared distances from the span.
                is_sound = True
                n_found = 0
                for candidate in candidates[:n_candidates]:
                    p = n_found
                    square = gram[candidate, candidate]
                    for q in range(p):
                        v = gram[candidate, support[q]]
                        for o in range(q):
                            v -= factor[p, o] * factor[q, o]
                        factor[p, q] = v / factor[q, q]
                    v = square + ridge * n * square if square > 0 else 1.0
                    for o in range(p):
                        v -= factor[p, o] * factor[p, o]
                    if span_distance > 0 and v < span_distance**2 * square:
                        continue
                    if v > 0:
                        factor[p, p] = math.sqrt(v)
                    else:
                        is_sound = False
                        factor[p, p] = 1
                    support[p], b[p] = candidate, row[candidate]
                    n_found += 1
                    if n_found == n:
                        break
                if n_found == n or n_candidates == min(CANDIDATES_PER_ATOM * n, m):
                    break
                n_candidates = min(CANDIDATES_PER_ATOM * n, m)
            z[:] = 0
            for _ in range(2 if is_sound else 0):
                for p in range(n_found):
                    v = b[p]
                    for q in range(n_found):
                        v -= gram[support[p], support[q]] * z[q]
                    for q in range(p):
                        v -= factor[p, q] * left[q]
                    left[p] = v / factor[p, p]
                for p in range(n_found - 1, -1, -1):
                    v = left[p]
                    for q in range(p + 1, n_found):
                        v -= factor[q, p] * left[q]
                    left[p] = v / factor[p, p]
                for p in range(n_found):
                    z[p] += left[p]
            for p in range(n_found):
                indices[i, n_picked + p], values[i, n_picked + p] = support[p], z[p]
                energy[i] -= z[p] * b[p]
            n_picked += n
            n_last = n_found
            if n_picked == k and not subtract_last:
                break
