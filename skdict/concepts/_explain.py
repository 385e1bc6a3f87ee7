"""A short rule over the metadata for every feature."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import check_random_state
from tqdm import tqdm

from skdict._utils.arrays import blocks
from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict._utils.warn import warn
from skdict.stats import (
    adjust,
    check_codes,
    cross,
    find_active,
    hypergeometric_tail,
    named_columns,
    own_label_tests,
    total_active,
)

from ._conditions import (
    Column,
    best_condition,
    can_be_queried,
    make_column,
    write_condition,
)

# Number of entries of the tables of a block of features.
_BLOCK_ENTRIES = 2**21


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "metadata": [dict, "array-like"],
        "groups": ["array-like", None],
        "batch": ["array-like", None],
        "activity_threshold": [Interval(Real, 0, None, closed="left")],
        "max_conditions": [Interval(Integral, 1, 2, closed="both")],
        "max_values": [Interval(Integral, 1, None, closed="left")],
        "min_gain": [Interval(Real, 0, 0.5, closed="left")],
        "test_size": [Interval(Real, 0, 1, closed="neither")],
        "correction": [StrOptions({"bh", "by"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def explain_features(
    codes: Codes,
    metadata: Data,
    *,
    groups: Data | None = None,
    batch: Data | None = None,
    activity_threshold: float = 0.0,
    max_conditions: int = 2,
    max_values: int = 3,
    min_gain: float = 0.02,
    test_size: float = 0.5,
    correction: str = "bh",
    random_state: Seed = None,
    verbose: int = 0,
) -> pd.DataFrame:
    r"""Find a short rule over the metadata that says where each feature is active.

    A rule is found on one part of the rows, and everything that the table says about
    it comes from the other part.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    metadata : dict of array-like of shape (n_samples,) or DataFrame
        What is known about the samples: numbers and dates, which are compared with a
        threshold, and strings and booleans, of which single values are chosen. Numbers
        that only name something, such as plates, should be strings. Values may be
        missing, which a rule may say, too.

    groups : array-like of shape (n_samples,), default=None
        Samples that belong together, such as the cells of a well. No group is in both
        parts, and whole groups are exchanged under the null hypothesis. A rule that
        speaks of a column that differs inside groups is tested inside the groups.

    batch : array-like of shape (n_samples,), default=None
        Under the null hypothesis metadata are exchanged only inside a batch.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    max_conditions : {1, 2}, default=2
        Largest number of conditions in a rule, joined by "and" or "or".

    max_values : int, default=3
        Largest number of values that a condition on strings names.

    min_gain : float, default=0.02
        What a condition, or a further value in it, must add to the balanced accuracy on
        the rows on which the rule is found. A feature for which no condition adds as
        much has no rule.

    test_size : float, default=0.5
        Fraction of the groups, or of the rows if there are none, that judge the rules.

    correction : {"bh", "by"}, default="bh"
        How the false discovery rate is controlled over the rules, as in
        :func:`~skdict.metrics.selectivity_tests`.

    random_state : int, RandomState instance or None, default=None
        Seed of the split.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    explanations : DataFrame
        One row for each feature, in their order. Columns:

        - `feature`: index of the feature.
        - `density`: fraction of all samples in which it is active.
        - `rule`: the rule, as an expression of :meth:`pandas.DataFrame.query`, or "" if
          there is none. Columns have their own names, also those that pandas cannot
          read in an expression: rename these before you query.
        - `n_conditions`: number of its conditions.
        - `balanced_accuracy`: mean of the fraction of the active samples for which the
          rule holds, and of the fraction of the others for which it does not.
        - `precision`, `recall`: fraction of the samples with the rule in which the
          feature is active, and fraction of the active samples with the rule; 0 if
          there are no such samples.
        - `null_q95`: 1.645 standard deviations above the mean of the balanced accuracy
          under the null hypothesis.
        - `p_value`, `q_value`: probability of a balanced accuracy at least as high if
          metadata are exchanged, and its q-value over all features with a rule.

        A feature without a rule, or that is active in none or all of the judging
        samples, has the balanced accuracy 0.5 and the p-value 1.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinity, if lengths differ, if `metadata`
        holds infinite numbers or has no column with two values, or if there are fewer
        than two groups.

    Warns
    -----
    UserWarning
        If pandas cannot read the names of columns in an expression.

    See Also
    --------
    skdict.metrics.describe_features : Tests of single classes and confounds.
    score_explanations : Scores explanations in words.

    Notes
    -----
    A rule is a decision tree with one or two splits for the classes "active" and
    "inactive" with equal weights. With :math:`a` active ones among :math:`n` samples, a
    set of samples :math:`S` has the balanced accuracy

    .. math::

        \frac{1}{2} + \frac{n}{2 a (n - a)} \sum_{i \in S} (A_i - a / n)

    where :math:`A_i` is 1 if the feature is active in sample :math:`i`, and else 0. The
    sum is additive over the values of a column, so the best set of values, or the best
    threshold, is found for all features at once from counts. Numbers with more than 32
    distinct values are cut at quantiles only. The second condition is the one that adds
    most, where the first one holds ("and") or where it does not ("or"): it is chosen
    greedily, so two conditions that say nothing by themselves are not found.

    The rules have not seen the rows that judge them, so the null needs no second
    search: the metadata of these rows are exchanged, and the rules stay. For single
    rows in one batch the p-value is exact (hypergeometric). For groups and batches it
    comes from Pearson's type III distribution with the mean, the variance and the
    skewness of all exchanges, as in :func:`~skdict.metrics.selectivity_tests`.

    Active entries are counted a few times for each column: 100,000 samples with 32
    active ones of 8,192 features and six columns take about 5 seconds on one core.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import explain_features
    >>> rng = np.random.default_rng(0)
    >>> metadata = {
    ...     "drug": rng.choice(["none", "a", "b"], 400),
    ...     "dose": rng.choice([1, 3, 10], 400),
    ... }
    >>> codes = rng.random((400, 3)) < 0.05
    >>> codes[:, 1] |= (metadata["drug"] == "a") & (metadata["dose"] > 1)
    >>> explanations = explain_features(codes, metadata, random_state=0)
    >>> explanations.loc[1, "rule"]
    "drug == 'a' and dose > 1"
    >>> (explanations["q_value"] < 0.05).tolist()
    [False, True, False]
    """
    activity = find_active(check_codes(codes), activity_threshold)
    n_samples, n_components = activity.shape
    columns = [
        make_column(name, values, n_samples)
        for name, values in named_columns(metadata, "metadata").items()
    ]
    if not any(column.n_bins > 1 for column in columns):
        raise ValueError("metadata has no column with two values: nothing can be said.")
    unread = [column.name for column in columns if not can_be_queried(column.name)]
    if unread:
        warn(
            f"DataFrame.query cannot read the names of {len(unread)} columns of "
            f"metadata, the first of them {unread[0]!r}: rename them, if you want to "
            "query by the rules."
        )
    group_ids = None if groups is None else encode(groups, "groups", n_samples)[1]
    batch_ids = None if batch is None else encode(batch, "batch", n_samples)[1]
    learning, judging = split_groups(
        n_samples, group_ids, test_size, check_random_state(random_state)
    )
    learn, judge = _Rows(activity, columns, learning), _Rows(activity, columns, judging)
    exchanges = _Exchanges(columns, judging, group_ids, batch_ids)
    each = sum(column.n_bins for column in columns)
    parts = list(blocks(n_components, each, _BLOCK_ENTRIES))
    tables = []
    for block in tqdm(parts, desc="rules", disable=not verbose):
        rules = _find_rules(
            learn, block, max_conditions > 1, max_values=max_values, min_gain=min_gain
        )
        tables.append(_judge(rules, judge, block, exchanges))
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "feature", np.arange(n_components))
    table.insert(1, "density", total_active(activity) / n_samples)
    tested = (table["rule"] != "").to_numpy()
    p_values = table["p_value"].to_numpy()[:, None]
    table["q_value"] = adjust(p_values, correction, tested)[:, 0]
    return table


def split_groups(
    n_samples: int,
    group_ids: np.ndarray | None,
    test_size: float,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Split the rows by whole groups: those that find rules, those that judge them."""
    ids = np.arange(n_samples) if group_ids is None else group_ids
    n_groups = ids.max() + 1
    if n_groups < 2:
        raise ValueError(
            f"There is {n_groups} group: rules need groups to be found on, and others "
            "to be judged on."
        )
    n_judging = min(max(1, round(test_size * n_groups)), n_groups - 1)
    is_judging = np.zeros(n_groups, bool)
    is_judging[rng.permutation(n_groups)[:n_judging]] = True
    return np.flatnonzero(~is_judging[ids]), np.flatnonzero(is_judging[ids])


