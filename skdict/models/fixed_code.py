"""Gradient descent on the atoms with the codes held fixed."""

from __future__ import annotations

import torch
from torch import Tensor

from skdict._utils.fitted import Array
from skdict.models.dictionary import Dictionary, Objective

# Weight of the newest batch in the running mean of the curvature.
_NEWEST = 0.05


class FixedCodeDictionary(Dictionary):
    """Base of the models whose encoder has no gradient.

    The gradient of each atom is divided by the mean square of its coefficients,
    which is the curvature of the loss along that atom: a learning rate of 1 is
    the exact minimiser for an atom that shares no row with another. The
    rate thus needs no tuning to the data, to k or to how often an atom fires.

    The pre-bias is the mean of the rows and is not learned. With the codes held
    fixed, its gradient is the mean residual, which a greedy encoder does not bring
    to zero: the pre-bias would leave the rows step by step, and the explained
    variance would fall with it.
    """

    curvature: Tensor
    counters = {"curvature": Array(("n_components",), low=0)}
    optimizer = torch.optim.SGD
    # Its steps are large: a constant rate would end well above the least loss.
    stream_steps = 20

    def __init__(self, atoms: Tensor) -> None:
        super().__init__(atoms)
        self.pre_bias.requires_grad_(False)

    @torch.no_grad()
    def follow_(self, mean: Tensor) -> None:
        self.pre_bias.copy_(mean)

    def precondition_(self, objective: Objective) -> None:
        gradient = self.atoms.grad
        assert gradient is not None
        now = objective.code.mean_squares(len(self.atoms))
        self.curvature.lerp_(now, _NEWEST)
        # Of the two the larger: a rare atom fires above its own average.
        curvature = torch.maximum(now, self.curvature)
        gradient /= torch.where(curvature > 0, curvature, 1.0)[:, None]
