"""The largest entries of each row."""

from __future__ import annotations

import torch
from torch import Tensor

# Number of groups of columns in the first stage. With more groups, fewer columns remain
# for the second stage; with fewer groups, their maxima are compared sooner.
_N_GROUPS = 512
# Numbers that NumPy compares with vector instructions.
_FLOATS = (torch.float32, torch.float64)


def largest(scores: Tensor, k: int) -> Tensor:
    """Columns of the ``k`` largest entries of each row, in no particular order.

    Parameters
    ----------
    scores : Tensor of shape (n, M)
        Numbers to compare.
    k : int
        Number of entries, at most ``M``.

    Returns
    -------
    Tensor of shape (n, k), int64
        The columns that :func:`torch.topk` finds; of equal entries, any.

    Notes
    -----
    On the CPU, ``topk`` of a long row takes several passes over it. The ``k`` largest
    entries lie in the ``k`` groups of columns with the largest maxima. One pass for the
    maxima and a ``topk`` over those groups take a third of the time, for 5 of 8192
    columns. The one largest entry is left to NumPy, which compares with vector
    instructions: it takes an eighth of the time of ``topk``.
    """
    n, m = scores.shape
    if k == 1 and scores.device.type == "cpu" and scores.dtype in _FLOATS:
        places = scores.detach().numpy().argmax(1, keepdims=True)
        return torch.from_numpy(places)
    if k == 1:
        return scores.argmax(1, keepdim=True)
    group_size = m // _N_GROUPS
    if scores.device.type != "cpu" or group_size < 4 or 8 * k > _N_GROUPS:
        return scores.topk(k, dim=1, sorted=False).indices
    # Column j is in group j modulo the number of groups: the maxima are then taken over
    # contiguous memory.
    n_grouped = group_size * _N_GROUPS
    grouped = scores[:, :n_grouped].unflatten(1, (group_size, _N_GROUPS))
    groups = grouped.amax(1).topk(k, dim=1, sorted=False).indices
    candidates = grouped.gather(2, groups[:, None].expand(n, group_size, k))
    best = torch.cat([candidates.flatten(1), scores[:, n_grouped:]], dim=1).topk(
        k, dim=1, sorted=False
    )
    place, slot = best.indices // k, best.indices % k
    column = place * _N_GROUPS + groups.gather(1, slot)
    left_over = best.indices >= group_size * k
    return torch.where(left_over, best.indices - group_size * k + n_grouped, column)
