"""Matching pursuit as a layer: gradients flow through the choice of coefficients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from skdict.models.dictionary import Dictionary
from skdict.ops import Code
from skdict.ops.pursuit import choose_form, gram_matrix, matching_pursuit

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

    def __init__(self, atoms: Tensor, k: int) -> None:
        super().__init__(atoms)
        self.k = k
        self.gram: Tensor | None = None

    @property
    def constant_rate(self) -> float:
        return 0.8

    def encode(self, x: Tensor) -> Code:
        x = x - self.pre_bias
        with torch.no_grad():
            code = matching_pursuit(x, self.atoms, self.k, gram=self.gram)
        parts = (t.split(_ROWS) for t in (x, code.indices, code.values))
        values = [
            _Coefficients.apply(rows, self.atoms, picks, z)
            for rows, picks, z in zip(*parts, strict=True)
        ]
        return code.with_values(torch.cat(values)).coalesce()

    @torch.no_grad()
    def prepare_(self, n_rows: int) -> None:
        if choose_form(n_rows, self.atoms, self.k, 1) == "gram":
            self.gram = gram_matrix(self.atoms)


class _Coefficients(torch.autograd.Function):
    """The known coefficients ``z`` of picked atoms, with the gradients of the pursuit.

    They solve ``z_t = <d_t, x> - sum_(s < t) <d_t, d_s> z_s``, a triangular system
    ``L z = c`` whose diagonal is one. With ``lambda = L^-T dz``, its gradients are
    ``dc = lambda`` and ``dL = -lambda z^T`` below the diagonal.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dictionary: Tensor, picks: Tensor, z: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, dictionary, picks, z)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, dictionary, picks, z = ctx.saved_tensors
        atoms = F.embedding(picks, dictionary)
        gram = atoms @ atoms.mT
        of_c = torch.linalg.solve_triangular(
            gram.mT, grad[:, :, None], upper=True, unitriangular=True
        )
        of_gram = (of_c * z[:, None]).tril_(-1).neg_()
        of_atoms = (of_gram + of_gram.mT) @ atoms + of_c * x[:, None]
        of_dictionary = torch.zeros_like(dictionary).index_add_(
            0, picks.flatten(), of_atoms.flatten(0, 1)
        )
        return (of_c.mT @ atoms)[:, 0], of_dictionary, None, None
