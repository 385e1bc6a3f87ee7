"""The gated autoencoder: one path decides what fires, another how much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from skdict._utils.fitted import Array
from skdict.models.autoencoder import Autoencoder, nth_largest
from skdict.models.dictionary import ATOMS, Objective, Parameter, half_squared_error
from skdict.models.penalised import PenalisedAutoencoder
from skdict.ops import Code


class GatedAutoencoder(PenalisedAutoencoder):
    """``z = 1[p > 0] relu(exp(r) W_enc (x - b_pre) + b_mag)``.

    ``p = W_enc (x - b_pre) + b_enc`` is the gate. The loss adds the penalty
    ``||relu(p)||_1``, and half the squared error of what ``relu(p)`` rebuilds with
    atoms and pre-bias held fixed: the gate has no gradient from the reconstruction.

    Parameters
    ----------
    atoms, scale_encoder, autocast, training_factor, alpha, k
        As in :class:`PenalisedAutoencoder`.
    """

    fitted = {
        **Autoencoder.fitted,
        "log_gain": Parameter("log_gain_", Array(ATOMS[:1])),
        "magnitude_bias": Parameter("magnitude_bias_", Array(ATOMS[:1])),
    }

    def __init__(self, atoms: Tensor, **kwargs: Any) -> None:
        super().__init__(atoms, **kwargs)
        self.log_gain = nn.Parameter(torch.zeros_like(self.encoder_bias))
        self.magnitude_bias = nn.Parameter(torch.zeros_like(self.encoder_bias))

    def encode(self, x: Tensor) -> Code:
        return self._gate(x)[1]

    def _gate(self, x: Tensor) -> tuple[Code, Code]:
        """The open gates, and the code."""
        gate = self.latents_above(x, 0.0)
        linear = gate.values - gate.at(self.encoder_bias)
        magnitude = linear * gate.at(self.log_gain.exp()) + gate.at(self.magnitude_bias)
        is_open = gate.values.detach() > 0
        code = gate.with_values(magnitude.relu() * is_open)
        return gate.with_values(gate.values.relu()), code

    def objective(self, x: Tensor, target: Tensor) -> Objective:
        gate, code = self._gate(x)
        plain = self.objective_of(x, code, target)
        by_gate = gate.decode(self.atoms.detach()) + self.offset(x).detach()
        auxiliary = half_squared_error(by_gate, target)
        penalty = self.weight * gate.values.sum() / len(x)
        return plain._replace(loss=plain.loss + auxiliary + penalty)

    @property
    def is_judged_calibrated(self) -> bool:
        return self.aim is not None

    @torch.no_grad()
    def calibrate_(
        self, batches: Iterable[Tensor], n_rows: int, *, wanted: float | None = None
    ) -> bool:
        if self.aim is None:
            return False
        gates = (self.pre_activations(x) for x in batches)
        self.encoder_bias.sub_(nth_largest(gates, round((wanted or self.aim) * n_rows)))
        return True

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.magnitude_bias.mul_(factor)
