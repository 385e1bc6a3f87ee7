"""How a TopK autoencoder learns."""

from __future__ import annotations

import torch
from torch import Tensor

from skdict.ops.topk import decode_strongest
from skdict.training.net import DictionaryNet

# Steps between looks for dead latents on an accelerator; one that is revived in
# between stays in the auxiliary loss until the next.
_LOOK_FOR_DEAD_EVERY = 8


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
        device = module.atoms.device.type
        super().__init__(
            module,
            optimizer=torch.optim.Adam,
            optimizer__fused=device in ("cpu", "cuda"),  # a sixth of the time
            **kwargs,
        )
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after
        # An accelerator would have to be waited for.
        self.look_for_dead_every = 1 if device == "cpu" else _LOOK_FOR_DEAD_EVERY

    def start(self):
        super().start()
        self.rows_since_fired = torch.zeros_like(self.fired)
        self.dead = self.rows_since_fired[:0]
        return self

    def get_loss(self, y_pred, y_true, fired=None, **kwargs):
        loss = super().get_loss(y_pred, y_true)
        self.rows_since_fired += len(y_true)
        self.rows_since_fired.masked_fill_(fired > 0, 0)
        if self.auxiliary_weight == 0:
            return loss
        if self.n_steps % self.look_for_dead_every == 0:
            is_dead = self.rows_since_fired >= self.dead_after
            self.dead = is_dead.nonzero()[:, 0]
        if len(self.dead) == 0:
            return loss
        return loss + self.auxiliary_weight * self._auxiliary_loss(y_true, y_pred[0])

    def _auxiliary_loss(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Half the squared error of the dead latents' rebuilding of the residual.

        Relative to the residual's own energy, as in Gao et al. (2024); half of it,
        as the main loss is half a squared error, too. Neither the residual nor the
        pre-bias takes part in the gradient.
        """
        module = self.module_
        residual = (x - x_hat).detach()
        rebuilt = decode_strongest(
            x - module.pre_bias.detach(),
            module.encoder[self.dead],
            module.encoder_bias[self.dead],
            module.atoms[self.dead],
            k=min(len(self.dead), module.k),
        )
        energy = residual.square().sum()
        error = (residual - rebuilt).square().sum()
        return error / torch.where(energy > 0, energy, 1.0) / 2

    def adjust_gradients(self, batch, code):
        self.module_.project_gradient_()
