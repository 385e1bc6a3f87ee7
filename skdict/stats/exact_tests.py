"""Exact tests of all pairs of feature and class under permutation of the labels."""

import numpy as np
from scipy.special import gammaincc, gammaln

from skdict._utils.arrays import blocks

from .activity import indicator

# With batches, p-values of pairs that may be significant are exact in classes up to
# this size; the work grows with its square.
_MAX_EXACT_SIZE = 1000
_MAYBE_SIGNIFICANT = 0.1

# Below this skewness the gamma distribution takes ever more work to evaluate.
_MIN_SKEWNESS = 0.02

_BLOCK_CELLS = 2**22


def row_p_values(activity, labels, counts, class_sizes, batch_ids=None):
    """How probable as many active samples of a class are under permutation of rows.

    Parameters
    ----------
    activity : csr_array of shape (n_samples, n_components)
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
    # As many entries as samples at most, however many batches and classes there are.
    members = (
        indicator(labels, len(class_sizes)).T @ indicator(batch_ids, n_batches)
    ).tocsr()
    active = (indicator(batch_ids, n_batches).T @ activity).tocsr()
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


def _cumulants(members, active, sizes):
    """Mean, variance and third cumulant of the counts under permutation in batches."""
    mean = np.zeros((members.shape[0], active.shape[1]))
    variance, third = np.zeros_like(mean), np.zeros_like(mean)
    members = members.astype(np.float64).tocsc()
    n_batches, n_components = active.shape
    # The three of a hypergeometric number are products of a term in the class and a
    # term in the feature, so that a sum over batches is a product of matrices.
    for some in blocks(n_batches, n_components, _BLOCK_CELLS):
        n = members[:, some].tocoo()
        N = sizes[some].astype(np.float64)
        K = active[some].toarray().astype(np.float64)
        N_of = N[n.col]  # of each entry's batch

        def weighted(values, n=n):
            return type(n)((values, (n.row, n.col)), shape=n.shape).tocsr()

        mean += weighted(n.data / N_of) @ K
        K *= N[:, None] - K
        spread = n.data * (N_of - n.data) / (N_of**2 * np.maximum(N_of - 1, 1))
        variance += weighted(spread) @ K
        # K is K (N - K) by now, so N - 2 K is to be taken anew.
        K *= N[:, None] - 2 * active[some].toarray()
        lean = (N_of - 2 * n.data) / (N_of * np.maximum(N_of - 2, 1))
        third += weighted(spread * lean) @ K
    return mean, variance, third


def _gamma_tail(counts, mean, variance, third):
    """P(X >= count) from three cumulants, with the correction for continuity."""
    # Rounding leaves a variance of about 1e-16 where the count is certain.
    certain = variance <= 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(variance)
        z = (counts - 0.5 - mean) / deviation
        skewness = np.maximum(third / (variance * deviation), _MIN_SKEWNESS)
        shape = 4 / skewness**2
        tail = gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0))
    return np.where(certain | (counts == 0), 1.0, tail)


def hypergeometric_tail(k, N, K, n):
    """P(X >= k) for hypergeometric X, elementwise.

    The same as ``scipy.stats.hypergeom.sf(k - 1, N, K, n)``, which takes 80 to 200
    times as long (scipy 1.17, where it is one ufunc; before, a loop over the elements):
    it starts each sum anew, where neighbouring terms here differ by one product.

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
    # The sum starts beyond the mean, where the terms fall; below it, the other tail
    # is summed: n - X is hypergeometric, too.
    # In float64 from here on: counts are int32, and k N exceeds them early.
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


def convolved_tail(k, N, K, n):
    """P(X_1 + ... + X_G >= k) for independent hypergeometric X_g.

    Parameters
    ----------
    k : ndarray of shape (n_features,)
        Counts.
    N, n : ndarray of shape (n_groups,)
        Samples in each batch, and those of them that are drawn.
    K : ndarray of shape (n_groups, n_features)
        Active samples in each batch.

    Returns
    -------
    p : ndarray of shape (n_features,)
    """
    pmf = np.ones((1, len(k)))
    for N_g, K_g, n_g in zip(N, K, n, strict=True):
        # No feature is active more often than that among the drawn.
        most = min(n_g, K_g.max(initial=0))
        draws = np.exp(_log_pmf(np.arange(most + 1.0)[:, None], N_g, K_g, n_g))
        longer = np.zeros((len(pmf) + most, len(k)))
        for j, probability in enumerate(draws):
            longer[j : j + len(pmf)] += probability * pmf
        pmf = longer
    # Sums of positive terms only, so that small tails keep their digits.
    tails = np.cumsum(pmf[::-1], axis=0)[::-1]
    found = tails[np.minimum(k, len(tails) - 1), np.arange(len(k))]
    return np.where(k < len(tails), np.minimum(found, 1), 0.0)


def _log_pmf(j, N, K, n):
    # gammaln is infinite where a binomial coefficient is 0.
    return _log_choose(K, j) + _log_choose(N - K, n - j) - _log_choose(np.float64(N), n)


def _log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
