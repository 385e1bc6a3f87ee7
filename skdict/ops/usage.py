"""How often atoms are used, which are redundant, and how they are redrawn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from skdict.ops.sparse_code import SparseCode


def fire_counts(code: SparseCode, n_components: int) -> Tensor:
    """Rows on which each atom fired, that is, has a non-zero coefficient."""
    return torch.zeros(
        n_components, dtype=torch.int64, device=code.indices.device
    ).index_add_(0, code.indices.flatten(), (code.values != 0).flatten().long())


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
