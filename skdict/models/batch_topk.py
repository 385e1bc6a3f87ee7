"""The BatchTopK autoencoder: k latents a row in the mean over a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from skdict._utils.fitted import Array
from skdict.models.autoencoder import Autoencoder, nth_largest
from skdict.models.dictionary import Clock, Objective, Parameter
from skdict.models.topk import TopKAutoencoder
from skdict.ops import Code
from skdict.ops.linear import above, batch_topk_encode, linear_encode

# Weight of the newest batch in the threshold.
_NEWEST = 0.1
# A process first keeps this many times its part of the latents that a batch may have.
_MARGIN = 1.3


class BatchTopKAutoencoder(TopKAutoencoder):
    """Keeps the ``k n`` largest latents of a batch of ``n`` rows.

    Outside of training, a latent is active where it exceeds a threshold: the running
    mean of the least activation that was kept in a batch.

    Parameters
    ----------
    atoms, k, scale_encoder, autocast, training_factor, auxiliary_weight, dead_after
        As in :class:`TopKAutoencoder`; ``k`` may be fractional.
    """

    fitted = {
        **Autoencoder.fitted,
        "threshold": Parameter("threshold_", Array((), low=0)),
    }

    def __init__(self, atoms: Tensor, k: float, **kwargs: Any) -> None:
        super().__init__(atoms, k, **kwargs)
        self.threshold = nn.Parameter(atoms.new_zeros(()), requires_grad=False)

    def encode(self, x: Tensor) -> Code:
        latents = self.centred(x), self.encoder, self.bias
        if self.training and self.ranks.size > 1:
            return self._encode_part(*latents)
        if self.training:
            return batch_topk_encode(*latents, self.wanted, self.autocast)
        code = linear_encode(*latents, self.threshold, self.autocast)
        return code.with_values(code.values * (code.values > self.threshold))

    def _encode_part(self, x: Tensor, encoder: Tensor, bias: Tensor) -> Code:
        """Encode the rows of a batch that this process has.

        A latent is kept if it is among the ``k n`` largest of all processes; equal
        ones all are.
        """
        wanted = round(self.wanted * self.ranks.total(len(x)))
        for most in (int(_MARGIN * wanted / self.ranks.size) + 1, wanted):
            k = most / len(x)
            code = batch_topk_encode(x, encoder, bias, k, self.autocast)
            values = code.values.detach().flatten()
            values = values.topk(min(most, len(values))).values.relu()
            # A process may have cut off what belongs to the largest of all.
            padded = values.new_zeros(most)
            padded[: len(values)] = values
            everywhere = self.ranks.gather(padded).flatten()
            level = everywhere.topk(min(wanted, len(everywhere))).values[-1]
            if not self.ranks.any(bool(padded[-1] > level)):
                break
        return above(code, level)

    @property
    def is_judged_calibrated(self) -> bool:
        # Otherwise the running mean of the threshold is near enough.
        return self.wanted != self.k

    @torch.no_grad()
    def maintain_(self, objective: Objective, clock: Clock) -> int | Tensor:
        values = objective.code.values
        kept = values[values > 0]
        least = kept.amin() if len(kept) else values.new_tensor(torch.inf)
        least = self.ranks.min(least)
        if least < torch.inf:
            self.threshold.lerp_(least, _NEWEST)
        return super().maintain_(objective, clock)

    @torch.no_grad()
    def calibrate_(
        self, batches: Iterable[Tensor], n_rows: int, *, wanted: float | None = None
    ) -> bool:
        activations = (self.pre_activations(x) for x in batches)
        level = nth_largest(activations, round((wanted or self.k) * n_rows))
        self.threshold.copy_(level.clamp(min=0))
        return True

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.threshold.mul_(factor)
