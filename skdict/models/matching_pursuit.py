"""Matching pursuit as a layer: gradients flow through the choice of coefficients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from skdict.models.dictionary import Dictionary
from skdict.ops import Code, SlotCode
from skdict.ops.pursuit import choose_form, gram_matrix, picks_in_order

_ROWS = 512  # of which the picked atoms are gathered at once


class MatchingPursuit(Dictionary):
    """``k`` times: the atom that correlates most with the residual, and its part.

    Parameters
    ----------
    atoms
        As in :class:`Dictionary`.
    k : int
        Steps, and most non-zeros of a code.
    """

    constant_rate = 0.8

    def __init__(self, atoms: Tensor, k: int) -> None:
        super().__init__(atoms)
        self.k = k
        self.gram: Tensor | None = None

    def encode(self, x: Tensor) -> Code:
        x = x - self.pre_bias
        with torch.no_grad():
            picks = picks_in_order(x, self.atoms, self.k, gram=self.gram)
        parts = zip(x.split(_ROWS), picks.split(_ROWS), strict=True)
        values = torch.cat([self._coefficients(*part) for part in parts])
        return SlotCode(picks, values).coalesce()

    def _coefficients(self, x: Tensor, picks: Tensor) -> Tensor:
        """What matching pursuit gives the picked atoms, differentiably.

        ``z_t = <d_t, x> - sum_(s < t) <d_t, d_s> z_s`` is a triangular system.
        """
        atoms = F.embedding(picks, self.atoms)
        correlations = (atoms @ x[:, :, None])[:, :, 0]
        gram = atoms @ atoms.mT
        z = torch.linalg.solve_triangular(
            gram, correlations[:, :, None], upper=False, unitriangular=True
        )
        return z[:, :, 0]

    @torch.no_grad()
    def prepare_(self, n_rows: int) -> None:
        if choose_form(n_rows, self.atoms, self.k, 1) == "gram":
            self.gram = gram_matrix(self.atoms)
