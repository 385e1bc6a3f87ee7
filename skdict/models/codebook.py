"""A codebook: rows as sums of code vectors, each taken once or not at all."""

from __future__ import annotations

import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from skdict._utils.fitted import Array
from skdict.models.dictionary import Clock, Objective
from skdict.models.fixed_code import FixedCodeDictionary
from skdict.ops import Code, SlotCode
from skdict.ops.chunks import rows_per_chunk

# How far a code vector that is drawn anew lies from the one that it splits.
_SPLIT = 0.01


class CodebookModel(FixedCodeDictionary):
    """The ``k`` code vectors nearest to ``(x - b) / k``, each with coefficient 1.

    The gradient of a code vector, divided by how often it is taken, is its distance
    from the mean of what its rows lack: with ``k = 1``, k-means. Code vectors that have
    not been taken in ``reset_every`` steps split those that are taken most.

    Parameters
    ----------
    atoms
        As in :class:`Dictionary`, but of any norm.
    k : int
        Code vectors of a row.
    seeded : bool, default=True
        Start at rows that lie far from each other, as k-means++ finds them, and not at
        the given atoms.
    reset_every : int
        Steps between resets.
    """

    fired_since_reset: Tensor
    counters = {
        **FixedCodeDictionary.counters,
        "fired_since_reset": Array(("n_components",), kind="i", low=0),
    }

    def __init__(
        self, atoms: Tensor, k: int, *, seeded: bool = True, reset_every: int = 20
    ) -> None:
        super().__init__(atoms)
        self.k = k
        self.seeded = seeded
        self.reset_every = reset_every

    @torch.no_grad()
    def encode(self, x: Tensor) -> Code:
        # |x / k - c|^2 without the part that all code vectors share.
        offset = -self.k / 2 * self.atoms.square().sum(1)
        centred = x - self.pre_bias
        nearest = [
            torch.addmm(offset, rows, self.atoms.T).topk(self.k, sorted=False).indices
            for rows in centred.split(rows_per_chunk(x, len(self.atoms)))
        ]
        indices = torch.cat(nearest)
        return SlotCode(indices, x.new_ones(indices.shape))

    def precondition_(self, objective: Objective) -> None:
        # The k code vectors of a row make up for what it lacks together.
        super().precondition_(objective)
        assert self.atoms.grad is not None
        self.atoms.grad /= self.k

    def maintain_(self, objective: Objective, clock: Clock) -> int | Tensor:
        super().maintain_(objective, clock)
        self.fired_since_reset += objective.fired
        left = clock.steps_left
        if clock.n_steps % self.reset_every or (
            left is not None and left < self.reset_every
        ):
            return 0
        return self.split_(clock.generator)

    @torch.no_grad()
    def split_(self, generator: torch.Generator) -> Tensor:
        """Move the code vectors that were not taken beside those taken most."""
        unused = self.fired_since_reset == 0
        busiest = self.fired_since_reset.argsort(descending=True)
        source = torch.empty_like(busiest)
        source[self.fired_since_reset.argsort()] = busiest
        noise = torch.randn(
            self.atoms.shape, generator=generator, dtype=self.atoms.dtype
        ).to(self.atoms.device)
        noise *= self.atoms.norm(dim=1).mean() / self.atoms.shape[1] ** 0.5
        beside = self.atoms[source] + _SPLIT * noise
        self.atoms.copy_(torch.where(unused[:, None], beside, self.atoms))
        self.curvature.masked_fill_(unused, 0)
        self.fired_since_reset.zero_()
        return unused.sum()

    def project_(self) -> None:
        """Leave the norms as they are."""

    @torch.no_grad()
    def start_(self, rows: Tensor, mean: Tensor) -> None:
        super().start_(rows, mean)
        if not self.seeded:
            return
        centred = (rows - mean).cpu()
        self.atoms.mul_(centred.norm(dim=1).mean().to(self.atoms))
        seeds, _ = kmeans_plusplus(
            centred.numpy(), min(len(rows), len(self.atoms)), random_state=0
        )
        self.atoms[: len(seeds)] = torch.from_numpy(seeds).to(self.atoms)
        self.atoms.div_(self.k)

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.atoms.mul_(factor)
