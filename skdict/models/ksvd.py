"""Pursuit and updates of the atoms in closed form: K-SVD and MOD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from skdict.models.dictionary import Objective
from skdict.models.pursuit import PursuitDictionary
from skdict.ops import Code
from skdict.ops.chunks import rows_per_chunk

# Of the mean diagonal: what keeps the Gram matrix of the codes regular.
_RIDGE = 1e-6


class KSVDDictionary(PursuitDictionary):
    """Atoms that are the best for the codes of a batch, not a step towards them.

    Parameters
    ----------
    atoms, k, atoms_per_step, selection, refit, reset_similarity, reset_every
        As in :class:`PursuitDictionary`.
    update : {"ksvd", "mod"}
        One atom after the other with its coefficients, or all atoms at once.
    step : float
        How far atoms move from where they are (0) to the closed form (1).
    """

    def __init__(
        self,
        atoms: Tensor,
        k: int,
        *,
        update: Literal["ksvd", "mod"] = "ksvd",
        step: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, k, **kwargs)
        self.update = update
        self.step = step

    @torch.no_grad()
    def step_(
        self, x: Tensor, target: Tensor, descend: Callable[[Objective], None]
    ) -> Objective:
        objective = self.objective(x, target)
        centred = target - self.pre_bias
        if self.update == "mod":
            self._solve_(centred, objective.code)
        else:
            self._sweep_(target - objective.reconstruction, objective.code)
        return objective

    def _sweep_(self, residual: Tensor, code: Code) -> None:
        """Update atoms one by one: one power iteration of each rank-one problem."""
        counts, atoms, values = code.entries()
        rows = torch.arange(len(code), device=counts.device).repeat_interleave(counts)
        atoms, order = atoms.sort(stable=True)
        rows, values = rows[order], values[order]
        n_entries = torch.bincount(atoms, minlength=len(self.atoms)).tolist()
        parts = zip(rows.split(n_entries), values.split(n_entries), strict=True)
        for atom, (row, z) in zip(self.atoms, parts, strict=True):
            if not len(row):
                continue
            # What the other atoms leave of the rows that use this one.
            left = residual[row].addr_(z, atom)
            direction = left.T @ z
            norm = direction.norm()
            if norm > 0:
                atom.lerp_(direction / norm, self.step)
                atom.div_(atom.norm())
            residual[row] = left.addr_(left @ atom, atom, alpha=-1)

    def _solve_(self, centred: Tensor, code: Code) -> None:
        """All atoms at once: the least squares of the rows on their codes."""
        m = len(self.atoms)
        gram, sums = self.atoms.new_zeros(m, m), torch.zeros_like(self.atoms)
        dense = code.to_dense(m)
        for z, x in zip(
            dense.split(rows_per_chunk(centred, m)),
            centred.split(rows_per_chunk(centred, m)),
            strict=True,
        ):
            gram.addmm_(z.T, z)
            sums.addmm_(z.T, x)
        used = gram.diagonal() > 0
        gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + (~used).to(gram))
        best = torch.linalg.solve(gram, sums)
        usable = used & best.isfinite().all(1) & best.any(1)
        best = torch.where(usable[:, None], F.normalize(best), self.atoms)
        self.atoms.lerp_(best, self.step)