class _Rows:
    """Some of the rows: their active entries by feature, and their bins by column."""

    def __init__(self, activity: Any, columns: list[Column], rows: np.ndarray) -> None:
        self.columns = columns
        self.active = sp.csc_array(activity[rows])
        self.bins = np.array([column.bins[rows] for column in columns])
        self.n = len(rows)
        self._joint: dict[tuple[int, int], np.ndarray] = {}

    def joint(self, first: int, second: int) -> np.ndarray:
        """Count the rows in each pair of a bin of one column and one of another."""
        key = (first, second)
        if key not in self._joint:
            a, b = self.columns[first].n_bins, self.columns[second].n_bins
            pairs = self.bins[first] * b + self.bins[second]
            counts = np.bincount(pairs, minlength=a * b).reshape(a, b)
            self._joint[key] = counts.astype(np.float64)
        return self._joint[key]

    def entries(self, block: slice) -> _Entries:
        part = self.active[:, block]
        sizes = np.diff(part.indptr)
        return _Entries(part.indices, np.repeat(np.arange(len(sizes)), sizes), sizes)


class _Entries(NamedTuple):
    """Active entries of a block of features."""

    rows: np.ndarray
    features: np.ndarray
    n_active: np.ndarray  # of each feature


class _Conditions(NamedTuple):
    """One condition for each feature of a block."""

    column: np.ndarray  # its number
    members: np.ndarray  # (n_features, largest number of bins), which bins it selects

    def holds(self, rows: _Rows, entries: _Entries) -> np.ndarray:
        """Whether the condition of its feature holds in the row of each entry."""
        features = entries.features
        return self.members[features, rows.bins[self.column[features], entries.rows]]

    def selected(self, rows: _Rows, n_rows: slice | np.ndarray) -> np.ndarray:
        """Mask of shape (n_rows, n_features): the rows that each condition selects."""
        bins = rows.bins[:, n_rows]
        features = np.arange(len(self.column))
        return self.members[features, bins[self.column].T]


