"""Gradient descent on the atoms with the codes held fixed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skdict._utils.fitted import Array
from skdict.models.dictionary import Clock, Dictionary, Objective

# Weight of the newest batch in the running mean of the curvature.
_NEWEST = 0.05


class FixedCodeDictionary(Dictionary):
    """Base of the models whose encoder has no gradient.

    The gradient of each atom is divided by the mean square of its coefficients,
    which is the curvature of the loss along that atom. A learning rate of 1 then moves
    an atom that shares no row with another to its exact minimiser, and the rate needs
    no tuning to the data, to k or to how often an atom fires.

    The pre-bias is the mean of the rows and is not learned. With the codes held
    fixed, its gradient is the mean residual, which a greedy encoder does not bring
    to zero: a learned pre-bias would drift away from the rows, and the explained
    variance would fall.

    Every few steps, atoms that are of no use where they are are redrawn.

    Parameters
    ----------
    atoms
        As in :class:`Dictionary`.
    reset_every : int
        Steps between resets. No resets in the last ``reset_every`` steps: a new atom
        would not have time to learn.
    """

    # A step solves for its rows, so few will do.
    least_steps = 0

    curvature: Tensor
    fired_since_reset: Tensor
    counters = {
        "curvature": Array(("n_components",), low=0),
        "fired_since_reset": Array(("n_components",), kind="i", low=0),
    }
    optimizer = torch.optim.SGD
    # Its steps are large: a constant rate would end well above the least loss.
    stream_steps = 20

    def __init__(self, atoms: Tensor, *, reset_every: int) -> None:
        super().__init__(atoms)
        self.pre_bias.requires_grad_(False)
        self.reset_every = reset_every

    @torch.no_grad()
    def follow_(self, mean: Tensor) -> None:
        self.pre_bias.copy_(mean)

    def optimizer_options(self) -> dict[str, Any]:
        return {}

    def precondition_(self, objective: Objective) -> None:
        gradient = self.atoms.grad
        assert gradient is not None
        now = objective.code.mean_squares(len(self.atoms))
        now = self.ranks.mean(now, objective.fraction)
        self.curvature.lerp_(now, _NEWEST)
        # The larger of the two: where a rare atom fires, its running mean is too small.
        curvature = torch.maximum(now, self.curvature)
        gradient /= torch.where(curvature > 0, curvature, 1.0)[:, None]

    def maintain_(self, objective: Objective, clock: Clock) -> int | Tensor:
        super().maintain_(objective, clock)
        self.fired_since_reset += objective.fired
        left = clock.steps_left
        if clock.n_steps % self.reset_every or (
            left is not None and left < self.reset_every
        ):
            return 0
        return self.redraw_(clock.generator)

    @torch.no_grad()
    def redraw_(self, generator: torch.Generator) -> Tensor:
        """Redraw the atoms that are of no use; return their number."""
        useless, drawn = self.useless_atoms(generator)
        self.atoms.copy_(torch.where(useless[:, None], drawn, self.atoms))
        self.curvature.masked_fill_(useless, 0)
        self.fired_since_reset.zero_()
        return useless.sum()

    def useless_atoms(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mark atoms of no use, and draw an atom to replace each one, marked or not."""
        raise NotImplementedError
