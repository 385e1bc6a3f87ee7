"""The score of selectivity: counts of active samples, and its permutation null."""

from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from skdict._utils.arrays import blocks
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions

from .activity import count_active, indicator
from .exchange import Exchange, of_groups

CONTRAST_CONSTRAINT = [StrOptions({"average", "maximum"})]
THRESHOLD_CONSTRAINT = [Interval(Real, 0, None, closed="left")]

# Cells of the table of scores that are worked on at a time.
_BLOCK_CELLS = 2**17

# Cells of a table of groups and features up to which it is kept.
_MAX_TABLE_CELLS = 2**25


def score_features(
    activity: sparse.csr_array,
    labels: np.ndarray,
    class_sizes: np.ndarray,
    contrast: str,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Score all features for all classes, as an array (n_classes, n_components)."""
    counts = count_active(activity, labels, len(class_sizes))
    return score_counts(counts, class_sizes, contrast, out)


def null_statistics(
    statistic,
    activity,
    labels,
    contrast,
    *,
    exchange: Exchange,
    n_permutations,
    random_state,
):
    """A statistic of the table of scores, for every permutation of the labels.

    Parameters
    ----------
    statistic : callable
        From a table of scores (n_classes, n_components) to an array; it must not
        keep the table, which is overwritten.
    activity, labels, contrast
        As in `score_features`.
    exchange : Exchange
        How labels are exchanged.
    n_permutations : int
        Number of permutations.
    random_state : int, RandomState instance or None
        Seed of the permutations.

    Returns
    -------
    null : ndarray of shape (n_permutations, n_statistics)
    """
    rng = check_random_state(random_state)
    class_sizes = np.bincount(labels)

    def score(labels, out):
        return score_features(activity, labels, class_sizes, contrast, out=out)

    if exchange.group_ids is not None:
        score = _scorer_of_groups(
            activity, exchange.group_ids, len(class_sizes), contrast
        )
        labels, batch_ids = of_groups(exchange.group_ids, labels, exchange.batch_ids)
        exchange = Exchange(batch_ids)
    null, scores = [], None
    for permuted in exchange.permuted(labels, n_permutations, rng):
        # Into the same table: new memory for it costs as much as the arithmetic.
        scores = score(permuted, out=scores)
        null.append(statistic(scores))
    return np.array(null)


def null_of_best(
    activity, labels, contrast, *, exchange: Exchange, n_permutations, random_state
):
    """The best score of all features for each class, in every permutation.

    The one null of a best score: of `selectivity_report`, of the HTML report and, as
    the mean over the classes, of `compare_dictionaries`.

    Returns
    -------
    null : ndarray of shape (n_permutations, n_classes)
    """
    null = null_statistics(
        lambda scores: scores.max(axis=1),
        activity,
        labels,
        contrast,
        exchange=exchange,
        n_permutations=n_permutations,
        random_state=random_state,
    )
    return null.reshape(n_permutations, labels.max() + 1)


def _scorer_of_groups(activity, group_ids, n_classes, contrast):
    """A function from the labels of groups to the table of scores of their samples."""
    sizes = np.bincount(group_ids)
    if len(sizes) * activity.shape[1] > _MAX_TABLE_CELLS:

        def count(labels):
            return count_active(activity, labels[group_ids], n_classes)

    else:
        # The samples of a group stay together, so that they are counted once. In C
        # order, as the product adds up whole rows.
        table = (indicator(group_ids, len(sizes)).T @ activity).toarray(order="C")

        def count(labels):
            return indicator(labels, n_classes).T @ table

    def score(labels, out):
        # Groups differ in size, and with them the permuted classes.
        class_sizes = np.bincount(labels, weights=sizes, minlength=n_classes)
        return score_counts(count(labels), class_sizes, contrast, out)

    return score


def score_counts(counts, class_sizes, contrast, out=None):
    """Score a table of counts (n_classes, n_components).

    A score is one division of whole numbers that float64 holds exactly (up to 9e7
    samples), and so the float64 next to the true fraction: scores that are equal are
    equal to the bit, and one of 1/5 is not above 0.2. Differences of rates, each of
    them rounded, are neither.
    """
    n_samples = class_sizes.sum()
    if out is None:
        out = np.empty(counts.shape)
    sizes = class_sizes[:, None].astype(np.float64)
    if contrast == "maximum":
        return _exceed_max_of_others(counts, sizes, out)

    totals = counts.sum(axis=0)
    for some in _class_blocks(counts):
        np.multiply(counts[some], n_samples, out=out[some], dtype=np.float64)
        out[some] -= sizes[some] * totals
        out[some] /= sizes[some] * (n_samples - sizes[some])
    return out


def _exceed_max_of_others(counts, sizes, out):
    """For every class, by how much its rate exceeds the largest of the others."""
    rates = np.divide(counts, sizes, out=out)
    features = np.arange(counts.shape[1])
    first = rates.argmax(axis=0)
    rates[first, features] = -np.inf
    second = rates.argmax(axis=0)
    # Of rates that are equal, any will do: the fractions below are those of counts.
    count_first, size_first = counts[first, features], sizes[first, 0]
    count_second, size_second = counts[second, features], sizes[second, 0]
    for some in _class_blocks(counts):
        np.multiply(counts[some], size_first, out=out[some])
        out[some] -= sizes[some] * count_first
        out[some] /= sizes[some] * size_first
    out[first, features] = count_first * size_second - count_second * size_first
    out[first, features] /= size_first * size_second
    return out


def _class_blocks(counts):
    """Slices of a few classes, whose temporary arrays stay in the cache.

    Those of the whole table would take longer than the counting.
    """
    return blocks(len(counts), counts.shape[1], _BLOCK_CELLS)
