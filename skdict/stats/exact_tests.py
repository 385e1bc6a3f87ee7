"""Exact tests of all pairs of feature and class under permutation of the labels."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import gammaincc, gammaln

from skdict._utils.arrays import blocks

from .activity import Activity, indicator, sum_active

# With batches, p-values of pairs that may be significant are exact in classes up to
# this size; the work grows with its square.
_MAX_EXACT_SIZE = 1000
_MAYBE_SIGNIFICANT = 0.1

# The smaller the skewness, the longer the gamma distribution takes to evaluate.
_MIN_SKEWNESS = 0.02

_BLOCK_CELLS = 2**22


def row_p_values(
    activity: Activity,
    labels: np.ndarray,
    counts: np.ndarray,
    class_sizes: np.ndarray,
    batch_ids: np.ndarray | None = None,
) -> np.ndarray:
    """Probability of at least this many active samples when labels are permuted.

    Parameters
    ----------
    activity : csr_array or DeferredActivity of shape (n_samples, n_components)
        From `find_active`.
    labels : ndarray of shape (n_samples,)
        Class of each sample.
    counts : ndarray of shape (n_classes, n_components)
        Active samples of each class.
    class_sizes : ndarray of shape (n_classes,)
        Samples of each class.
    batch_ids : ndarray of shape (n_samples,), default=None
        Batch of each sample; labels stay inside their batch. None: one batch.

    Returns
    -------
    p_values : ndarray of shape (n_classes, n_components)
    """
    if batch_ids is None or batch_ids.max() == 0:
        n_samples, n_active = len(labels), counts.sum(axis=0)
        p_values = np.empty(counts.shape)
        for c, size in enumerate(class_sizes):
            p_values[c] = hypergeometric_tail(counts[c], n_samples, n_active, size)
        return p_values

    n_batches = batch_ids.max() + 1
    sizes = np.bincount(batch_ids)
    # Sparse: it has at most one entry for each sample.
    members = (
        indicator(labels, len(class_sizes)).T @ indicator(batch_ids, n_batches)
    ).tocsr()
    active = sum_active(activity, batch_ids, n_batches)
    p_values = _gamma_tail(counts, *_cumulants(members, active, sizes))
    for c in np.flatnonzero(class_sizes <= _MAX_EXACT_SIZE).tolist():
        features = np.flatnonzero(p_values[c] <= _MAYBE_SIGNIFICANT)
        if not features.size:
            continue
        own = slice(members.indptr[c], members.indptr[c + 1])
        batches = members.indices[own]
        active_here = active[batches].toarray()[:, features]
        for some in blocks(len(features), class_sizes[c] + 1, _BLOCK_CELLS):
            p_values[c, features[some]] = convolved_tail(
                counts[c, features[some]],
                sizes[batches],
                active_here[:, some],
                members.data[own],
            )
    return p_values


def _cumulants(
    members: sparse.csr_array, active: sparse.csr_array, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and third cumulant of the counts under permutation in batches."""
    mean = np.zeros((members.shape[0], active.shape[1]))
    variance, third = np.zeros_like(mean), np.zeros_like(mean)
    members = members.astype(np.float64).tocsc()
    n_batches, n_components = active.shape
    # Each cumulant of a hypergeometric number is a product of a term in the class and
    # a term in the feature, so its sum over batches is a product of matrices.
    for some in blocks(n_batches, n_components, _BLOCK_CELLS):
        n = members[:, some].tocoo()
        N = sizes[some].astype(np.float64)
        K = active[some].toarray().astype(np.float64)
        N_of = N[n.col]  # of each entry's batch

        def weighted(values: np.ndarray, n: sparse.coo_array = n) -> sparse.csr_array:
            return type(n)((values, (n.row, n.col)), shape=n.shape).tocsr()

        mean += weighted(n.data / N_of) @ K
        K *= N[:, None] - K
        spread = n.data * (N_of - n.data) / (N_of**2 * np.maximum(N_of - 1, 1))
        variance += weighted(spread) @ K
        # K holds K (N - K) by now, so N - 2 K needs the counts again.
        K *= N[:, None] - 2 * active[some].toarray()
        lean = (N_of - 2 * n.data) / (N_of * np.maximum(N_of - 2, 1))
        third += weighted(spread * lean) @ K
    return mean, variance, third


