"""The centre and the spread of rows, computed batch by batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skdict._ranks import ALONE, Ranks
from skdict.rows.batches import RowBatches
from skdict.rows.devices import to_device
from skdict.rows.stored import Table, take


def centre_and_spread(
    X: Table, batch_size: int = 8192, ranks: Ranks = ALONE
) -> tuple[Tensor, float]:
    """Mean row, and root mean square distance of the rows from it.

    The rows are read once; each of several processes reads its part. Sums are in
    float64, of distances from the first row, so that equal rows have a spread of
    exactly 0; batches are joined by the pairwise update of Chan, Golub and LeVeque.
    Rows are first divided by a power of two near the largest entry so far, which is
    exact, so that squares neither overflow nor vanish.
    """
    first = to_device(take(X, slice(1)), torch.device("cpu"))[0]
    sums = _Sums(first.double())
    for batch in RowBatches(X, batch_size, torch.device("cpu"), ranks=ranks):
        sums.add(batch)
    if ranks.size > 1:
        sums.merge(ranks)
    centre = sums.origin / sums.unit + sums.mean
    spread = (sums.squares / sums.n) ** 0.5 * sums.unit
    return (centre * sums.unit).to(first.dtype), spread


class _Sums:
    """Number, mean and squared distances of rows less an origin, over a unit."""

    def __init__(self, origin: Tensor) -> None:
        self.origin = origin
        self.unit, self.n, self.squares = 0.0, 0, 0.0
        self.mean = torch.zeros_like(origin)

    def add(self, batch: Tensor) -> None:
        if not len(batch):
            return
        largest = float(batch.abs().max())
        if largest > self.unit or self.n == 0:
            self._change_unit(math.ldexp(1.0, math.frexp(largest)[1] - 1))
        # In place, because copies of a batch cost more than the arithmetic.
        rows = batch.to(torch.float64, copy=True)
        rows.div_(self.unit).sub_(self.origin / self.unit)
        mean = rows.mean(0)
        self._join(len(rows), mean, float(rows.sub_(mean).square_().sum()))

    def merge(self, ranks: Ranks) -> None:
        """Add the sums of all processes, on each of them in the same order."""
        unit = torch.tensor(self.unit, dtype=torch.float64, device="cpu")
        self._change_unit(float(ranks.max(unit)))
        counts = self.mean.new_tensor([self.n, self.squares])
        gathered = ranks.gather(torch.cat([counts, self.mean]))
        self.n, self.squares, self.mean = 0, 0.0, torch.zeros_like(self.mean)
        for part in gathered:
            self._join(int(part[0]), part[2:], float(part[1]))

    def _change_unit(self, unit: float) -> None:
        ratio = self.unit / unit
        self.mean, self.squares = self.mean * ratio, self.squares * ratio**2
        self.unit = unit

    def _join(self, m: int, mean: Tensor, squares: float) -> None:
        if m == 0:
            return
        gap = mean - self.mean
        self.n += m
        self.squares += squares
        self.squares += float(gap.square().sum()) * (self.n - m) * m / self.n
        self.mean = self.mean + gap * (m / self.n)


def working_scale(mean: Tensor, spread: float, name: str = "X") -> float:
    """Number by which rows are divided for training; 0 if they do not vary.

    It is their spread, unless the quotients would leave the range of their dtype. That
    happens where the spread is a subnormal number or very small beside the mean; the
    number is then larger than the spread.
    """
    info = torch.finfo(mean.dtype)
    if spread > info.max:
        raise ValueError(
            f"The rows of {name} are too large for "
            f"{str(mean.dtype).removeprefix('torch.')}: their spread of {spread:.3g} "
            f"overflows it. Scale {name} down."
        )
    if spread == 0:
        return 0.0
    return max(spread, float(mean.abs().max()) * info.eps**2, info.tiny)
