"""A codebook: rows as sums of code vectors, each taken once or not at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from skdict.models.dictionary import Objective
from skdict.models.fixed_code import FixedCodeDictionary
from skdict.ops import Code, SlotCode
from skdict.ops.chunks import rows_per_chunk


class CodebookModel(FixedCodeDictionary):
    """The ``k`` code vectors nearest to ``(x - b) / k``, each with coefficient 1.

    The gradient of a code vector, divided by how often it is taken, is its distance
    from the mean of what its rows lack: with ``k = 1``, k-means. Code vectors that have
    not been taken in ``reset_every`` steps move to rows of the batch.

    Parameters
    ----------
    atoms
        As in :class:`Dictionary`, but of any norm.
    k : int
        Code vectors of a row.
    seeded : bool, default=True
        Start at rows that lie far from each other, as k-means++ finds them, and not at
        the given atoms.
    reset_every : int, default=20
        As in :class:`FixedCodeDictionary`.
    """

    batch: Tensor  # of the last step, centred

    def __init__(
        self, atoms: Tensor, k: int, *, seeded: bool = True, reset_every: int = 20
    ) -> None:
        super().__init__(atoms, reset_every=reset_every)
        self.k = k
        self.seeded = seeded

    @torch.no_grad()
    def encode(self, x: Tensor) -> Code:
        # |x / k - c|^2 without the part that all code vectors share.
        # Relative to the largest number, squares stay within the range of their dtype.
        largest = self.atoms.abs().max()
        atoms = self.atoms / largest
        offset = -self.k / 2 * atoms.square().sum(1)
        centred = (x - self.pre_bias) / largest
        nearest = [
            torch.addmm(offset, rows, atoms.T).topk(self.k, sorted=False)
            for rows in centred.split(rows_per_chunk(x, len(self.atoms)))
        ]
        indices = torch.cat([part.indices for part in nearest])
        finite = torch.cat([part.values.isfinite() for part in nearest])
        # Where distances overflow, no one knows which code vectors are nearest.
        return SlotCode(indices, torch.where(finite, 1.0, torch.nan).to(x))

    def step_(
        self, x: Tensor, target: Tensor, descend: Callable[[Objective], None]
    ) -> Objective:
        self.batch = x - self.pre_bias
        return super().step_(x, target, descend)

    def precondition_(self, objective: Objective) -> None:
        # The k code vectors of a row make up for what it lacks together.
        super().precondition_(objective)
        assert self.atoms.grad is not None
        self.atoms.grad /= self.k

    def useless_atoms(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mark the code vectors that were not taken; draw from the last batch."""
        n_rows = self.ranks.total(len(self.batch))
        rows = torch.randint(
            n_rows, (len(self.atoms),), generator=generator, device="cpu"
        )
        drawn = self.ranks.take(self.batch, rows.to(self.batch.device)) / self.k
        return self.fired_since_reset == 0, drawn

    def project_(self) -> None:
        """Leave the norms as they are."""

    @torch.no_grad()
    def start_(self, rows: Tensor, mean: Tensor) -> None:
        super().start_(rows, mean)
        centred = (rows - mean).cpu()
        distance = centred.norm(dim=1).mean()
        if distance == 0:
            return
        self.atoms.mul_(distance.to(self.atoms) / self.k)
        if not self.seeded:
            return
        seeds, _ = kmeans_plusplus(
            centred.numpy(), min(len(rows), len(self.atoms)), random_state=0
        )
        self.atoms[: len(seeds)] = torch.from_numpy(seeds).to(self.atoms) / self.k

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.atoms.mul_(factor)
