"""How a TopK autoencoder learns."""

from __future__ import annotations

import torch
from torch import Tensor

from skdict.ops.topk import decode_strongest
from skdict.training.net import DictionaryNet


class TopKNet(DictionaryNet):
    """Adam on all parameters, with the auxiliary loss that revives dead latents.

    Parameters
    ----------
    auxiliary_weight : float
        Weight of the auxiliary loss; 0 leaves it out.
    dead_after : int
        Rows without firing after which a latent counts as dead.
    """

    _carried = ("rows_since_fired",)

    def __init__(self, module, *, auxiliary_weight, dead_after, **kwargs):
        super().__init__(module, optimizer=torch.optim.Adam, **kwargs)
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after

    def start(self):
        super().start()
        self.rows_since_fired = torch.zeros_like(self.fired)
        return self

    def get_loss(self, y_pred, y_true, fired=None, **kwargs):
        loss = super().get_loss(y_pred, y_true)
        self.rows_since_fired += len(y_true)
        self.rows_since_fired.masked_fill_(fired > 0, 0)
        if self.auxiliary_weight == 0:
            return loss
        dead = (self.rows_since_fired >= self.dead_after).nonzero()[:, 0]
        if len(dead) == 0:
            return loss
        return loss + self.auxiliary_weight * self._auxiliary_loss(
            y_true, y_pred[0], dead
        )

    def _auxiliary_loss(self, x: Tensor, x_hat: Tensor, dead: Tensor) -> Tensor:
        """Squared error of the dead latents' rebuilding of the residual.

        Relative to the residual's own energy, as in Gao et al. (2024). Neither
        the residual nor the pre-bias takes part in the gradient.
        """
        module = self.module_
        residual = (x - x_hat).detach()
        rebuilt = decode_strongest(
            x - module.pre_bias.detach(),
            module.encoder[dead],
            module.encoder_bias[dead],
            module.atoms[dead],
            k=min(len(dead), module.k),
        )
        energy = residual.square().sum()
        error = (residual - rebuilt).square().sum()
        return error / torch.where(energy > 0, energy, 1.0)

    def adjust_gradients(self, batch, code):
        self.module_.project_gradient_()