class _Rules(NamedTuple):
    """One rule for each feature of a block."""

    first: _Conditions
    second: _Conditions
    words: np.ndarray  # of each: "", "if", "and" or "or"

    def joined(self, first: np.ndarray, second: np.ndarray, words: Any) -> np.ndarray:
        """Whether a rule holds, where it is known whether its conditions do."""
        both = np.where(words == "and", first & second, first | second)
        return np.where(words == "if", first, both) & (words != "")


def _find_rules(
    rows: _Rows, block: slice, has_second: bool, *, max_values: int, min_gain: float
) -> _Rules:
    entries = rows.entries(block)
    n_features, n_active = len(entries.n_active), entries.n_active
    varies = (n_active > 0) & (n_active < rows.n)
    rate = n_active / rows.n
    # Excess that raises the balanced accuracy by `min_gain`.
    needed = 2 * min_gain * n_active * (rows.n - n_active) / rows.n
    # A gain of zero is none, whatever `min_gain`.
    needed = np.where(varies, np.maximum(needed, 1e-9), np.inf)

    def counted(column: int, kept: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Active entries of each bin and feature."""
        n_bins = rows.columns[column].n_bins
        bins = rows.bins[column][entries.rows[kept]]
        pairs = bins * n_features + entries.features[kept]
        counts = np.bincount(pairs, minlength=n_bins * n_features)
        return counts.reshape(n_bins, n_features)

    numbers = range(len(rows.columns))
    sizes = [rows.joint(c, c).sum(axis=1)[:, None] for c in numbers]
    excesses = [counted(c) - sizes[c] * rate for c in numbers]
    score, first = _best_of_columns(excesses, rows.columns, needed, max_values)
    words = np.where(score >= needed, "if", "")
    second = first
    if has_second:
        holds = first.holds(rows, entries)
        inside = []
        for c in numbers:
            n_rows = np.empty((rows.columns[c].n_bins, n_features))
            for own in np.unique(first.column):
                some = first.column == own
                members = first.members[some, : rows.columns[own].n_bins]
                n_rows[:, some] = rows.joint(own, c).T @ members.T
            inside.append(counted(c, holds) - n_rows * rate)
        outside = [a - b for a, b in zip(excesses, inside, strict=True)]
        narrower, also = _best_of_columns(inside, rows.columns, needed, max_values)
        wider, instead = _best_of_columns(outside, rows.columns, needed, max_values)
        gain_and, gain_or = narrower - score, wider
        is_and = gain_and >= gain_or
        further = (words != "") & (np.maximum(gain_and, gain_or) >= needed)
        words = np.where(further, np.where(is_and, "and", "or"), words)
        second = _Conditions(
            np.where(is_and, also.column, instead.column),
            np.where(is_and[:, None], also.members, instead.members),
        )
    return _Rules(first, second, words)


def _best_of_columns(
    excesses: list[np.ndarray],
    columns: list[Column],
    needed: np.ndarray,
    max_values: int,
) -> tuple[np.ndarray, _Conditions]:
    widest = max(column.n_bins for column in columns)
    best = np.full(len(needed), -np.inf)
    number = np.zeros(len(needed), np.intp)
    members = np.zeros((len(needed), widest), bool)
    for c, (excess, column) in enumerate(zip(excesses, columns, strict=True)):
        score, own = best_condition(excess, column, needed, max_values)
        better = score > best
        best[better], number[better] = score[better], c
        members[better] = False
        members[better, : column.n_bins] = own[:, better].T
    return best, _Conditions(number, members)


class _Exchanges:
    """How the metadata of the judging rows are exchanged, for each column."""

    def __init__(
        self,
        columns: list[Column],
        rows: np.ndarray,
        group_ids: np.ndarray | None,
        batch_ids: np.ndarray | None,
    ) -> None:
        ids = None if group_ids is None else group_ids[rows]
        batch = None if batch_ids is None else batch_ids[rows]
        self.batch_of_rows = batch
        self.of_groups = np.zeros(len(columns), bool)
        self.ids = ids
        if ids is None:
            return
        if batch is not None:
            ids = cross(ids, batch)
        self.ids = np.unique(ids, return_inverse=True)[1]
        self.first = np.unique(self.ids, return_index=True)[1]
        self.sizes = np.bincount(self.ids)
        self.batch_of_groups = None if batch is None else batch[self.first]
        for c, column in enumerate(columns):
            bins = column.bins[rows]
            self.of_groups[c] = np.array_equal(bins, bins[self.first][self.ids])
        # A column that differs inside groups is exchanged there.
        self.batch_of_rows = self.ids


def _judge(
    rules: _Rules, rows: _Rows, block: slice, exchanges: _Exchanges
) -> pd.DataFrame:
    """Measure rules on rows on which they were not found."""
    entries = rows.entries(block)
    words, n_features = rules.words, len(rules.words)
    holds = rules.joined(
        rules.first.holds(rows, entries),
        rules.second.holds(rows, entries),
        words[entries.features],
    )
    hits = np.bincount(entries.features[holds], minlength=n_features)
    n_selected = _count_selected(rules, rows)
    n, n_active = rows.n, entries.n_active
    tested = (words != "") & (n_active > 0) & (n_active < n)
    excess = hits - n_selected * (n_active / n)
    per_excess = np.zeros(n_features)
    per_excess[tested] = n / (2.0 * n_active * (n - n_active))[tested]
    mean, std, p_values = (
        np.zeros(n_features),
        np.zeros(n_features),
        np.ones(n_features),
    )
    of_rows = tested.copy()
    if exchanges.ids is not None:
        alike = exchanges.of_groups[rules.first.column]
        single = np.isin(words, ["", "if"])
        alike &= single | exchanges.of_groups[rules.second.column]
        some = tested & alike
        of_rows = tested & ~alike
        mean[some], std[some], p_values[some] = _test(
            rules, rows, block, some, exchanges
        )
    if exchanges.batch_of_rows is None:
        k, K, m = hits[of_rows], n_active[of_rows], n_selected[of_rows]
        p_values[of_rows] = hypergeometric_tail(k, n, K, m)
        drawn = m * (n - m) / (n * max(n - 1, 1))
        std[of_rows] = np.sqrt(drawn * K * (n - K) / n)
    else:
        mean[of_rows], std[of_rows], p_values[of_rows] = _test(
            rules, rows, block, of_rows, exchanges, by_rows=True
        )
    return pd.DataFrame(
        {
            "rule": _write(rules, rows.columns),
            "n_conditions": np.select([words == "", words == "if"], [0, 1], 2),
            "balanced_accuracy": 0.5 + per_excess * excess,
            "precision": hits / np.maximum(n_selected, 1),
            "recall": hits / np.maximum(n_active, 1),
            "null_q95": 0.5 + per_excess * (mean + 1.645 * std),
            "p_value": p_values,
        }
    )


def _count_selected(rules: _Rules, rows: _Rows) -> np.ndarray:
    """Number of rows for which each rule holds."""

    def alone(conditions: _Conditions) -> np.ndarray:
        found = np.empty(len(conditions.column))
        for c in np.unique(conditions.column):
            some = conditions.column == c
            sizes = rows.joint(c, c).sum(axis=1)
            found[some] = conditions.members[some, : len(sizes)] @ sizes
        return found

    first, second = alone(rules.first), alone(rules.second)
    both = np.empty(len(first))
    pairs = rules.first.column * len(rows.columns) + rules.second.column
    for pair in np.unique(pairs):
        some = pairs == pair
        joint = rows.joint(*divmod(int(pair), len(rows.columns)))
        a = rules.first.members[some, : joint.shape[0]]
        b = rules.second.members[some, : joint.shape[1]]
        both[some] = np.einsum("fb,fb->f", a @ joint, b)
    words = rules.words
    chosen = [words == "", words == "if", words == "and"]
    return np.select(chosen, [np.zeros(len(first)), first, both], first + second - both)


def _test(
    rules: _Rules,
    rows: _Rows,
    block: slice,
    some: np.ndarray,
    exchanges: _Exchanges,
    by_rows: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exchange metadata between groups, or between the rows of a group or batch."""
    features = np.flatnonzero(some)
    places: slice | np.ndarray
    sizes: np.ndarray
    if by_rows:
        places, sizes, batch = slice(None), np.ones(rows.n), exchanges.batch_of_rows
    else:
        places, sizes, batch = (
            exchanges.first,
            exchanges.sizes,
            exchanges.batch_of_groups,
        )
    found = np.empty((3, len(features)))
    for part in blocks(len(features), len(sizes), _BLOCK_ENTRIES):
        own = features[part]
        first, second = (
            _Conditions(given.column[own], given.members[own]).selected(rows, places)
            for given in (rules.first, rules.second)
        )
        active = rows.active[:, block.start + own]
        if not by_rows:
            ones = np.ones(rows.n, np.int32)
            together = (exchanges.ids, np.arange(rows.n))
            shape = (len(sizes), rows.n)
            active = sp.csr_array((ones, together), shape=shape) @ active
        labelled = rules.joined(first, second, rules.words[own])
        active = active.toarray().astype(np.float64)
        _, *found[:, part] = own_label_tests(active, labelled, sizes, batch)
    mean, std, p_values = found
    return mean, std, p_values


def _write(rules: _Rules, columns: list[Column]) -> list[str]:
    def written(conditions: _Conditions, feature: int) -> str:
        column = columns[conditions.column[feature]]
        members = conditions.members[feature, : column.n_bins]
        return write_condition(column, members)

    texts = []
    for feature, word in enumerate(rules.words):
        text = written(rules.first, feature) if word else ""
        if word in ("and", "or"):
            text = f"{text} {word} {written(rules.second, feature)}"
        texts.append(text)
    return texts
