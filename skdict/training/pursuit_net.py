"""How the atoms of a pursuit dictionary learn."""

from __future__ import annotations

import torch

from skdict.ops.usage import random_unit_rows, redundant_atoms
from skdict.training.net import DictionaryNet

# Weight of the newest batch in the running mean of the curvature.
_NEWEST = 0.05


class PursuitNet(DictionaryNet):
    """Gradient descent on the atoms with the codes held fixed.

    The gradient of each atom is divided by the mean square of its coefficients,
    which is the curvature of the loss along that atom: a learning rate of 1 is
    the exact minimiser for an atom that shares no row with another. The
    rate thus needs no tuning to the data, to k or to how often an atom fires.

    Parameters
    ----------
    reset_similarity : float
        Of two atoms with a larger cosine similarity, one is redrawn.
    reset_every : int
        Steps between resets; none in the last so many steps, in which a new atom
        would not have the time to learn.
    """

    _carried = ("curvature", "fired_since_reset")
    # Its steps are large: a constant rate would end well above the least loss.
    _stream_steps = 20

    def __init__(self, module, *, reset_similarity=0.9, reset_every=100, **kwargs):
        super().__init__(module, optimizer=torch.optim.SGD, **kwargs)
        self.reset_similarity = reset_similarity
        self.reset_every = reset_every

    def start(self):
        super().start()
        self.curvature = torch.zeros_like(self.module_.pre_bias).new_zeros(
            len(self.module_.atoms)
        )
        self.fired_since_reset = torch.zeros_like(self.fired)
        return self

    def adjust_gradients(self, batch, code):
        now = torch.zeros_like(self.curvature).index_add_(
            0, code.indices.flatten(), code.values.square().flatten() / len(batch)
        )
        self.curvature.lerp_(now, _NEWEST)
        # Of the two the larger: a rare atom fires above its own average.
        curvature = torch.maximum(now, self.curvature)
        self.module_.atoms.grad /= torch.where(curvature > 0, curvature, 1.0)[:, None]

    def after_step(self, fired):
        self.fired_since_reset += fired
        due = self.n_steps % self.reset_every == 0
        if due and (self.steps_left is None or self.steps_left >= self.reset_every):
            self.redraw_redundant()

    def redraw_redundant(self) -> None:
        """Redraw one atom of each redundant pair uniformly from the unit sphere."""
        atoms = self.module_.atoms
        redundant = redundant_atoms(
            atoms, self.reset_similarity, self.fired_since_reset
        )
        drawn = random_unit_rows(atoms.shape, self.generator, atoms.dtype)
        atoms.copy_(torch.where(redundant[:, None], drawn.to(atoms.device), atoms))
        self.curvature.masked_fill_(redundant, 0)
        self.fired_since_reset.zero_()
        self.n_resets = self.n_resets + redundant.sum()
