"""The JumpReLU autoencoder: a threshold for each latent, learned straight through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from skdict._utils.fitted import Array
from skdict.models.autoencoder import Autoencoder, nth_largest
from skdict.models.dictionary import ATOMS, Objective, Parameter
from skdict.models.penalised import PenalisedAutoencoder
from skdict.ops import Code

# Where the thresholds start, if no sparsity tells (Rajamanoharan et al. 2024).
_FIRST_THRESHOLD = 1e-3
# Where less than this fraction of the wanted latents is active, the penalty's weight
# falls by this much for each missing fraction.
_FEW, _LIFT = 0.9, 0.1
# Thresholds and biases go this fraction of Adam's way. At the pace of the weights,
# whole latents fall silent before their weights have learned.
_SLOW = 0.1


class JumpReLUAutoencoder(PenalisedAutoencoder):
    """``z = a`` where ``a > threshold``, else 0; the penalty is ``||z||_0``.

    With ``k``, its weight becomes negative where far fewer latents are active. A weight
    that can only fall to zero does not bring thresholds down that have become too high,
    for too few pre-activations lie near them.

    Parameters
    ----------
    atoms, scale_encoder, autocast, training_factor, alpha, k
        As in :class:`PenalisedAutoencoder`.
    bandwidth : float
        Width around a threshold in which pre-activations tell its gradient.
    """

    fitted = {
        **Autoencoder.fitted,
        "threshold": Parameter("threshold_", Array(ATOMS[:1], low=0)),
    }

    def __init__(
        self, atoms: Tensor, *, bandwidth: float, alpha: float = 0.005, **kwargs: Any
    ) -> None:
        super().__init__(atoms, alpha=alpha, **kwargs)
        self.bandwidth = bandwidth
        self.threshold = nn.Parameter(atoms.new_full((len(atoms),), _FIRST_THRESHOLD))

    @property
    def weight(self) -> Tensor:
        if self.k is None:
            return super().weight
        share = self.active * self.known_excess / self.wanted
        return super().weight + self.warm_up * _LIFT * (share - _FEW).clamp(max=0)

    def encode(self, x: Tensor) -> Code:
        return self._jump(x, 0.0)[0]

    def _jump(self, x: Tensor, below: float) -> tuple[Code, Tensor]:
        """The code, and how many of its latents are active.

        ``below`` is how far under their threshold pre-activations take part.
        """
        code = self.latents_above(x, self.threshold.detach() - below)
        threshold = code.at(self.threshold)
        values, n_active = _JumpReLU.apply(code.values, threshold, self.bandwidth)
        return code.with_values(values), n_active

    def objective(self, x: Tensor, target: Tensor) -> Objective:
        code, n_active = self._jump(x, self.bandwidth / 2)
        plain = self.objective_of(x, code, target)
        penalty = self.weight * n_active / len(x)
        return plain._replace(loss=plain.loss + penalty)

    def step_(
        self, x: Tensor, target: Tensor, descend: Callable[[Objective], None]
    ) -> Objective:
        if self.aim is None:  # all thresholds start near zero, and have far to go
            return super().step_(x, target, descend)
        slow = self.threshold, self.encoder_bias, self.pre_bias
        before = [parameter.detach().clone() for parameter in slow]
        objective = super().step_(x, target, descend)
        with torch.no_grad():
            for parameter, old in zip(slow, before, strict=True):
                parameter.lerp_(old, 1 - _SLOW)
        return objective

    @torch.no_grad()
    def project_(self) -> None:
        super().project_()
        self.threshold.clamp_(min=0)

    @property
    def is_judged_calibrated(self) -> bool:
        return self.aim is not None

    @property
    def constant_rate(self) -> float:
        return 0.0 if self.aim is None else 0.8

    @torch.no_grad()
    def calibrate_(
        self, batches: Iterable[Tensor], n_rows: int, *, wanted: float | None = None
    ) -> bool:
        if self.aim is None:
            return False
        # Where all are zero, as a model by hand may have them, no factor moves them.
        self.threshold.clamp_(min=torch.finfo(self.threshold.dtype).eps)
        ratios = (self.pre_activations(x) / self.threshold for x in batches)
        factor = nth_largest(ratios, round((wanted or self.aim) * n_rows))
        self.threshold.mul_(factor.clamp(min=0))
        return True

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.threshold.mul_(factor)


class _JumpReLU(torch.autograd.Function):
    """``a 1[a > t]`` and the sum of ``1[a > t]``, with pseudo-derivatives for ``t``.

    Rajamanoharan et al. (2024), equations 11 and 12, with a rectangle as the kernel.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, threshold: Tensor, bandwidth: float
    ) -> tuple[Tensor, Tensor]:
        above = values > threshold
        ctx.save_for_backward(values, threshold, above)
        ctx.bandwidth = bandwidth
        return values * above, above.sum().to(values)

    @staticmethod
    def backward(
        ctx: Any, grad_values: Tensor, grad_sum: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        values, threshold, above = ctx.saved_tensors
        # One for a pre-activation near the threshold, else zero.
        near = (values - threshold).abs_().le_(ctx.bandwidth / 2)
        n_near = near.sum_to_size(threshold.shape)
        grad_near = (near * grad_values).sum_to_size(threshold.shape)
        grad_threshold = -(threshold * grad_near + grad_sum * n_near) / ctx.bandwidth
        return grad_values * above, grad_threshold, None
