"""The centre and the spread of rows, computed batch by batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skdict.rows.batches import RowBatches
from skdict.rows.stored import Table


def centre_and_spread(X: Table, batch_size: int = 8192) -> tuple[Tensor, float]:
    """Mean row, and root mean square distance of the rows from it.

    The rows are read once. Sums are in float64, of distances from the first row, so
    that equal rows have a spread of exactly 0; batches are joined by the pairwise
    update of Chan, Golub and LeVeque. Rows are first divided by a power of two near the
    largest entry so far, which is exact, so that squares neither overflow nor vanish.
    """
    unit, n, squares = 0.0, 0, 0.0
    for batch in RowBatches(X, batch_size, torch.device("cpu")):
        largest = float(batch.abs().max())
        if n == 0:
            origin, mean = batch[0].double(), batch.new_zeros(batch.shape[1]).double()
        if largest > unit or n == 0:
            grown = math.ldexp(1.0, math.frexp(largest)[1] - 1)
            mean, squares = mean * (unit / grown), squares * (unit / grown) ** 2
            unit = grown
        rows = batch.double() / unit - origin / unit
        gap = rows.mean(0) - mean
        m, n = len(rows), n + len(rows)
        squares += float((rows - mean - gap).square().sum())
        squares += float(gap.square().sum()) * (n - m) * m / n
        mean = mean + gap * (m / n)
    centre = origin / unit + mean
    return (centre * unit).to(batch.dtype), (squares / n) ** 0.5 * unit


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