def _gamma_tail(
    counts: np.ndarray, mean: np.ndarray, variance: np.ndarray, third: np.ndarray
) -> np.ndarray:
    """P(X >= count) from three cumulants, with the correction for continuity."""
    # If the count is certain, rounding leaves a variance of about 1e-16.
    certain = variance <= 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(variance)
        z = (counts - 0.5 - mean) / deviation
        skewness = np.maximum(third / (variance * deviation), _MIN_SKEWNESS)
        shape = 4 / skewness**2
        tail = gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0))
    return np.where(certain | (counts == 0), 1.0, tail)


def hypergeometric_tail(k: np.ndarray, N: int, K: np.ndarray, n: int) -> np.ndarray:
    """P(X >= k) for hypergeometric X, elementwise.

    ``scipy.stats.hypergeom.sf(k - 1, N, K, n)`` gives the same and takes 80 to 200
    times as long (scipy 1.17, where it is one ufunc; before, it was a loop over the
    elements). Here a single product leads from one term of the sum to the next.

    Parameters
    ----------
    k, K : ndarray of int
        Counts, and numbers of active samples among all.
    N, n : int
        Numbers of all samples, and of those drawn.

    Returns
    -------
    p : ndarray
    """
    # Above the mean the terms of the sum fall. For a k below it, sum the other tail:
    # n - X is hypergeometric too. Use float64, as k N overflows the int32 of counts.
    k, K = k.astype(np.float64), K.astype(np.float64)
    below = k * N <= n * K
    j = np.where(below, n - k + 1, k)
    K = np.where(below, N - K, K)
    term = np.exp(_log_pmf(j, N, K, n))
    total = term.copy()
    while (term > 1e-17 * total).any():
        term *= (K - j) * (n - j) / ((j + 1) * (N - K - n + j + 1))
        total += term
        j += 1
    return np.clip(np.where(below, 1 - total, total), 0, 1)


def convolved_tail(
    k: np.ndarray, N: np.ndarray, K: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """P(X_1 + ... + X_G >= k) for independent hypergeometric X_g.

    Parameters
    ----------
    k : ndarray of shape (n_features,)
        Counts.
    N, n : ndarray of shape (n_batches,)
        Numbers of samples in each batch, and of those that are drawn.
    K : ndarray of shape (n_batches, n_features)
        Number of active samples in each batch.

    Returns
    -------
    p : ndarray of shape (n_features,)
    """
    pmf = np.ones((1, len(k)))
    for N_g, K_g, n_g in zip(N, K, n, strict=True):
        # Largest possible number of active samples among those drawn.
        most = min(n_g, K_g.max(initial=0))
        draws = np.exp(_log_pmf(np.arange(most + 1.0)[:, None], N_g, K_g, n_g))
        longer = np.zeros((len(pmf) + most, len(k)))
        for j, probability in enumerate(draws):
            longer[j : j + len(pmf)] += probability * pmf
        pmf = longer
    # Add positive terms only: a difference would lose the digits of a small tail.
    tails = np.cumsum(pmf[::-1], axis=0)[::-1]
    found = tails[np.minimum(k, len(tails) - 1), np.arange(len(k))]
    return np.where(k < len(tails), np.minimum(found, 1), 0.0)


def _log_pmf(j: np.ndarray, N: int, K: np.ndarray, n: int) -> np.ndarray:
    # gammaln is infinite where a binomial coefficient is 0.
    log_all = _log_choose(np.float64(N), np.float64(n))
    return _log_choose(K, j) + _log_choose(N - K, n - j) - log_all


def _log_choose(n: np.ndarray | np.float64, k: np.ndarray | np.float64) -> np.ndarray:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
