"""The ReLU autoencoder with an L1 penalty."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from skdict.models.autoencoder import nth_largest
from skdict.models.dictionary import Objective
from skdict.models.penalised import PenalisedAutoencoder
from skdict.ops import Code


class ReLUAutoencoder(PenalisedAutoencoder):
    """``z = relu(W_enc (x - b_pre) + b_enc)``; the penalty is ``||z||_1``.

    Parameters
    ----------
    atoms, scale_encoder, autocast, training_factor, alpha, k
        As in :class:`PenalisedAutoencoder`.

    The last epoch is kept even where ``k`` makes epochs comparable: the penalty shrinks
    what it leaves, so early epochs, on which it weighs little, would win.
    """

    # The weight of the penalty moves in each step, and with it what shrinks.
    least_steps = 0

    @property
    def constant_rate(self) -> float:
        return 0.0 if self.aim is None else 0.8

    def encode(self, x: Tensor) -> Code:
        code = self.latents_above(x, 0.0)
        return code.with_values(code.values.relu())

    def objective(self, x: Tensor, target: Tensor) -> Objective:
        plain = super().objective(x, target)
        penalty = self.weight * plain.code.values.sum() / len(x)
        return plain._replace(loss=plain.loss + penalty)

    def unshrink_(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
        # Between two parts of a stream, the penalty would only shrink it again.
        if self.aim is None or self.in_stream or self.frozen_encoder:
            return False
        self.scale_encoder_(pairs)
        return True

    @torch.no_grad()
    def calibrate_(
        self, batches: Iterable[Tensor], n_rows: int, *, wanted: float | None = None
    ) -> bool:
        # At the start, too: with k active latents from the first step, the penalty need
        # not grow until it has silenced the others, and shrunk those that stay.
        if self.aim is None:
            return False
        activations = (self.pre_activations(x) for x in batches)
        n_active = round((wanted or self.aim) * n_rows)
        self.encoder_bias.sub_(nth_largest(activations, n_active))
        return True
