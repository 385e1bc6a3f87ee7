"""Small least-squares problems, one per row of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

# Of the square of an atom, in rounding errors: what a factor that grows adds. It is the
# same for all atoms, because duplicates would otherwise not share their coefficient.
_RIDGE = 100


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
        A least-squares solution. Atoms that are equal up to rounding share their
        coefficient; that of a zero atom is 0.

    Notes
    -----
    A ridge a little above rounding keeps the Cholesky factor sound for any support. It
    damps the directions that rounding would blow up, and ``z`` still cannot make the
    residual longer. One step of iterative refinement removes its bias from all other
    directions.
    """
    diagonal = gram.diagonal(dim1=1, dim2=2)
    ridge = 10 * gram.shape[1] * torch.finfo(gram.dtype).eps * diagonal
    ridge = torch.where(diagonal > 0, ridge, 1.0)
    factor, info = torch.linalg.cholesky_ex(gram + torch.diag_embed(ridge))
    z = _solve(factor, c[:, :, None])
    z = z + _solve(factor, c[:, :, None] - gram @ z)
    return torch.where(info[:, None] == 0, z[:, :, 0], 0.0)


class GrowingFactor:
    """Inverse Cholesky factors of Gram matrices to which atoms are added one by one.

    They solve what :func:`solve_normal_equations` does, without a new factor for each
    larger support. The rows are the last dimension of its tensors, along which small
    matrices are multiplied with vector instructions.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Has the dtype and the device of the factors, one for each row.
    k : int
        Number of atoms that will be added.
    """

    def __init__(self, rows: Tensor, k: int) -> None:
        self.gram = rows.new_empty(k, k, len(rows))
        self.inverse = rows.new_zeros(k, k, len(rows))
        self.size = 0

    def append(self, products: Tensor, active: Tensor) -> None:
        """Add an atom.

        Parameters
        ----------
        products : Tensor of shape (n, size + 1)
            Inner products of the atom with those before it and with itself.
        active : Tensor of shape (n,), bool
            Rows whose support it joins. In the others its coefficient stays 0.
        """
        p = self.size
        self.size += 1
        self.gram[p, : p + 1] = self.gram[: p + 1, p] = products.T
        inverse, square = self.inverse[:p, :p], self.gram[p, p]
        # The part of the atom in the span of the others, and the square of the rest.
        inside = (inverse * self.gram[p, :p]).sum(1)
        ridge = _RIDGE * torch.finfo(square.dtype).eps
        outside = square * (1 + ridge) - inside.square().sum(0)
        scale = torch.where(active & (outside > 0), outside.rsqrt(), 0.0)
        self.inverse[p, :p] = (inverse * inside[:, None]).sum(0) * -scale
        self.inverse[p, p] = scale

    def solve(self, c: Tensor) -> Tensor:
        """Solve ``gram[i] z[i] = c[i]`` for ``c`` of shape (n, size)."""
        c = c.T.contiguous()
        z = self._solve(c)
        z += self._solve(c - (self.gram[: self.size, : self.size] * z).sum(1))
        return z.T.contiguous()

    def _solve(self, c: Tensor) -> Tensor:
        inverse = self.inverse[: self.size, : self.size]
        return (inverse * (inverse * c).sum(1)[:, None]).sum(0)


def _solve(factor: Tensor, b: Tensor) -> Tensor:
    """Solve ``F F^T z = b`` for Cholesky factors ``F``."""
    if factor.device.type == "cpu":
        return torch.cholesky_solve(b, factor)
    # On a CUDA device, cholesky_solve takes as long as two triangular solves for
    # 1024 systems, and 1.8 times as long for 8192.
    half = torch.linalg.solve_triangular(factor, b, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)
