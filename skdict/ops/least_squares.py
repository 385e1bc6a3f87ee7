"""Small least-squares problems, one per row of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_normal_equations(gram: Tensor, c: Tensor) -> Tensor:
    """Solve ``gram[i] z[i] = c[i]`` where ``gram[i]`` may be singular.

    Parameters
    ----------
    gram : Tensor of shape (n, s, s)
        Gram matrices of the supports, positive semi-definite.
    c : Tensor of shape (n, s)
        Correlations of the atoms of the support with what they approximate.

    Returns
    -------
    Tensor of shape (n, s)
        A least-squares solution: an atom that the earlier ones of its support
        span (to rounding) gets zero.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal(dim1=1, dim2=2).square()
    too_small = pivots <= _tolerance(gram) * gram.diagonal(dim1=1, dim2=2)
    degenerate = (info > 0) | too_small.any(1)
    z = torch.cholesky_solve(c[:, :, None], factor)[:, :, 0]
    if degenerate.any():
        z[degenerate] = _eliminate_independent(gram[degenerate], c[degenerate])
    return z


def _eliminate_independent(gram: Tensor, c: Tensor) -> Tensor:
    """Gaussian elimination that skips the atoms which earlier ones span."""
    s = gram.shape[1]
    a = torch.cat([gram, c[:, :, None]], dim=2)
    smallest = _tolerance(gram) * gram.diagonal(dim1=1, dim2=2)
    inverse = torch.zeros_like(c)  # of the pivots; zero where an atom is skipped
    for j in range(s):
        pivot = a[:, j, j]
        inverse[:, j] = torch.where(pivot > smallest[:, j], 1 / pivot, 0.0)
        factors = a[:, j + 1 :, j] * inverse[:, j, None]
        a[:, j + 1 :] = a[:, j + 1 :] - factors[:, :, None] * a[:, j, None]
    z = torch.zeros_like(c)
    for j in reversed(range(s)):
        known = (a[:, j, j + 1 : s] * z[:, j + 1 :]).sum(1)
        z[:, j] = (a[:, j, s] - known) * inverse[:, j]
    return z


def _tolerance(gram: Tensor) -> float:
    """Share of its squared norm below which an atom's new part is rounding."""
    return 10 * gram.shape[1] * torch.finfo(gram.dtype).eps
