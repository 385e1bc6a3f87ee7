"""Mergeable mean and covariance, and the whitening that follows from them.

All sums are in float64, whatever the dtype of the rows. Whitening divides by the
smallest eigenvalues of a covariance, and these are the first to drown in float32
rounding. Rows are centred before the matrix product, and batches are joined by the
pairwise update of Chan, Golub and LeVeque, so that a large common offset of the rows
costs no digits.

References
----------
Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983). Algorithms for computing the
sample variance: analysis and recommendations. The American Statistician, 37(3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "Moments",
    "batch_moments",
    "covariance",
    "gram",
    "intensity_from",
    "ledoit_wolf_intensity",
    "merge_moments",
    "moments_about",
    "principal_axes",
    "rounding_variance",
    "shrink_off_diagonal",
    "signed",
    "supported_axes",
    "whitening_matrix",
]


# Entries converted to float64 at a time, 64 MiB: enough to keep BLAS busy.
_CHUNK_ENTRIES = 2**23
_GUESS_ROWS = 256


@dataclass(frozen=True)
class Moments:
    """Central moments of a set of rows; y is a row minus the mean of the set.

    Attributes
    ----------
    n_samples : int
        Number of rows.
    mean : Tensor of shape (n_features,)
        Mean of the rows.
    scatter : Tensor of shape (n_features, n_features)
        M_jk = sum of y_j y_k.
    third : Tensor of shape (n_features, n_features) or None
        C_jk = sum of y_j^2 y_k, needed to move `fourth` to another mean.
    fourth : Tensor of shape (n_features, n_features) or None
        Q_jk = sum of y_j^2 y_k^2, for the Ledoit-Wolf intensity.
    """

    n_samples: int
    mean: Tensor
    scatter: Tensor
    third: Tensor | None = None
    fourth: Tensor | None = None

    @property
    def power(self) -> Tensor:
        """Sum of the squares of each centred feature."""
        return self.scatter.diagonal()

    def cpu(self) -> Moments:
        """Copy the moments to the CPU if they are elsewhere."""
        third = None if self.third is None else self.third.cpu()
        fourth = None if self.fourth is None else self.fourth.cpu()
        return Moments(
            self.n_samples, self.mean.cpu(), self.scatter.cpu(), third, fourth
        )


def batch_moments(X: Tensor, *, fourth_order: bool = False) -> Moments:
    """Moments of one batch of rows.

    Parameters
    ----------
    X : Tensor of shape (n_samples, n_features)
        The rows, in any floating dtype. Only `fourth_order` copies them to float64 as a
        whole. Rows on MPS, which has no float64, are brought to the CPU.
    fourth_order : bool, default=False
        Whether to compute `third` and `fourth`, too, with two more matrix products.

    Returns
    -------
    Moments
        In float64; all zeros for an empty batch.
    """
    X = X.detach()
    if X.device.type == "mps":
        X = X.cpu()
    if fourth_order:
        return _centred_moments(X)
    n_samples, n_features = X.shape
    scatter = X.new_zeros((n_features, n_features), dtype=torch.float64)
    if n_samples == 0:
        return Moments(0, scatter.new_zeros(n_features), scatter)
    step = max(_CHUNK_ENTRIES // n_features, 1)
    # A guess of the mean from a few rows is enough to centre by. It misses the mean by
    # no more than the spread of the rows, and the sums are corrected for that at the
    # end.
    guess = X[:_GUESS_ROWS].to(torch.float64).mean(dim=0)
    missed = scatter.new_zeros(n_features)
    buffer = X.new_empty((min(step, n_samples), n_features), dtype=torch.float64)
    for rows in X.split(step):
        Y = buffer[: len(rows)]
        if rows.dtype == torch.float64:
            torch.sub(rows, guess, out=Y)
        else:
            # Two operations, because one that mixes dtypes takes three times as long.
            Y.copy_(rows).sub_(guess)
        missed += Y.sum(dim=0)
        scatter += gram(Y)
    missed /= n_samples
    scatter -= n_samples * torch.outer(missed, missed)
    return Moments(n_samples, guess + missed, scatter)


def _centred_moments(X: Tensor) -> Moments:
    """Moments with `third` and `fourth`, from a float64 copy of the rows."""
    n_samples, n_features = X.shape
    if n_samples == 0:
        zeros = X.new_zeros((n_features, n_features), dtype=torch.float64)
        return Moments(0, zeros[:, 0].clone(), zeros, zeros, zeros)
    Y = X.to(torch.float64)
    mean = Y.mean(dim=0)
    Y = Y - mean
    # Take out the rounding of the mean, so that a constant feature has no residue.
    residue = Y.mean(dim=0)
    Y -= residue
    Y2 = Y.square()
    return Moments(n_samples, mean + residue, gram(Y), Y2.T @ Y, gram(Y2))


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two disjoint sets of rows.

    Parameters
    ----------
    a, b : Moments
        Of the same order and number of features.

    Returns
    -------
    Moments
        Equal, up to rounding, to those computed from all rows at once; the
        operation is commutative and associative up to rounding.
    """
    if a.n_samples == 0:
        return b
    if b.n_samples == 0:
        return a
    n_samples = a.n_samples + b.n_samples
    gap = b.mean - a.mean
    to_b = b.n_samples / n_samples
    mean = a.mean + gap * to_b
    if a.fourth is None or b.fourth is None:
        weight = a.n_samples * to_b
        scatter = a.scatter + b.scatter + weight * torch.outer(gap, gap)
        return Moments(n_samples, mean, scatter)
    about_a = _about(a, gap * to_b)
    about_b = _about(b, gap * (to_b - 1.0))
    return Moments(
        n_samples, mean, *(p + q for p, q in zip(about_a, about_b, strict=True))
    )


