"""Folds in which features are chosen on training rows and judged on the others."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)

from skdict._utils.checks import check_folds
from skdict.stats import cross


def make_folds(
    cv: Any,
    labels: dict[str, np.ndarray],
    groups: np.ndarray | None,
    rng: np.random.RandomState,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """List folds that keep groups whole and hold every kind of label on both sides.

    Parameters
    ----------
    cv : int, splitter or iterable of (train, test)
        A number of folds is stratified by all labels together, or by the first ones if
        some combinations are too rare for that. A splitter gets the first labels.
    labels : dict of str to ndarray of shape (n_samples,)
        Numbers of the labels, by name, without gaps.
    groups : ndarray of shape (n_samples,) or None
        Number of each row's group.
    rng : RandomState
        Shuffles the rows.

    Returns
    -------
    folds : list of (train, test), pairs of indices
    """
    first = next(iter(labels.values()))
    rows = np.zeros((len(first), 1))
    if isinstance(cv, Integral):
        target = _strata([*labels.values()], groups, int(cv))
        splitter = _splitter(int(cv), target, groups, rng.randint(2**31))
    else:
        splitter, target = check_cv(cv), first
    folds = check_folds(splitter.split(rows, target, groups), len(rows))
    for i, (train, test) in enumerate(folds):
        both = np.intersect1d(train, test)
        if both.size:
            raise ValueError(
                f"{both.size} rows are on both sides of fold {i} (the first is row "
                f"{both[0]}): they would not be held out."
            )
        if groups is not None and np.intersect1d(groups[train], groups[test]).size:
            raise ValueError(
                f"Groups are on both sides of fold {i}: pass a splitter that keeps "
                "groups whole, such as GroupKFold."
            )
        for name, ids in labels.items():
            for side, taken in (("trained on", train), ("held out", test)):
                if len(np.unique(ids[taken])) < 2:
                    raise ValueError(
                        f"The {len(taken)} rows {side} in fold {i} have a single value "
                        f"of {name}, but at least two are needed: take fewer folds, "
                        "or pass a splitter."
                    )
    return folds


def _strata(
    labels: Sequence[np.ndarray], groups: np.ndarray | None, n_folds: int
) -> np.ndarray | None:
    """Choose the labels by which folds are stratified: the finest that suffice."""
    finest = labels[0]
    for more in labels[1:]:
        finest = cross(finest, more)
    for target in (finest, *labels):
        owners = target if groups is None else _pairs(target, groups)
        if np.bincount(owners).min() >= n_folds:
            return target
    return None


def _pairs(target: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Give the label of every distinct pair of label and group."""
    n_groups = groups.max() + 1
    return np.unique(target * n_groups + groups) // n_groups


def _splitter(
    n_folds: int, target: np.ndarray | None, groups: np.ndarray | None, seed: int
) -> Any:
    if groups is not None:
        if target is None:
            return GroupKFold(n_folds)
        return StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    if target is None:
        return KFold(n_folds, shuffle=True, random_state=seed)
    return StratifiedKFold(n_folds, shuffle=True, random_state=seed)
