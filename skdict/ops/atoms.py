"""Finding redundant atoms, and drawing new ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def redundant_atoms(atoms: Tensor, similarity: float, usage: Tensor) -> Tensor:
    """Mark one atom of every pair whose cosine similarity exceeds a threshold.

    Of a pair, the atom that fired less often is marked, the later one on a tie.

    Parameters
    ----------
    atoms : Tensor of shape (M, d)
        Unit rows.
    similarity : float
        Cosine similarity above which a pair is redundant.
    usage : Tensor of shape (M,)
        How often each atom fired.

    Returns
    -------
    Tensor of shape (M,), bool
    """
    by_usage = usage.argsort(descending=True, stable=True)
    ranked = atoms[by_usage]
    rank = torch.arange(len(atoms), device=atoms.device)
    redundant = torch.empty_like(rank, dtype=torch.bool)
    # Blocks of rows, because the (M, M) similarities need not fit in memory.
    for block in rank.split(_BLOCK):
        similar = ranked[block] @ ranked[: block[-1]].T > similarity
        better = rank[: block[-1]] < block[:, None]
        redundant[by_usage[block]] = (similar & better).any(1)
    return redundant


_BLOCK = 2048


def random_unit_rows(
    shape: tuple[int, int], generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Rows drawn uniformly from the unit sphere, on the generator's device."""
    rows = torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)
    return F.normalize(rows)


def unit_rows(rows: Tensor) -> Tensor:
    """Scale rows, none of which may be zero, to unit norm whatever their magnitude."""
    return F.normalize(rows / rows.abs().amax(1, keepdim=True))
