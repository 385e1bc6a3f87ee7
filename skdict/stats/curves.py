"""Sorted scores of all features, each rank beside its null."""

from numbers import Integral
from typing import NamedTuple

import numpy as np

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params

from .activity import find_active
from .exchange import plan_exchange
from .labels import encode_batch, encode_classes, encode_groups, row_of
from .scores import (
    CONTRAST_CONSTRAINT,
    THRESHOLD_CONSTRAINT,
    null_statistics,
    score_features,
)


class SortedCurve(NamedTuple):
    """Scores of all features by falling score; arrays of shape (n_components,)."""

    features: np.ndarray
    scores: np.ndarray
    low: np.ndarray | None  # 5 % quantile over the permutations, for each rank
    high: np.ndarray | None  # 95 % quantile


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "chosen": [list],
        "contrast": CONTRAST_CONSTRAINT,
        "activity_threshold": THRESHOLD_CONSTRAINT,
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "batch": ["array-like", None],
        "groups": ["array-like", None],
        "control": ["array-like", None],
        "grid_shape": ["array-like", None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def selectivity_curves(
    codes,
    y,
    chosen,
    *,
    contrast,
    activity_threshold,
    n_permutations,
    batch,
    groups,
    control,
    grid_shape,
    random_state,
):
    """The sorted curve of each chosen label; None: of the best over all labels.

    The other parameters are those of :func:`~skdict.metrics.selectivity_curve`. The
    permutations are drawn once for all curves.

    Returns
    -------
    curves : list of SortedCurve
    """
    activity = find_active(codes, activity_threshold)
    classes, labels = encode_classes(y, activity.shape[0])
    batch_ids = encode_batch(batch, labels, control)
    shared = {"y": y, "batch": batch, "control": control}
    group_ids = encode_groups(groups, len(labels), shared)
    exchange = plan_exchange(
        labels, batch_ids, group_ids, grid_shape, tested=n_permutations > 0
    )
    moved = exchange.moved_rows(labels)
    return _sort_features(
        activity,
        labels,
        [moved if label is None else row_of(label, classes) for label in chosen],
        contrast,
        exchange=exchange,
        n_permutations=n_permutations,
        random_state=random_state,
    )


def _sort_features(
    activity,
    labels,
    rows_of_curves,
    contrast,
    *,
    exchange,
    n_permutations,
    random_state,
):
    """Sort the features by their best score over some classes, for several such sets.

    Parameters
    ----------
    activity, labels, contrast
        As in `score_features`.
    rows_of_curves : list of slice or ndarray of int
        Classes over which the best score is taken, for each curve.
    exchange : Exchange
        How labels are exchanged.
    n_permutations : int
        Number of permutations, which all curves share. With 0 there is no null.
    random_state : int, RandomState instance or None
        Seed of the permutations.

    Returns
    -------
    curves : list of SortedCurve
    """
    table = score_features(activity, labels, np.bincount(labels), contrast)
    best = [table[rows].max(axis=0) for rows in rows_of_curves]
    orders = [np.argsort(-scores, kind="stable") for scores in best]
    bands = [(None, None)] * len(best)
    if n_permutations > 0:
        null = null_statistics(
            lambda permuted: [
                np.sort(permuted[rows].max(axis=0))[::-1] for rows in rows_of_curves
            ],
            activity,
            labels,
            contrast,
            exchange=exchange,
            n_permutations=n_permutations,
            random_state=random_state,
        )
        moved = exchange.moved(labels)
        for i, rows in enumerate(rows_of_curves):
            if not moved[rows].any():
                null[:, i] = np.nan
        bands = np.quantile(null, [0.05, 0.95], axis=0).swapaxes(0, 1)
    return [
        SortedCurve(order, scores[order], *band)
        for scores, order, band in zip(best, orders, bands, strict=True)
    ]
