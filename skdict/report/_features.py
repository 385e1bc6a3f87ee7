"""The list of features: density, and tests for labels and confounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from skdict._utils.labels import encode
from skdict._utils.types import Seed
from skdict.metrics import auroc_scores
from skdict.stats import (
    Exchange,
    LabelTests,
    choose_exchange,
    cross,
    find_active,
    null_of_best,
    run_label_tests,
    total_active,
)

# Largest number of labels on a card.
MAX_LABELS = 10

# Keys of the columns of a confound; its name replaces the braces.
_CONFOUND_KEYS = (
    "follows_{}",
    "best_{}",
    "{}_score",
    "{}_null",
    "{}_q_value",
    "q_value_within_{}",
)


@dataclass
class Column:
    """Tests of the features for one set of labels."""

    name: str
    levels: np.ndarray
    ids: np.ndarray
    tests: LabelTests
    null: np.ndarray | None  # 95 % quantile of the best score, for each level
    best: np.ndarray  # index of the best level of each feature

    def of_best(self, table: np.ndarray) -> np.ndarray:
        """Take each feature's best level from a table (n_levels, n_features)."""
        return table[self.best, np.arange(len(self.best))]


@dataclass
class Features:
    """All numbers of the list of features."""

    names: list[str]
    n_active: np.ndarray
    n_rows: int
    label: Column | None
    confounds: dict[str, Column] = field(default_factory=dict)
    # The smallest q-value over the labels inside each confound's values.
    within: dict[str, np.ndarray] = field(default_factory=dict)
    auroc: np.ndarray | None = None
    alpha: float = 0.05
    activity_threshold: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def density(self) -> np.ndarray:
        return self.n_active / self.n_rows

    def follows(self, name: str) -> np.ndarray:
        """Mask of the features that are selective for a confound, but not inside it."""
        column = self.confounds[name]
        follows = column.of_best(column.tests.q_values) <= self.alpha
        if name in self.within:
            follows &= self.within[name] > self.alpha
        return follows


def describe(
    names: list[str],
    codes: sparse.csr_array,
    y: np.ndarray | None,
    confounds: dict[str, np.ndarray],
    *,
    nested_groups: Sequence[np.ndarray],
    control: np.ndarray | None,
    grid_shape: tuple[int, int] | None,
    alpha: float,
    activity_threshold: float,
    n_permutations: int,
    random_state: Seed,
) -> Features:
    """Test all features for the labels and for each confound.

    Parameters
    ----------
    names : list of str
        Names of the features.
    codes : csr_array of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,) or None
    confounds : dict of ndarray of shape (n_rows,)
    nested_groups : sequence of ndarray of shape (n_rows,) of int
        Groups that may share a label, the largest first: for instance the patient of
        each row, then its image.
    control : ndarray of shape (n_rows,) of int, or None
        Marks the control rows; nothing is exchanged between them and the others.
    grid_shape : tuple of int (height, width) or None
        The grid of an image's tokens, if the rows are tokens.
    alpha, activity_threshold, n_permutations, random_state
        As in `FeatureReport`.

    Returns
    -------
    features : Features
    """
    n_rows, n_features = codes.shape
    activity = find_active(codes, activity_threshold)
    n_active = total_active(activity)
    features = Features(
        names,
        n_active,
        n_rows,
        None,
        alpha=alpha,
        activity_threshold=activity_threshold,
    )
    # Groups of one row each need no exchange as a whole.
    nested_groups = [ids for ids in nested_groups if len(np.unique(ids)) < n_rows]

    def run_tests(ids: np.ndarray, batch_ids: np.ndarray | None) -> LabelTests:
        exchange = choose_exchange(ids, nested_groups, batch_ids, grid_shape)
        return run_label_tests(activity, ids, exchange)

    def tested(name: str, values: np.ndarray) -> Column:
        levels, ids = encode(values, name, n_rows)
        tests = run_tests(ids, control)
        null = None
        if n_permutations:
            best = null_of_best(
                activity,
                ids,
                "average",
                exchange=tests.exchange,
                n_permutations=n_permutations,
                random_state=random_state,
            )
            null = np.where(tests.tested, np.quantile(best, 0.95, axis=0), np.nan)
        return Column(name, levels, ids, tests, null, tests.best_classes(alpha))

    if y is not None:
        features.label = tested("y", y)
        if nested_groups:
            features.notes.append(
                _describe_exchange(
                    features.label.tests.exchange, nested_groups[0], features.label.ids
                )
            )
        auroc = auroc_scores(codes, features.label.ids)
        features.auroc = auroc[np.arange(n_features), features.label.best]
    for name, values in confounds.items():
        column = features.confounds[name] = tested(name, values)
        if features.label is not None:
            inside = column.ids if control is None else cross(control, column.ids)
            within = run_tests(features.label.ids, inside)
            features.within[name] = within.q_values.min(axis=0)
            if not within.tested.any():
                features.notes.append(
                    f"Labels and {name} coincide: no value of {name} holds two labels "
                    "that could be exchanged, so the flags cannot tell them apart."
                )
    return features


