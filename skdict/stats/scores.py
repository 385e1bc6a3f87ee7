"""Selectivity scores of counts of active samples, and their permutation null."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import tee
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skdict._utils.arrays import blocks
from skdict._utils.types import Seed

from .activity import Activity, count_active, count_each, indicator, sum_active
from .exchange import Exchange, of_groups

# Number of cells of the table of scores that are computed at a time.
_BLOCK_CELLS = 2**17

# Largest number of cells of a table (n_groups, n_components) that is kept in memory.
_MAX_TABLE_CELLS = 2**25


def score_features(
    activity: Activity,
    labels: np.ndarray,
    class_sizes: np.ndarray,
    contrast: str,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Score all features for all classes, as an array (n_classes, n_components)."""
    counts = count_active(activity, labels, len(class_sizes))
    return score_counts(counts, class_sizes, contrast, out)


def null_statistics(
    statistic: Callable[[np.ndarray], Any],
    activity: Activity,
    labels: np.ndarray,
    contrast: str,
    *,
    exchange: Exchange,
    n_permutations: int,
    random_state: Seed,
) -> np.ndarray:
    """Compute a statistic of the table of scores for every permutation of the labels.

    Parameters
    ----------
    statistic : callable
        It takes a table of scores (n_classes, n_components) and returns an array. It
        must not keep the table, which is overwritten.
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
    null: list[Any] = []
    scores = None
    for counts, class_sizes in _counts_of_draws(
        activity, labels, exchange, n_permutations, rng
    ):
        # Reuse the table: allocating it anew costs as much as the arithmetic.
        scores = score_counts(counts, class_sizes, contrast, scores)
        null.append(statistic(scores))
    return np.array(null)


def null_of_best(
    activity: Activity,
    labels: np.ndarray,
    contrast: str,
    *,
    exchange: Exchange,
    n_permutations: int,
    random_state: Seed,
) -> np.ndarray:
    """Find the best score of all features for each class, in every permutation.

    `selectivity_report` and the HTML report use this null, and `compare_dictionaries`
    its mean over the classes.

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


def _counts_of_draws(
    activity: Activity,
    labels: np.ndarray,
    exchange: Exchange,
    n_permutations: int,
    rng: np.random.RandomState,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the counts (n_classes, n_components) and class sizes of permuted labels."""
    n_classes = labels.max() + 1
    group_ids = exchange.group_ids
    if group_ids is None:
        class_sizes = np.bincount(labels)
        draws = exchange.permuted(labels, n_permutations, rng)
        for counts in count_each(activity, draws, n_classes):
            yield counts, class_sizes
        return
    own_labels, batch_ids = of_groups(group_ids, labels, exchange.batch_ids)
    draws = Exchange(batch_ids).permuted(own_labels, n_permutations, rng)
    draws, counted = tee(draws)
    sizes = np.bincount(group_ids)
    if len(sizes) * activity.shape[1] > _MAX_TABLE_CELLS:
        of_rows = (drawn[group_ids] for drawn in counted)
        all_counts = count_each(activity, of_rows, n_classes)
    else:
        # The samples of a group stay together, so count them once. The table is in C
        # order because the product adds whole rows.
        table = sum_active(activity, group_ids, len(sizes)).toarray(order="C")
        all_counts = (indicator(drawn, n_classes).T @ table for drawn in counted)
    for counts, drawn in zip(all_counts, draws, strict=True):
        # Groups differ in size, so the sizes of classes change with the permutation.
        yield counts, np.bincount(drawn, weights=sizes, minlength=n_classes)


def score_counts(
    counts: np.ndarray,
    class_sizes: np.ndarray,
    contrast: str,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Score a table of counts (n_classes, n_components).

    A score is a single division of whole numbers, which float64 holds exactly for up
    to 9e7 samples. It is therefore the float64 nearest to the true fraction: equal
    scores are equal to the bit, and a score of 1/5 is not above 0.2. Neither would
    hold for differences of two rounded rates.
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


def _exceed_max_of_others(
    counts: np.ndarray, sizes: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Subtract from the rate of every class the largest rate of the other classes."""
    rates = np.divide(counts, sizes, out=out)
    features = np.arange(counts.shape[1])
    first = rates.argmax(axis=0)
    rates[first, features] = -np.inf
    second = rates.argmax(axis=0)
    # Among equal rates any will do: the fractions below are computed from the counts.
    count_first, size_first = counts[first, features], sizes[first, 0]
    count_second, size_second = counts[second, features], sizes[second, 0]
    for some in _class_blocks(counts):
        np.multiply(counts[some], size_first, out=out[some])
        out[some] -= sizes[some] * count_first
        out[some] /= sizes[some] * size_first
    out[first, features] = count_first * size_second - count_second * size_first
    out[first, features] /= size_first * size_second
    return out


def _class_blocks(counts: np.ndarray) -> Iterator[slice]:
    """Slices of a few classes, whose temporary arrays stay in the cache.

    With temporary arrays of the whole table, scoring would take longer than counting.
    """
    return blocks(len(counts), counts.shape[1], _BLOCK_CELLS)
