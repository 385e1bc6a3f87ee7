"""Curves of sorted scores, with a null for each rank."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes, Data, Seed

from .activity import Activity, find_active
from .constraints import SCORE_CONSTRAINTS
from .exchange import Exchange, exchange_of_labels
from .labels import encode_classes, row_of
from .scores import null_statistics, score_features


class SortedCurve(NamedTuple):
    """Features sorted by falling score; arrays of shape (n_components,)."""

    features: np.ndarray
    scores: np.ndarray
    low: np.ndarray | None  # 5 % quantile over the permutations, for each rank
    high: np.ndarray | None  # 95 % quantile


@validate_params(
    {**SCORE_CONSTRAINTS, "chosen": [list]}, prefer_skip_nested_validation=True
)
def selectivity_curves(
    codes: Codes,
    y: Data,
    chosen: list[Any],
    *,
    contrast: str,
    activity_threshold: float,
    n_permutations: int,
    batch: Data | None,
    groups: Data | None,
    control: Data | None,
    grid_shape: Data | None,
    random_state: Seed,
) -> list[SortedCurve]:
    """Sort the scores of all features, once for each chosen label.

    None among the chosen labels stands for the best score over all labels. The other
    parameters are those of :func:`~skdict.metrics.selectivity_curve`. All curves share
    the permutations.

    Returns
    -------
    curves : list of SortedCurve
    """
    activity = find_active(codes, activity_threshold)
    classes, labels = encode_classes(y, activity.shape[0])
    exchange = exchange_of_labels(
        y,
        labels,
        batch=batch,
        groups=groups,
        control=control,
        grid_shape=grid_shape,
        tested=n_permutations > 0,
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
    activity: Activity,
    labels: np.ndarray,
    rows_of_curves: list[slice | np.ndarray],
    contrast: str,
    *,
    exchange: Exchange,
    n_permutations: int,
    random_state: Seed,
) -> list[SortedCurve]:
    """Sort the features by their best score over some classes, for several curves.

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
    bands: Any = [(None, None)] * len(best)
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
