"""The TopK sparse autoencoder, whose dead latents learn what the others leave."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from skdict._utils.fitted import Array
from skdict.models.autoencoder import Autoencoder
from skdict.models.dictionary import Clock, Objective
from skdict.ops import Code
from skdict.ops.topk import decode_strongest, topk_encode

# Number of steps between looks for dead latents on an accelerator, because each look
# waits for it. A latent that revives in between stays in the auxiliary loss.
_LOOK_FOR_DEAD_EVERY = 8


class TopKAutoencoder(Autoencoder):
    """A sparse autoencoder that keeps the ``k`` largest latents of a row.

    Parameters
    ----------
    atoms, scale_encoder, autocast, training_factor
        As in :class:`Autoencoder`.
    k : float
        Largest number of non-zeros of a code.
    selection : {"positive", "absolute"}, default="positive"
        As in :func:`skdict.ops.topk.topk_encode`.
    auxiliary_weight : float, default=0.0
        Weight of the auxiliary loss; 0 leaves it out.
    dead_after : float, default=inf
        Number of rows without firing after which a latent counts as dead.
    """

    rows_since_fired: Tensor
    dead: Tensor
    k: float
    counters = {"rows_since_fired": Array(("n_components",), kind="i", low=0)}

    def __init__(
        self,
        atoms: Tensor,
        k: float,
        *,
        selection: Literal["positive", "absolute"] = "positive",
        auxiliary_weight: float = 0.0,
        dead_after: float = torch.inf,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, **kwargs)
        self.k = k
        self.selection = selection
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after
        # Indices of the latents that were dead at the last look on an accelerator.
        self.register_buffer("dead", self.rows_since_fired[:0], persistent=False)

    @property
    def trains_with_other_codes(self) -> bool:
        return self._k_in_training != round(self.k)

    @property
    def _k_in_training(self) -> int:
        return round(self.wanted)

    def encode(self, x: Tensor) -> Code:
        return topk_encode(
            self.centred(x),
            self.encoder,
            self.bias,
            self._k_in_training if self.training else round(self.k),
            self.selection,
            self.autocast,
        )

    def objective_of(self, x: Tensor, code: Code, target: Tensor) -> Objective:
        plain = super().objective_of(x, code, target)
        plain = plain._replace(counters={"rows_since_fired": self._silence(plain)})
        if self.auxiliary_weight == 0:
            return plain
        dead = self._dead_latents(plain)
        if len(dead) == 0:
            return plain
        residual = target - plain.reconstruction
        auxiliary = self.auxiliary_weight * self._auxiliary_loss(
            x, residual, dead, plain.fraction
        )
        return plain._replace(loss=plain.loss + auxiliary)

    def _dead_latents(self, objective: Objective) -> Tensor:
        if not self._is_on_cpu:
            return self.dead
        silence = objective.counters["rows_since_fired"]
        return (silence >= self.dead_after).nonzero()[:, 0]

    @property
    def _is_on_cpu(self) -> bool:
        return self.atoms.device.type == "cpu"

    def _silence(self, objective: Objective) -> Tensor:
        """Number of rows since each latent fired, this batch included."""
        silence = self.rows_since_fired + objective.n_rows
        return silence.masked_fill_(objective.fired > 0, 0)

    def _auxiliary_loss(
        self, x: Tensor, residual: Tensor, dead: Tensor, fraction: float | Tensor = 1.0
    ) -> Tensor:
        """Half the squared error with which dead latents rebuild the residual.

        It is relative to the squared residual, as in Gao et al. (2024), and halved
        because the main loss is half a squared error, too. No gradient flows to the
        residual or the pre-bias.
        """
        residual = residual.detach()
        rebuilt = decode_strongest(
            self.centred(x),
            self.encoder[dead],
            self.encoder_bias[dead],
            self.atoms[dead],
            k=min(len(dead), max(1, round(self.k))),
        )
        # As the gradients of the processes are averaged, each takes its fraction of the
        # energy of all.
        energy = self.ranks.sum(residual.square().sum())
        energy = (energy * fraction).to(residual.dtype)
        error = (residual - rebuilt).square().sum()
        return error / torch.where(energy > 0, energy, 1.0) / 2

    @torch.no_grad()
    def maintain_(self, objective: Objective, clock: Clock) -> int | Tensor:
        n_redrawn = super().maintain_(objective, clock)
        if not self._is_on_cpu and clock.n_steps % _LOOK_FOR_DEAD_EVERY == 0:
            self.dead = (self.rows_since_fired >= self.dead_after).nonzero()[:, 0]
        return n_redrawn
