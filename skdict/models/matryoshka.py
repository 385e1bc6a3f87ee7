"""Nested dictionaries: every prefix of the atoms learns to rebuild the rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from skdict.models.batch_topk import BatchTopKAutoencoder
from skdict.models.dictionary import half_squared_error
from skdict.ops import Code


class MatryoshkaAutoencoder(BatchTopKAutoencoder):
    """The loss is the mean over the prefixes of half their squared errors.

    Parameters
    ----------
    atoms, k, scale_encoder, autocast, training_factor, auxiliary_weight, dead_after
        As in :class:`BatchTopKAutoencoder`.
    prefixes : sequence of int
        Numbers of atoms, increasing; the last one is that of all atoms.
    """

    def __init__(
        self, atoms: Tensor, k: float, *, prefixes: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(atoms, k, **kwargs)
        self.prefixes = prefixes

    def loss(self, code: Code, reconstruction: Tensor, target: Tensor) -> Tensor:
        total = half_squared_error(reconstruction, target)
        rebuilt: Tensor = self.pre_bias
        start = 0
        for stop in self.prefixes[:-1]:
            rebuilt = rebuilt + code.decode_range(self.atoms, start, stop)
            total = total + half_squared_error(rebuilt, target)
            start = stop
        return total / len(self.prefixes)
