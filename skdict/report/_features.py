"""One row for each feature: how dense it is, and what it responds to."""

from dataclasses import dataclass, field

import numpy as np

from skdict._utils.labels import encode
from skdict.metrics import auroc_scores
from skdict.stats import (
    LabelTests,
    choose_exchange,
    cross,
    find_active,
    null_of_best,
    run_label_tests,
)

# A card names at most so many labels.
MAX_LABELS = 10

# Keys of the columns of a confound, with its name in the braces.
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
    """What is known of the features and one set of labels."""

    name: str
    levels: np.ndarray
    ids: np.ndarray
    tests: LabelTests
    null: np.ndarray | None  # of each level
    best: np.ndarray  # of each feature

    def of_best(self, table):
        """The entry of each feature's best level in a table (n_levels, n_features)."""
        return table[self.best, np.arange(len(self.best))]


@dataclass
class Features:
    """All numbers of the list."""

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
    def density(self):
        return self.n_active / self.n_rows

    def follows(self, name):
        """Which features are selective for a confound, and for no label inside it."""
        column = self.confounds[name]
        follows = column.of_best(column.tests.q_values) <= self.alpha
        if name in self.within:
            follows &= self.within[name] > self.alpha
        return follows


def describe(
    names,
    codes,
    y,
    confounds,
    *,
    nested_groups,
    control,
    grid_shape,
    alpha,
    activity_threshold,
    n_permutations,
    random_state,
):
    """Test all features for the labels and for each confound.

    Parameters
    ----------
    names : list of str
        Names of the features.
    codes : csr_array of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,) or None
    confounds : dict of ndarray of shape (n_rows,)
    nested_groups : sequence of ndarray of shape (n_rows,) of int
        What may share a label, the largest first: the patient of each row, the image.
    control : ndarray of shape (n_rows,) of int, or None
        Which rows are controls; nothing is exchanged between them and the others.
    grid_shape : tuple of int (height, width) or None
        The grid of an image's tokens, where the rows are such.
    alpha, activity_threshold, n_permutations, random_state
        As in `FeatureReport`.

    Returns
    -------
    features : Features
    """
    n_rows, n_features = codes.shape
    activity = find_active(codes, activity_threshold)
    n_active = np.bincount(activity.indices, minlength=n_features)
    features = Features(
        names,
        n_active,
        n_rows,
        None,
        alpha=alpha,
        activity_threshold=activity_threshold,
    )
    # Groups of one row each are rows.
    nested_groups = [ids for ids in nested_groups if len(np.unique(ids)) < n_rows]

    def run_tests(ids, batch_ids):
        exchange = choose_exchange(ids, nested_groups, batch_ids, grid_shape)
        return run_label_tests(activity, ids, exchange)

    def tested(name, values):
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


def _describe_exchange(exchange, groups, ids):
    """A note on what is exchanged under the null hypothesis, and where."""
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
            "shifted over its grid, what leaves at one edge coming in at the other. "
            f"One image has {n_shifts:,} shifts, so that no p-value from a single one "
            f"is below 1/{n_shifts:,}."
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


def check_names(names, has_labels):
    """The columns of a confound must not be called as others of the list."""
    taken = {"best_label"} if has_labels else set()
    for name in names:
        keys = _confound_keys(name)
        if again := taken.intersection(keys):
            raise ValueError(
                f"The column {name} of metadata needs another name: the list has a "
                f"column {min(again)} already."
            )
        taken.update(keys)


def _confound_keys(name):
    return [key.format(name) for key in _CONFOUND_KEYS]


def to_columns(features):
    """The list as columns of values, and what the page says of each column.

    Returns
    -------
    values : dict of ndarray
        None or NaN stands for what is undefined.
    columns : list of dict
        "key", "label", "kind" and "help".
    """
    percent = f"{100 * features.alpha:g} %"
    fires = features.n_active > 0
    values, columns = {}, []

    def add(key, label, kind, help_text, column):
        values[key] = column
        columns.append({"key": key, "label": label, "kind": kind, "help": help_text})

    def where_it_fires(column):
        return np.where(fires, column.astype(object), None)

    def add_scores(column, key, what, best_key, score_key, null_key, q_key):
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
            f"The {what} with the highest score among those with a q-value up to "
            f"{percent}; where there is none, among all. Empty if the feature never "
            "fires.",
            where_it_fires(np.array([*map(str, column.levels)], object)[column.best]),
        )
        add(
            score_key,
            f"{what} score",
            "number",
            f"Selectivity: share of the rows of the best {what} on which the feature "
            "fires, less that of all other rows; from -1 to 1.",
            column.of_best(tests.scores),
        )
        if column.null is not None:
            add(
                null_key,
                f"{what} null",
                "number",
                f"The 95 % quantile, when {how}, of the score of the best of all "
                f"{len(features.names)} features for this {what}. A score above it "
                "is not the luck of having many features.",
                column.null[column.best],
            )
        add(
            q_key,
            f"{what} q",
            "p",
            "The false discovery rate at which the pair is still among the "
            "discoveries, controlled (Benjamini and Hochberg) over all "
            f"{len(features.names)} features and {tests.tested.sum()} values of "
            f"{what}; under the null hypothesis {how}. Empty where that cannot move "
            "the value, such as that of the controls.",
            np.where(tests.tested[column.best], column.of_best(tests.q_values), np.nan),
        )

    add("feature", "feature", "text", "Name of the feature.", features.names)
    add(
        "density",
        "density",
        "share",
        "Share of the rows on which the feature fires.",
        features.density,
    )
    if (label := features.label) is not None:
        add_scores(label, "label", "label", "best_label", "score", "null", "q_value")
        add(
            "auroc",
            "AUROC",
            "number",
            "Probability that a row of the best label has a larger code than another "
            "row, ties counted half: 0.5 is chance.",
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
                f", and for no label once labels are exchanged inside the values of "
                f"{name} only (q above {percent}): what it tells of the labels is "
                f"explained by {name}"
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
                "p",
                "The smallest q-value over the labels when they are exchanged inside "
                f"the values of {name} only.",
                features.within[name],
            )
    return values, columns


def card_labels(features, feature):
    """The labels of a card, by falling score."""
    if features.label is None:
        return []
    label = features.label
    tests = label.tests
    scores = tests.scores[:, feature]
    entries = []
    for c in np.argsort(-scores, kind="stable")[:MAX_LABELS]:
        tested = tests.tested[c]
        entry = {
            "name": str(label.levels[c]),
            "rate": round(float(tests.counts[c, feature] / tests.sizes[c]), 4),
            "score": round(float(scores[c]), 4),
            "null": None,
            "p": float(f"{tests.q_values[c, feature]:.2g}") if tested else None,
        }
        if tested and label.null is not None:
            entry["null"] = round(float(label.null[c]), 4)
        entries.append(entry)
    return entries
