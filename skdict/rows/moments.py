"""The centre and the spread of rows, in passes over their batches."""

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

    Accumulated in float64 over rows brought to a magnitude of 1 by a power of two,
    which is exact, so that rows of any magnitude neither overflow nor vanish; and
    from the first row as origin, so that equal rows have no spread at all.
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


def working_scale(mean: Tensor, spread: float) -> float:
    """What rows are divided by for training; 0 where they do not vary.

    Their spread, unless that would take them out of the range of their dtype:
    because they vary by subnormal numbers, or by next to nothing beside the mean.
    """
    info = torch.finfo(mean.dtype)
    if spread > info.max:
        raise ValueError(
            f"The rows are too large for {str(mean.dtype).removeprefix('torch.')}: "
            f"their spread of {spread:.3g} overflows it. Scale X down."
        )
    if spread == 0:
        return 0.0
    return max(spread, float(mean.abs().max()) * info.eps**2, info.tiny)
