"""Variance of codes between the levels of a factor, inside strata or in all samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import min_max_axis

from skdict._utils.arrays import blocks
from skdict._utils.types import Codes

from .activity import indicator

# Number of entries of a table of sums.
_BLOCK_CELLS = 2**22
# Variance below this fraction of the sum of squares is rounding.
_ROUNDING = 1e-12


def scale_codes(codes: Codes) -> tuple[sparse.csr_array, np.ndarray]:
    """Scale codes to a largest value of one, and sum their centred squares.

    Returns
    -------
    scaled : csr_array of shape (n_samples, n_components), float64
    squares : ndarray of shape (n_components,)
        0 for constant columns.
    """
    scaled = sparse.csr_array(codes, dtype=np.float64, copy=True)
    n_samples, n_components = scaled.shape
    low, high = (np.asarray(side).ravel() for side in min_max_axis(scaled, axis=0))
    # Squares of very large or very small numbers would be infinite or zero.
    largest = np.maximum(-low, high)
    scaled.data /= np.where(largest == 0, 1.0, largest)[scaled.indices]
    means = scaled.sum(axis=0) / n_samples
    n_stored = np.bincount(scaled.indices, minlength=n_components)
    squares = np.bincount(
        scaled.indices,
        weights=(scaled.data - means[scaled.indices]) ** 2,
        minlength=n_components,
    )
    squares = squares + (n_samples - n_stored) * means**2
    return scaled, np.where(low == high, 0.0, squares)


class VarianceInside:
    r"""Variance that a factor explains inside strata, for every feature.

    With the residuals :math:`r` of a feature about its means in the strata, and the
    residuals :math:`F` of the indicators of the factor's levels about theirs, the sum
    of squares of the factor is :math:`r^T F (F^T F)^+ F^T r`: that of the factor after
    the strata in a linear model of both.

    Parameters
    ----------
    codes : {ndarray, csr_matrix, csr_array} of shape (n_samples, n_components)
        From `check_codes`.
    strata : ndarray of shape (n_samples,), default=None
        Number of each sample's stratum, without gaps. None: one stratum.
    """

    def __init__(self, codes: Codes, strata: np.ndarray | None = None) -> None:
        n_samples, n_components = codes.shape
        self.strata = np.zeros(n_samples, np.intp) if strata is None else strata
        self.sizes = np.bincount(self.strata)
        Z, _ = scale_codes(codes)
        columns = Z.tocsc()
        self._parts, self._means, squares = [], [], []
        for some in blocks(n_components, len(self.sizes), _BLOCK_CELLS):
            part = columns[:, some].tocsr()
            means = _sums(part, self.strata, len(self.sizes)) / self.sizes[:, None]
            # The squared distances of the stored entries from their means, and of the
            # others, which are zeros.
            own = means[np.repeat(self.strata, np.diff(part.indptr)), part.indices]
            width = part.shape[1]
            inside = (
                np.bincount(
                    part.indices, (part.data - own) ** 2 - own**2, minlength=width
                )
                + self.sizes @ means**2
            )
            total = np.bincount(part.indices, part.data**2, minlength=width)
            # What is left of a column that is constant inside strata is rounding.
            is_left = inside > _ROUNDING * total
            self._parts.append(part)
            self._means.append(means)
            squares.append(np.where(is_left, inside, 0.0))
        self.squares = np.concatenate(squares)

    def eta_squared(self, ids: np.ndarray) -> tuple[np.ndarray, int]:
        """Fraction of the variance inside strata that a factor explains.

        Parameters
        ----------
        ids : ndarray of shape (n_samples,)
            Number of each sample's level, without gaps.

        Returns
        -------
        eta : ndarray of shape (n_components,)
            In [0, 1]; 0 for features without variance inside strata.
        rank : int
            Degrees of freedom of the factor beside the strata.
        """
        n_levels = ids.max() + 1
        table = indicator(ids, n_levels).T @ indicator(self.strata, len(self.sizes))
        table = table.toarray().astype(np.float64)
        gram = np.diag(table.sum(axis=1)) - (table / self.sizes) @ table.T
        values, vectors = np.linalg.eigh(gram)
        kept = values > 1e-9 * len(ids)
        roots = (vectors[:, kept] / np.sqrt(values[kept])).T
        between = []
        for part, means in zip(self._parts, self._means, strict=True):
            sums = _sums(part, ids, n_levels) - table @ means
            between.append(((roots @ sums) ** 2).sum(axis=0))
        squares = np.where(self.squares > 0, self.squares, 1.0)
        eta = np.minimum(np.concatenate(between) / squares, 1.0)
        return np.where(self.squares > 0, eta, 0.0), int(kept.sum())

    def null_of_largest(self, permuted: Iterator[np.ndarray]) -> np.ndarray:
        """Largest eta squared of any feature, for each permutation of the levels."""
        return np.array([self.eta_squared(ids)[0].max() for ids in permuted])


def _sums(rows: sparse.csr_array, ids: np.ndarray, n_levels: int) -> np.ndarray:
    """Sum the rows of every level, as a table of shape (n_levels, n_columns)."""
    width = rows.shape[1]
    # This takes a third of the time of a product with the indicator of the levels.
    cells = np.repeat(ids * width, np.diff(rows.indptr))
    cells += rows.indices
    sums = np.bincount(cells, weights=rows.data, minlength=n_levels * width)
    return sums.reshape(n_levels, width)
