"""Tests of all pairs of feature and class when the labels of groups are permuted."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import gammaln

from skdict._utils.arrays import blocks

from .activity import indicator
from .shift_tests import pearson_tail

# Cells of a dense block of (groups, features).
_BLOCK_CELLS = 2**22


def group_p_values(
    counts: sparse.csr_array,
    sizes: np.ndarray,
    labels: np.ndarray,
    batch_ids: np.ndarray | None,
    n_classes: int,
) -> np.ndarray:
    """Probability of sums at least as high when the labels of groups are permuted.

    Parameters
    ----------
    counts : csr_array of shape (n_groups, n_components)
        Active rows of each group.
    sizes : ndarray of shape (n_groups,)
        Rows of each group.
    labels : ndarray of shape (n_groups,)
        Class of each group.
    batch_ids : ndarray of shape (n_groups,) or None
        Batch of each group; labels stay inside their batch. None: one batch.
    n_classes : int

    Returns
    -------
    p_values : ndarray of shape (n_classes, n_components)

    Notes
    -----
    The statistic is the number of active rows of a class minus the number expected at
    the feature's overall rate. Its mean, variance and third cumulant under the
    permutations are those of sampling without replacement, and its tail is that of
    Pearson's type III distribution with these three. If a few groups hold all the
    activity, that tail is too thin. The p-value is therefore at least the probability
    that all active groups of the class get its label again, which is exact if no other
    groups are active.
    """
    batch_ids = np.zeros(len(labels), np.intp) if batch_ids is None else batch_ids
    n_batches = batch_ids.max() + 1
    N = np.bincount(batch_ids, minlength=n_batches).astype(np.float64)
    places = labels * n_batches + batch_ids
    n = np.bincount(places, minlength=n_classes * n_batches)
    n = n.reshape(n_classes, n_batches)
    drawn = n * (N - n) / (N * np.maximum(N - 1, 1))
    lean = drawn * (N - 2 * n) / np.maximum(N - 2, 1)
    of_batches = indicator(batch_ids, n_batches).T
    of_classes = indicator(labels, n_classes).T
    of_places = indicator(places, n_classes * n_batches).T

    p_values = np.empty((n_classes, counts.shape[1]))
    rates = counts.sum(axis=0) / sizes.sum()
    counts = counts.tocsc()
    for some in blocks(counts.shape[1], len(labels), _BLOCK_CELLS):
        active = counts[:, some].toarray()
        excess = active - sizes[:, None] * rates[some]
        observed = of_classes @ excess
        means = (of_batches @ excess) / N[:, None]
        excess -= means[batch_ids]
        squares = excess * excess
        variance = drawn @ (of_batches @ squares)
        third = lean @ (of_batches @ (squares * excess))
        tail = pearson_tail(observed - n @ means, variance, third)
        n_active = (of_places @ (active > 0)).reshape(n_classes, n_batches, -1)
        p_values[:, some] = np.maximum(tail, _same_again(n_active, n, N))
    return p_values


def _same_again(m: np.ndarray, n: np.ndarray, N: np.ndarray) -> np.ndarray:
    """P(m given groups all get a label that n of N groups have), over all batches."""
    n, N = n[:, :, None], N[None, :, None]
    logs = gammaln(N - m + 1) - gammaln(n - m + 1) + gammaln(n + 1) - gammaln(N + 1)
    return np.exp(np.minimum(logs.sum(axis=1), 0.0))


def own_label_tests(
    active: np.ndarray,
    labelled: np.ndarray,
    sizes: np.ndarray,
    batch_ids: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Test each feature for labels of its own, which are permuted by whole groups.

    Parameters
    ----------
    active : ndarray of shape (n_groups, n_features)
        Active rows of each group.
    labelled : ndarray of shape (n_groups, n_features), bool
        Which groups have the label, feature by feature.
    sizes : ndarray of shape (n_groups,)
        Rows of each group.
    batch_ids : ndarray of shape (n_groups,) or None
        Batch of each group; labels stay inside their batch. None: one batch.

    Returns
    -------
    excess : ndarray of shape (n_features,)
        Active rows of labelled groups less the number expected at the feature's rate.
    null_mean, null_std : ndarray of shape (n_features,)
        Its mean and standard deviation under the permutations.
    p_values : ndarray of shape (n_features,)
        Probability of an excess at least as large; see `group_p_values`.
    """
    batch_ids = np.zeros(len(sizes), np.intp) if batch_ids is None else batch_ids
    N = np.bincount(batch_ids).astype(np.float64)[:, None]
    of_batches = indicator(batch_ids, len(N)).T
    n = of_batches @ labelled.astype(np.float64)
    deviation = active - sizes[:, None] * (active.sum(axis=0) / sizes.sum())
    excess = np.einsum("gf,gf->f", labelled, deviation)
    means = (of_batches @ deviation) / N
    null_mean = (n * means).sum(axis=0)
    deviation -= means[batch_ids]
    squares = deviation * deviation
    drawn = n * (N - n) / (N * np.maximum(N - 1, 1))
    lean = drawn * (N - 2 * n) / np.maximum(N - 2, 1)
    variance = (drawn * (of_batches @ squares)).sum(axis=0)
    third = (lean * (of_batches @ (squares * deviation))).sum(axis=0)
    tail = pearson_tail(excess - null_mean, variance, third)
    m = of_batches @ ((active > 0) & labelled).astype(np.float64)
    logs = gammaln(N - m + 1) - gammaln(n - m + 1) + gammaln(n + 1) - gammaln(N + 1)
    again = np.exp(np.minimum(logs.sum(axis=0), 0.0))
    return excess, null_mean, np.sqrt(variance), np.maximum(tail, again)
