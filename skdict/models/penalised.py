"""Autoencoders with a penalty on the code, and the controller of its weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skdict._utils.fitted import Array
from skdict.models.autoencoder import Autoencoder
from skdict.models.dictionary import Clock, Objective
from skdict.ops import Code
from skdict.ops.linear import linear_encode

# The penalty rises from zero over this fraction of the steps; in a stream, over this
# number of steps.
_WARM_UP, _STREAM_WARM_UP = 0.1, 100
# A step changes the logarithm of the weight by this fraction of the logarithm of
# (active latents / wanted active latents).
_GAIN = 0.02
# Weight of the newest batch in the running mean of active latents.
_NEWEST = 0.05


class PenalisedAutoencoder(Autoencoder):
    """The loss adds ``weight`` times a penalty; ``weight`` can aim at a sparsity.

    Parameters
    ----------
    atoms, scale_encoder, autocast, training_factor
        As in :class:`Autoencoder`.
    alpha : float
        Weight of the penalty, for rows that spread 1 around their centre.
    k : float or None
        Wanted mean number of active latents. The weight then starts at ``alpha`` and
        moves until that many are active. They are counted on the held-out rows, if
        there are any: rows from which nothing is learned activate more latents.
    """

    warm_up: Tensor
    log_factor: Tensor
    active: Tensor
    excess: Tensor
    counters = {
        "warm_up": Array((), low=0, high=1),  # fraction of the weight that is in force
        "log_factor": Array(()),  # log(weight / alpha)
        "active": Array((), low=0),  # active latents of a row, running mean
        "excess": Array((), low=0),  # the same on held-out rows / active; 0: unknown
    }

    def __init__(
        self,
        atoms: Tensor,
        *,
        alpha: float,
        k: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, **kwargs)
        self.alpha = alpha
        self.k = k

    @property
    def aim(self) -> float | None:
        """``k``, if fewer active latents are wanted than there are."""
        return None if self.k is None or self.k >= len(self.atoms) else self.k

    @property
    def is_settling(self) -> bool:
        return bool(self.warm_up < 1)

    @property
    def keeps_best_epoch(self) -> bool:
        # Otherwise epochs with sparser codes explain less.
        return self.is_judged_calibrated

    @property
    def known_excess(self) -> Tensor:
        """``excess``, or 1 while it is unknown."""
        return torch.where(self.excess > 0, self.excess, 1.0)

    def latents_above(self, x: Tensor, floor: Tensor | float) -> Code:
        """Pre-activations that lie above a floor."""
        return linear_encode(
            self.centred(x), self.encoder, self.bias, floor, self.autocast
        )

    @property
    def weight(self) -> Tensor:
        """Weight of the penalty in this step."""
        return self.warm_up * self.alpha * self.log_factor.exp()

    @torch.no_grad()
    def maintain_(self, objective: Objective, clock: Clock) -> int | Tensor:
        last = clock.last_step
        rise = _STREAM_WARM_UP if last is None else _WARM_UP * last
        self.warm_up.fill_(min(1.0, clock.n_steps / max(1.0, rise)))
        if self.k is not None:
            active = objective.fired.sum() / objective.n_rows
            self.active.lerp_(active.to(self.active), _NEWEST)
            ratio = active * self.known_excess / self.wanted
            self.log_factor += _GAIN * ratio.clamp(0.1, 10).log()
        return super().maintain_(objective, clock)

    def watch_(self, fired: Tensor, n_rows: int) -> None:
        if self.active > 0:
            self.excess.copy_(fired.sum() / n_rows / self.active)
