"""Supports whose atoms are far enough from each other's span.

Least squares on atoms that nearly depend on each other gives large coefficients that
cancel. Symbols: ``G`` the Gram matrix of the atoms picked in one step, best first, and
``L L^T = G`` its Cholesky factors. ``L[i, i] / |W_i|`` is the distance of atom ``i``,
scaled to unit norm, from the span of the better ones: the sine of its angle to it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skdict.ops.largest import largest

# How many of the best atoms are looked at for each that a step picks.
CANDIDATES_PER_ATOM = 4


def maybe_dependent(gram: Tensor, distance: float) -> Tensor:
    """Find rows in which an atom may be too close to the span of the better ones.

    Parameters
    ----------
    gram : Tensor of shape (n, s, s)
        Gram matrices of the atoms picked, in any order.
    distance : float
        Least distance allowed, between 0 and 1.

    Returns
    -------
    Tensor of shape (n_found,), int64

    Notes
    -----
    No distance exceeds 1. Where the product of all of them, which does not depend on
    the order, is large enough, each of them is.
    """
    pivots = torch.linalg.cholesky_ex(gram).L.diagonal(dim1=1, dim2=2).square()
    volume = (pivots / gram.diagonal(dim1=1, dim2=2)).prod(1)
    # Not `volume < ...`, because a factor that failed holds NaN.
    return (~(volume >= distance**2)).nonzero()[:, 0]


def independent_support(
    scores: Tensor,
    size: int,
    distance: float,
    square_norms: Tensor,
    products: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Pick the best atoms, but none too close to the span of the better ones.

    Parameters
    ----------
    scores : Tensor of shape (n, M)
        What to pick atoms by.
    size : int
        Number of atoms to pick in each row.
    distance : float
        Least distance of an atom from the span of the better ones, over its norm.
    square_norms : Tensor of shape (M,)
        Those of the atoms.
    products : callable
        Gives the inner products (n, s) of one atom a row, (n,), with others, (n, s).

    Returns
    -------
    support : Tensor of shape (n, size), int64
        The best atom first.
    valid : Tensor of shape (n, size), bool
        False where the candidates, the best ``4 * size`` atoms of the row, did not
        suffice; such a slot stays empty.
    """
    n_candidates = min(CANDIDATES_PER_ATOM * size, scores.shape[1])
    candidates = largest(scores, n_candidates)
    best_first = scores.gather(1, candidates).argsort(dim=1, descending=True)
    candidates = candidates.gather(1, best_first)
    square = square_norms[candidates]
    least = distance**2 * square
    # Columns of L for all candidates, as if each of them were the next atom. What is
    # too close to the span of some atoms stays so when others join them.
    factor: list[Tensor] = []
    left = torch.ones_like(candidates, dtype=torch.bool)
    picks, valid = [], []
    for _ in range(size):
        left = left & (square >= least)
        pick = left.byte().argmax(1, keepdim=True)  # the first one
        found = left.gather(1, pick)
        column = products(candidates.gather(1, pick)[:, 0], candidates)
        for before in factor:
            column = column - before.gather(1, pick) * before
        pivot = column.gather(1, pick).clamp(torch.finfo(column.dtype).tiny)
        column = column * (found / pivot.sqrt())
        factor.append(column)
        square = square - column.square()
        left = left.scatter(1, pick, False)
        picks.append(pick)
        valid.append(found)
    return candidates.gather(1, torch.cat(picks, 1)), torch.cat(valid, 1)
