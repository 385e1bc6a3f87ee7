"""Mergeable mean and variance of every feature in every group of rows.

As in :mod:`skdict.ops.moments`, sums are in float64 about the mean and are joined by
the pairwise update of Chan, Golub and LeVeque. There are no covariances, which would be
n_groups matrices of n_features^2 entries. Roots of sums of squares are kept instead of
the sums, so that features of any magnitude keep their digits.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GroupMoments", "group_moments", "merge_group_moments", "spread_within"]

# Entries converted to float64 at a time, 64 MiB.
_CHUNK_ENTRIES = 2**23


@dataclass(frozen=True)
class GroupMoments:
    """Central moments of each of several groups of rows.

    Attributes
    ----------
    n_samples : Tensor of shape (n_groups,)
        Number of rows, in float64.
    mean : Tensor of shape (n_groups, n_features)
        Mean of each group; 0 for a group without rows.
    spread : Tensor of shape (n_groups, n_features)
        Root of the sum of the squared distances from the mean.
    """

    n_samples: Tensor
    mean: Tensor
    spread: Tensor


def group_moments(X: Tensor, groups: Tensor, n_groups: int) -> GroupMoments:
    """Moments of each group of rows in a batch.

    Parameters
    ----------
    X : Tensor of shape (n_samples, n_features)
        The rows, in any floating dtype; never copied to float64 as a whole. Rows on
        MPS, which has no float64, are brought to the CPU.
    groups : Tensor of shape (n_samples,)
        The group of each row, int64 in [0, n_groups).
    n_groups : int
        Number of groups; some may have no rows here.

    Returns
    -------
    GroupMoments
        In float64.
    """
    X = X.detach()
    if X.device.type == "mps":
        X = X.cpu()
    groups = groups.to(X.device)
    zeros = X.new_zeros((n_groups, X.shape[1]), dtype=torch.float64)
    total = GroupMoments(zeros[:, :1].sum(dim=1), zeros, zeros)
    step = max(_CHUNK_ENTRIES // X.shape[1], 1)
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        Y, group = X[rows].to(torch.float64, copy=True), groups[rows]
        n = torch.bincount(group, minlength=n_groups).to(torch.float64)
        divisor = n.clamp(min=1.0)[:, None]
        # A second round takes out the rounding of the mean, so that a constant feature
        # has no residue.
        mean = zeros.clone()
        for _ in range(2):
            part = torch.zeros_like(zeros).index_add_(0, group, Y) / divisor
            Y -= part[group]
            mean += part
        # Division by a power of two is exact and keeps the squares in range.
        low, high = Y.aminmax(dim=0)
        exponent = torch.frexp(torch.maximum(-low, high)).exponent.clamp(-1000, 1000)
        unit = torch.ldexp(torch.ones_like(low), exponent)
        Y = Y.div_(unit).square_()
        spread = torch.zeros_like(zeros).index_add_(0, group, Y).sqrt_() * unit
        total = merge_group_moments(total, GroupMoments(n, mean, spread))
    return total


def merge_group_moments(a: GroupMoments, b: GroupMoments) -> GroupMoments:
    """Moments of the unions, group by group, of two disjoint sets of rows.

    Parameters
    ----------
    a, b : GroupMoments
        Of the same groups and features.

    Returns
    -------
    GroupMoments
        Equal, up to rounding, to those computed from all rows at once.
    """
    n_samples = a.n_samples + b.n_samples
    to_b = (b.n_samples / n_samples.clamp(min=1.0))[:, None]
    gap = b.mean - a.mean
    # The mean of an empty group is 0, so that the other's is kept to the bit.
    mean = a.mean + gap * to_b
    between = (a.n_samples[:, None] * to_b).sqrt() * gap.abs()
    spread = torch.hypot(torch.hypot(a.spread, b.spread), between)
    return GroupMoments(n_samples, mean, spread)


def spread_within(moments: GroupMoments) -> Tensor:
    """Standard deviation of each feature about the means of the groups.

    Returns
    -------
    Tensor of shape (n_features,)
        s_j with s_j^2 = sum_g S_gj^2 / sum_g (n_g - 1), where S is the spread and the
        sums run over the groups with rows. 0 if no group has two rows.
    """
    degrees = (moments.n_samples - 1.0).clamp(min=0.0).sum().clamp(min=1.0)
    largest = moments.spread.amax(dim=0)
    relative = moments.spread / torch.where(largest > 0, largest, 1.0)
    return largest * (relative.square().sum(dim=0) / degrees).sqrt()
