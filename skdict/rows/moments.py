"""The centre and the spread of rows, computed batch by batch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from skdict.rows.batches import RowBatches


def centre_and_spread(
    X: np.ndarray | Tensor, batch_size: int = 8192
) -> tuple[Tensor, float]:
    """Mean row, and root mean square distance of the rows from it.

    Sums are in float64. The rows are first divided by a power of two near their
    largest entry, which is exact, so that squares neither overflow nor vanish. Sums
    start from the first row as origin, so that equal rows have a spread of exactly 0.
    """
    cpu = torch.device("cpu")
    largest = max(float(rows.abs().max()) for rows in RowBatches(X, batch_size, cpu))
    scale = math.ldexp(1.0, math.frexp(largest)[1] - 1)
    batches = RowBatches(X, batch_size, cpu, scale=scale)
    origin = next(iter(batches))[0].double()
    sums = [(rows.double() - origin).sum(0) for rows in batches]
    mean = origin + torch.stack(sums).sum(0) / len(X)
    squares = sum(float((rows - mean).square().sum()) for rows in batches) / len(X)
    dtype = next(iter(batches)).dtype
    return (mean * scale).to(dtype), squares**0.5 * scale


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