def _describe_exchange(exchange: Exchange, groups: np.ndarray, ids: np.ndarray) -> str:
    """Write a note on what is exchanged under the null hypothesis."""
    n_of_group = np.bincount(np.unique(np.column_stack((groups, ids)), axis=0)[:, 0])
    n_groups, n_mixed = (n_of_group > 0).sum(), (n_of_group > 1).sum()
    if n_mixed == 0:
        return (
            "Labels belong to whole groups of rows (images, unless groups was passed), "
            "and whole groups are exchanged under the null hypothesis."
        )
    note = f"Labels differ inside {n_mixed:,} of {n_groups:,} groups "
    if exchange.group_ids is not None:
        note += "and belong to whole images, which are exchanged inside these groups."
    elif exchange.grid_shape is not None:
        n_shifts = exchange.grid_shape[0] * exchange.grid_shape[1]
        note += (
            "(images, unless groups was passed), and the label map of each image is "
            "shifted over its grid; what leaves at one edge comes in at the other. "
            f"An image has {n_shifts:,} shifts, so no p-value from a single image is "
            f"below 1/{n_shifts:,}."
        )
    else:
        note += (
            "(images, unless groups was passed), and are exchanged row by row inside "
            "these."
        )
    if n_mixed < n_groups:
        note += (
            f" The labels of the other {n_groups - n_mixed:,} stay where they are: "
            "what distinguishes whole groups is not tested."
        )
    return note


def check_names(names: Iterable[str], has_labels: bool) -> None:
    """Raise a ValueError if a column of a confound would have the name of another."""
    taken = {"best_label"} if has_labels else set()
    for name in names:
        keys = _confound_keys(name)
        if again := taken.intersection(keys):
            raise ValueError(
                f"The column {name} of metadata needs another name: the list has a "
                f"column {min(again)} already."
            )
        taken.update(keys)


def _confound_keys(name: str) -> list[str]:
    return [key.format(name) for key in _CONFOUND_KEYS]


