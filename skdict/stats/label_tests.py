"""Tests of all pairs of feature and class, for every kind of exchange."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .activity import Activity, count_active, sum_active
from .exact_tests import row_p_values
from .exchange import Exchange, of_groups
from .group_tests import group_p_values
from .p_values import adjust
from .scores import score_counts
from .shift_tests import shift_p_values


@dataclass
class LabelTests:
    """The tests of all pairs; tables have the shape (n_classes, n_components)."""

    sizes: np.ndarray  # samples of each class
    counts: np.ndarray  # active samples of each class
    scores: np.ndarray  # average selectivity
    p_values: np.ndarray
    q_values: np.ndarray
    tested: np.ndarray  # of each class, whether an exchange moves it
    exchange: Exchange  # what was exchanged

    def best_classes(self, alpha: float) -> np.ndarray:
        """For each feature, the class with the highest score.

        Only classes with a q-value up to `alpha` count, or all if there are none.
        """
        # Scores lie between -1 and 1: minus 4 puts all other classes below these.
        found = self.q_values <= alpha
        return np.where(found, self.scores, self.scores - 4).argmax(axis=0)


def run_label_tests(
    activity: Activity,
    labels: np.ndarray,
    exchange: Exchange,
    correction: str = "bh",
) -> LabelTests:
    """Test every feature for every class.

    Parameters
    ----------
    activity : csr_array or DeferredActivity of shape (n_samples, n_components)
        From `find_active`.
    labels : ndarray of shape (n_samples,)
        Class of each sample.
    exchange : Exchange
        How labels are exchanged: row by row, by whole groups, or as maps.
    correction : {"bh", "by"}, default="bh"
        How the false discovery rate is controlled over all pairs that are tested.

    Returns
    -------
    tests : LabelTests
    """
    sizes = np.bincount(labels)
    counts = count_active(activity, labels, len(sizes))
    group_ids = exchange.group_ids
    if exchange.grid_shape is not None:
        p_values = shift_p_values(activity, labels, counts, exchange.grid_shape)
    elif group_ids is not None:
        own_labels, own_batches = of_groups(group_ids, labels, exchange.batch_ids)
        p_values = group_p_values(
            sum_active(activity, group_ids, group_ids.max() + 1),
            np.bincount(group_ids),
            own_labels,
            own_batches,
            len(sizes),
        )
    else:
        p_values = row_p_values(activity, labels, counts, sizes, exchange.batch_ids)
    tested = exchange.moved(labels)
    return LabelTests(
        sizes=sizes,
        counts=counts,
        scores=score_counts(counts, sizes, "average"),
        p_values=p_values,
        q_values=adjust(p_values, correction, tested),
        tested=tested,
        exchange=exchange,
    )