def moments_about(m: Moments, centre: Tensor) -> tuple[Tensor, ...]:
    """Scatter, and if there are any third and fourth moments, about another centre.

    Those of disjoint sets of rows about one centre add up to those of their union.
    """
    shift = centre - m.mean
    if m.fourth is None:
        return (m.scatter + m.n_samples * torch.outer(shift, shift),)
    return _about(m, shift)


def _about(m: Moments, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scatter, third and fourth moments about mean + shift."""
    assert m.third is not None
    assert m.fourth is not None
    d, d2, n = shift, shift.square(), m.n_samples
    power = m.power  # S_j = sum of y_j^2
    # Expand (y_j - d_j)^2 (y_k - d_k)^2 and (y_j - d_j)^2 (y_k - d_k), and drop the
    # terms in which a single y is left, since y sums to zero.
    crossed = m.third * d
    return (
        m.scatter + n * torch.outer(d, d),
        m.third
        - torch.outer(power, d)
        - 2.0 * d[:, None] * m.scatter
        - n * torch.outer(d2, d),
        m.fourth
        - 2.0 * (crossed + crossed.T)
        + torch.outer(power, d2)
        + torch.outer(d2, power)
        + 4.0 * torch.outer(d, d) * m.scatter
        + n * torch.outer(d2, d2),
    )


def gram(Y: Tensor) -> Tensor:
    """Y.T @ Y; on the CPU by a symmetric rank update, which halves the work."""
    if Y.device.type == "cpu":
        # NumPy sees that both factors are one array and calls syrk of BLAS, which
        # torch does not expose: 56 ms against 102 ms for 4096 x 1024 on two cores.
        rows = Y.numpy()
        return torch.from_numpy(rows.T @ rows)
    return Y.T @ Y


class SecondMoments(Protocol):
    """What :class:`Moments` and ``FewRows`` have in common."""

    @property
    def n_samples(self) -> int:
        """Number of rows."""

    @property
    def mean(self) -> Tensor:
        """Mean of the rows."""

    @property
    def scatter(self) -> Tensor:
        """Sum of the products of all pairs of centred features."""

    @property
    def power(self) -> Tensor:
        """Sum of the squares of each centred feature."""


def covariance(moments: SecondMoments) -> Tensor:
    """Unbiased covariance, M / (n - 1)."""
    return moments.scatter / (moments.n_samples - 1)


def rounding_variance(moments: SecondMoments, eps: float) -> Tensor:
    """Largest variance that rounding alone gives each feature.

    Parameters
    ----------
    moments : Moments or FewRows
        Of the rows.
    eps : float
        Machine epsilon of the dtype in which the rows were passed.

    Returns
    -------
    Tensor of shape (n_features,)
        (eps / 2)^2 E[x_j^2] (1 + sqrt(d / n))^2. The first two factors are three times
        a bound of the variance of rounding x_j. The last is the factor by which the
        largest eigenvalue of noise in d dimensions, seen in n rows, exceeds its
        variance.
    """
    n, d = moments.n_samples, moments.mean.shape[0]
    power = moments.mean.square() + moments.power / n
    return (0.5 * eps * (1.0 + math.sqrt(d / n))) ** 2 * power


def ledoit_wolf_intensity(moments: Moments, varying: Tensor) -> float:
    """Ledoit-Wolf shrinkage intensity of the standardised features.

    With z the features divided by their standard deviations and R their correlation
    matrix, the intensity is min(1, beta / delta), where

        beta  = (sum_i ||z_i||^4 / n - ||R||_F^2) / n,    delta = ||R||_F^2 - d.

    Parameters
    ----------
    moments : Moments
        With `fourth`, from which sum_i ||z_i||^4 = sum_jk Q_jk / (v_j v_k).
    varying : Tensor of bool of shape (n_features,)
        Which features to use. The others do not vary and cannot be standardised.

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    Ledoit, O. and Wolf, M. (2004). A well-conditioned estimator for large-dimensional
    covariance matrices. Journal of Multivariate Analysis, 88(2), 365-411.
    """
    if moments.fourth is None:
        raise ValueError("the Ledoit-Wolf intensity needs fourth moments")
    n, d = moments.n_samples, int(varying.sum())
    v = moments.power[varying] / n
    scale = v.sqrt()
    R = moments.scatter[varying][:, varying] / n / scale / scale[:, None]
    fourth = (moments.fourth[varying][:, varying] / v / v[:, None]).sum().item()
    return intensity_from(n, d, fourth, R.square().sum().item())


def intensity_from(n: int, d: int, fourth: float, norm: float) -> float:
    """Compute the intensity from sum_i ||z_i||^4 and ||R||_F^2."""
    if d < 2:
        return 0.0
    delta = norm - d
    beta = max((fourth / n - norm) / n, 0.0)
    return 1.0 if beta >= delta else beta / delta


def shrink_off_diagonal(cov: Tensor, intensity: float) -> Tensor:
    """Shrink the correlations towards zero and keep the variances.

    This is (1 - s) R + s I on the standardised features, scaled back.
    """
    shrunk = (1.0 - intensity) * cov
    shrunk.diagonal().copy_(cov.diagonal())
    return shrunk


def principal_axes(cov: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in falling order and unit eigenvectors as rows.

    The entry of largest magnitude of each eigenvector is positive, which makes the
    signs deterministic.
    """
    variances, vectors = torch.linalg.eigh(cov)
    return variances.flip(0), signed(vectors.T.flip(0))


def signed(axes: Tensor) -> Tensor:
    """Flip axes (rows) so that their entry of largest magnitude is positive."""
    largest = axes.abs().argmax(dim=1, keepdim=True)
    return axes * axes.gather(1, largest).sign()


def supported_axes(variances: Tensor, axes: Tensor, rounding: Tensor) -> Tensor:
    """Mark the principal axes that carry more variance than rounding explains.

    Parameters
    ----------
    variances, axes : Tensor
        As from `principal_axes`.
    rounding : Tensor of shape (n_features,)
        As from `rounding_variance`. Each axis is compared with the rounding of the
        features of which it consists, so that one feature with a huge offset does not
        hide the others.

    Returns
    -------
    Tensor of bool of shape (n_axes,)
    """
    eps = torch.finfo(variances.dtype).eps
    solver = max(axes.shape[1], 64) * eps * variances[0]
    return (variances > solver) & (variances > axes.square() @ rounding)


def whitening_matrix(variances: Tensor, axes: Tensor, method: str) -> Tensor:
    """Matrix W such that (X - mean) @ W is white.

    Parameters
    ----------
    variances : Tensor of shape (n_axes,)
        Positive.
    axes : Tensor of shape (n_axes, n_features)
        Orthonormal rows.
    method : {"pca", "zca"}
        V^T L^(-1/2), or V^T L^(-1/2) V, the symmetric one.

    Returns
    -------
    Tensor of shape (n_features, n_axes) or (n_features, n_features)
    """
    inverse = variances.rsqrt()
    if method == "pca":
        return axes.T * inverse
    if len(axes) == axes.shape[1]:
        # On the axes of the smallest variance W is a multiple of the identity. Only the
        # other axes need a product, and shrinkage leaves few of them.
        leading = variances > variances[-1]
        rest = inverse[-1]
        W = (axes[leading].T * (inverse[leading] - rest)) @ axes[leading]
        W.diagonal().add_(rest)
        return W
    return (axes.T * inverse) @ axes
