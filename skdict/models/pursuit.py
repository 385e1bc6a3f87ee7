"""Batched orthogonal matching pursuit as the encoder, gradient descent on the atoms."""

from __future__ import annotations

import torch
from torch import Tensor

from skdict.models.fixed_code import FixedCodeDictionary
from skdict.ops import SlotCode
from skdict.ops.atoms import random_unit_rows, redundant_atoms
from skdict.ops.pursuit import Refit, Selection, batched_omp, choose_form, gram_matrix


class PursuitDictionary(FixedCodeDictionary):
    """Codes by batched orthogonal matching pursuit; redundant atoms are redrawn.

    Parameters
    ----------
    atoms
        As in :class:`Dictionary`.
    k : int
        Largest number of non-zeros of a code.
    atoms_per_step, selection, span_distance, refit
        As in :func:`skdict.ops.batched_omp`.
    positive_code : bool, default=False
        Whether coefficients that come out negative become zero.
    training_k : int, default=None
        Largest number of non-zeros of a code in training, where atoms are picked in as
        many steps as later. None means k.
    reset_similarity : float
        Of two atoms with a larger cosine similarity, one is redrawn.
    reset_every
        As in :class:`FixedCodeDictionary`.
    """

    def __init__(
        self,
        atoms: Tensor,
        k: int,
        *,
        atoms_per_step: int = 5,
        selection: Selection = "positive",
        span_distance: float = 0.0,
        refit: Refit = False,
        positive_code: bool = False,
        training_k: int | None = None,
        reset_similarity: float = 0.9,
        reset_every: int = 100,
    ) -> None:
        super().__init__(atoms, reset_every=reset_every)
        self.k = k
        self.atoms_per_step = atoms_per_step
        self.selection = selection
        self.span_distance = span_distance
        self.refit = refit
        self.positive_code = positive_code
        self.training_k = training_k
        self.reset_similarity = reset_similarity
        self.gram: Tensor | None = None

    def encode(self, x: Tensor) -> SlotCode:
        k, atoms_per_step = self.k, self.atoms_per_step
        if self.training and self.training_k is not None:
            n_steps = -(-k // atoms_per_step)
            k, atoms_per_step = self.training_k, -(-self.training_k // n_steps)
        code = batched_omp(
            x - self.pre_bias,
            self.atoms,
            k,
            atoms_per_step=atoms_per_step,
            selection=self.selection,
            span_distance=self.span_distance,
            refit=self.refit,
            gram=self.gram,
        )
        return code.with_values(code.values.relu()) if self.positive_code else code

    @torch.no_grad()
    def prepare_(self, n_rows: int) -> None:
        """Compute the Gram matrix once, if that saves time for this many rows."""
        if choose_form(n_rows, self.atoms, self.k, self.atoms_per_step) == "gram":
            self.gram = gram_matrix(self.atoms)

    @property
    def trains_with_other_codes(self) -> bool:
        return self.training_k is not None

    def useless_atoms(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mark one atom of each redundant pair; draw from the unit sphere."""
        redundant = redundant_atoms(
            self.atoms, self.reset_similarity, self.fired_since_reset
        )
        drawn = random_unit_rows(
            (len(redundant), self.atoms.shape[1]), generator, self.atoms.dtype
        )
        return redundant, drawn.to(self.atoms.device)
