"""Pursuit and updates of the atoms in closed form: K-SVD and MOD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import vector_norm

from skdict.models.dictionary import Objective
from skdict.models.pursuit import PursuitDictionary
from skdict.ops import SlotCode
from skdict.ops.chunks import rows_per_chunk
from skdict.ops.ragged import offsets_of, rows_of

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
        code = self.encode(x)
        objective = self.objective_of(x, code, target)
        if self.update == "mod":
            self._solve_(target - self.pre_bias, code)
        else:
            self._sweep_(target - objective.reconstruction, code, objective.fired)
        return objective

    def _sweep_(self, residual: Tensor, code: SlotCode, fired: Tensor) -> None:
        """Update atoms one by one: one power iteration of each rank-one problem."""
        counts, atoms, values = code.entries()
        rows = rows_of(offsets_of(counts), len(atoms))
        atoms, order = atoms.sort(stable=True)
        rows, values = rows[order], values[order]
        n_entries = torch.bincount(atoms, minlength=len(self.atoms)).tolist()
        parts = zip(rows.split(n_entries), values.split(n_entries), strict=True)
        all_parts = zip(self.atoms, parts, fired.tolist(), strict=True)
        for atom, (row, z), n_fired in all_parts:
            if n_fired == 0:
                continue
            # What the other atoms leave of the rows that use this one.
            left = residual.index_select(0, row).addr_(z, atom)
            direction = self.ranks.sum(torch.mv(left.T, z))
            norm = vector_norm(direction)
            if norm.item() > 0:
                atom.lerp_(direction / norm, self.step)
                atom.div_(vector_norm(atom))
            left.addr_(torch.mv(left, atom), atom, alpha=-1)
            residual.index_copy_(0, row, left)

    def _solve_(self, centred: Tensor, code: SlotCode) -> None:
        """All atoms at once: the least squares of the rows on their codes."""
        m = len(self.atoms)
        gram = self.atoms.new_zeros(m, m)
        n_rows = rows_per_chunk(centred, m)
        parts = zip(code.indices.split(n_rows), code.values.split(n_rows), strict=True)
        for indices, values in parts:
            z = SlotCode(indices, values).to_dense(m)
            gram.addmm_(z.T, z)
        gram = self.ranks.sum(gram)
        sums = self.ranks.sum(code.correlate(centred, m))
        used = gram.diagonal() > 0
        gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + (~used).to(gram))
        best = torch.linalg.solve(gram, sums)
        usable = used & best.isfinite().all(1) & best.any(1)
        best = torch.where(usable[:, None], F.normalize(best), self.atoms)
        self.atoms.lerp_(best, self.step)
