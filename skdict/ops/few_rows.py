"""Moments of fewer rows than features, computed in the span of the rows.

n centred rows span n - 1 directions at most. Their singular value decomposition takes
n^2 d operations; the covariance would take n d^2 and its eigenvectors d^3.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from skdict.ops.moments import gram, intensity_from, signed

__all__ = [
    "FewRows",
    "complement",
    "intensity_of_rows",
    "leading_shrunk_axes",
    "merge_rows",
    "principal_axes_of_rows",
]


@dataclass(frozen=True)
class FewRows:
    """Rows, with the figures that :class:`skdict.ops.moments.Moments` has of them.

    Attributes
    ----------
    rows : Tensor of shape (n_samples, n_features)
        In float64, on the CPU.
    """

    rows: Tensor

    @property
    def n_samples(self) -> int:
        return len(self.rows)

    @cached_property
    def mean(self) -> Tensor:
        mean = self.rows.sum(dim=0) / max(len(self.rows), 1)
        # A second pass takes out the rounding of the mean, so that a constant feature
        # has no residue.
        return mean + (self.rows - mean).sum(dim=0) / max(len(self.rows), 1)

    @cached_property
    def centred(self) -> Tensor:
        return self.rows - self.mean

    @cached_property
    def power(self) -> Tensor:
        """Sum of the squares of each centred feature."""
        return self.centred.square().sum(dim=0)

    @property
    def scatter(self) -> Tensor:
        return gram(self.centred)


def merge_rows(a: FewRows, b: FewRows) -> FewRows:
    """Join two sets of rows."""
    return FewRows(torch.cat([a.rows, b.rows]))


def principal_axes_of_rows(few: FewRows) -> tuple[Tensor, Tensor]:
    """Variances in falling order and unit axes as rows, one for each row.

    They are those that :func:`skdict.ops.moments.principal_axes` finds from the
    covariance, except axes without variance. Of these there is one, the last.
    """
    _, singular, axes = torch.linalg.svd(few.centred, full_matrices=False)
    return singular.square() / (few.n_samples - 1), signed(axes)


def complement(axes: Tensor) -> Tensor:
    """Orthonormal axes of the space that is orthogonal to the given axes.

    Parameters
    ----------
    axes : Tensor of shape (n_axes, n_features)
        Orthonormal rows.

    Returns
    -------
    Tensor of shape (n_features - n_axes, n_features)
    """
    Q = torch.linalg.qr(axes.T, mode="complete").Q
    return signed(Q.T[len(axes) :])


def intensity_of_rows(few: FewRows, varying: Tensor) -> float:
    """Compute :func:`skdict.ops.moments.ledoit_wolf_intensity` without fourth moments.

    The products of the rows with each other have the same norm as the correlations, and
    fourth powers come from the rows themselves.
    """
    n, d = few.n_samples, int(varying.sum())
    Z = few.centred[:, varying] / (few.power[varying] / n).sqrt()
    fourth = Z.square().sum(dim=1).square().sum().item()
    norm = (Z @ Z.T / n).square().sum().item()
    return intensity_from(n, d, fourth, norm)


def leading_shrunk_axes(
    few: FewRows, intensity: float, k: int
) -> tuple[Tensor, Tensor] | None:
    """Find the first k principal axes of a covariance with shrunk correlations.

    A product with (1 - s) C + s diag(C) takes n d operations, so Lanczos' method finds
    a few of many axes sooner than a solver for all. Its start is fixed.

    Parameters
    ----------
    few : FewRows
        The rows, in which all features vary.
    intensity : float
        s, as in :func:`skdict.ops.moments.shrink_off_diagonal`.
    k : int
        Number of axes, less than n_features.

    Returns
    -------
    (variances, axes) : Tensors of shape (k,) and (k, n_features), or None
        None if the method does not converge, because the variances of the axes are too
        close to each other.
    """
    Y, d = few.centred.numpy(), few.centred.shape[1]
    kept = (1.0 - intensity) / (few.n_samples - 1)
    diagonal = intensity * few.power.numpy() / (few.n_samples - 1)

    def product(v: np.ndarray) -> np.ndarray:
        v = v.ravel()
        return kept * (Y.T @ (Y @ v)) + diagonal * v

    operator = LinearOperator((d, d), matvec=product, dtype=np.float64)
    start = np.random.RandomState(0).normal(size=d)
    try:
        variances, vectors = eigsh(
            operator, k, which="LA", v0=start, maxiter=_MAX_RESTARTS
        )
    except ArpackNoConvergence:
        return None
    order = np.argsort(-variances)
    axes = np.ascontiguousarray(vectors.T[order])
    return torch.from_numpy(variances[order]), signed(torch.from_numpy(axes))


_MAX_RESTARTS = 100