def to_columns(features: Features) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Turn the list into columns of values, and describe each column.

    Returns
    -------
    values : dict of ndarray
        Undefined values are None or NaN.
    columns : list of dict
        "key", "label", "kind" and "help" of each column.
    """
    percent = f"{100 * features.alpha:g} %"
    fires = features.n_active > 0
    values: dict[str, Any] = {}
    columns: list[dict[str, str]] = []

    def add(key: str, label: str, kind: str, help_text: str, column: Any) -> None:
        values[key] = column
        columns.append({"key": key, "label": label, "kind": kind, "help": help_text})

    def where_it_fires(column: np.ndarray) -> np.ndarray:
        column = column.astype(object)
        column[~fires] = None
        return column

    def add_scores(
        column: Column,
        key: str,
        what: str,
        best_key: str,
        score_key: str,
        null_key: str,
        q_key: str,
    ) -> None:
        tests = column.tests
        how = f"the {what} of each row is permuted"
        if tests.exchange.group_ids is not None:
            how = f"the {what} of each whole group of rows is permuted"
        elif tests.exchange.grid_shape is not None:
            how = f"each image's map of {what} is shifted over its grid"
        add(
            best_key,
            f"best {what}",
            "text",
            f"The {what} with the highest score, among those with a q-value up to "
            f"{percent} or, if there are none, among all. Empty if the feature never "
            "fires.",
            where_it_fires(np.array([*map(str, column.levels)], object)[column.best]),
        )
        add(
            score_key,
            f"{what} score",
            "number",
            f"Selectivity: fraction of the rows of the best {what} on which the "
            "feature fires, minus that of all other rows; from -1 to 1.",
            column.of_best(tests.scores),
        )
        if column.null is not None:
            add(
                null_key,
                f"{what} null",
                "number",
                f"The 95 % quantile of the best score of all {len(features.names)} "
                f"features for this {what} when {how}. A higher score is not due to "
                "having many features.",
                column.null[column.best],
            )
        add(
            q_key,
            f"{what} q",
            "q",
            "The smallest false discovery rate at which the pair is still among the "
            "discoveries, controlled (Benjamini and Hochberg) over all "
            f"{len(features.names)} features and {tests.tested.sum()} values of "
            f"{what}; under the null hypothesis {how}. Empty for a value that this "
            "cannot move, such as that of the controls.",
            np.where(tests.tested[column.best], column.of_best(tests.q_values), np.nan),
        )

    add("feature", "feature", "text", "Name of the feature.", features.names)
    add(
        "density",
        "density",
        "fraction",
        "Fraction of the rows on which the feature fires.",
        features.density,
    )
    if (label := features.label) is not None:
        add_scores(label, "label", "label", "best_label", "score", "null", "q_value")
        add(
            "auroc",
            "AUROC",
            "number",
            "Probability that a row of the best label has a larger code than another "
            "row, with ties as one half: 0.5 is chance.",
            features.auroc,
        )
        add(
            "n_labels",
            "number of labels",
            "count",
            f"Number of labels with a q-value up to {percent}.",
            (label.tests.q_values <= features.alpha).sum(axis=0),
        )
    for name, column in features.confounds.items():
        follows_key, *score_keys, within_key = _confound_keys(name)
        rule = f"The feature is selective for a value of {name} (q up to {percent})"
        if label is not None:
            rule += (
                f", but not for any label when labels are exchanged only inside the "
                f"values of {name} (q above {percent}): {name} explains what the "
                "feature says about the labels"
            )
        add(
            follows_key,
            f"follows {name}",
            "flag",
            f"{rule}.",
            features.follows(name),
        )
        add_scores(column, name, name, *score_keys)
        if name in features.within:
            add(
                within_key,
                f"label q within {name}",
                "q",
                "The smallest q-value over the labels when they are exchanged only "
                f"inside the values of {name}.",
                features.within[name],
            )
    return values, columns


def card_labels(features: Features, feature: int) -> list[dict[str, Any]]:
    """List the labels of a card by falling score."""
    if features.label is None:
        return []
    label = features.label
    tests = label.tests
    scores = tests.scores[:, feature]
    entries = []
    for c in np.argsort(-scores, kind="stable")[:MAX_LABELS]:
        tested = tests.tested[c]
        entry: dict[str, Any] = {
            "name": str(label.levels[c]),
            "rate": round(float(tests.counts[c, feature] / tests.sizes[c]), 4),
            "score": round(float(scores[c]), 4),
            "null": None,
            "q": float(f"{tests.q_values[c, feature]:.2g}") if tested else None,
        }
        if tested and label.null is not None:
            entry["null"] = round(float(label.null[c]), 4)
        entries.append(entry)
    return entries
