"""Equal statistics count as equal: scores and their nulls against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator

from skdict.evaluation import compare_dictionaries
from skdict.metrics import (
    association_report,
    selectivity_counts,
    selectivity_curve,
    selectivity_report,
    selectivity_scores,
)
from skdict.stats import ROUNDING, permutation_p_value
from skdict.stats.exchange import permutations

KINDS = ("average", "maximum")


def exact_scores(active, y, kind):
    """Scores as fractions, an object array of shape (n_components, n_classes)."""
    classes, sizes = np.unique(y, return_counts=True)
    counts = [[int(n) for n in active[y == c].sum(axis=0)] for c in classes]
    sizes = [int(n) for n in sizes]
    scores = np.empty((active.shape[1], len(classes)), dtype=object)
    for f, c in np.ndindex(scores.shape):
        others = [d for d in range(len(classes)) if d != c]
        if kind == "average":
            n_active = sum(counts[d][f] for d in others)
            rate = Fraction(n_active, sum(sizes[d] for d in others))
        else:
            rate = max(Fraction(counts[d][f], sizes[d]) for d in others)
        scores[f, c] = Fraction(counts[c][f], sizes[c]) - rate
    return scores


def as_floats(fractions):
    """The float64 next to each."""
    return np.vectorize(float, otypes=[float])(fractions)


def exact_p_values(null, observed):
    return (1 + (np.array(null) >= observed).sum(axis=0)) / (1 + len(null))


@st.composite
def cases(draw):
    n_classes = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.integers(1, 15), min_size=n_classes, max_size=n_classes))
    if draw(st.booleans()):  # balanced, where most ties are
        sizes = [sizes[0]] * n_classes
    y = np.repeat(np.arange(n_classes), sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return rng.random((len(y), 5)) < rng.random(5), y


@settings(deadline=None, max_examples=200)
@given(cases(), st.sampled_from(KINDS))
def test_scores_are_the_floats_next_to_the_fractions(case, kind):
    active, y = case
    scores = selectivity_scores(active, y, contrast=kind)
    assert_array_equal(scores, as_floats(exact_scores(active, y, kind)))


def test_scores_of_many_samples():
    """Rates of sizes whose product is near the largest exact whole number."""
    y = np.repeat([0, 1, 2], [300_007, 299_993, 100_003])
    rng = np.random.default_rng(0)
    active = rng.random((len(y), 3)) < [0.1, 0.5, 0.9]
    for kind in KINDS:
        scores = selectivity_scores(active, y, contrast=kind)
        assert_array_equal(scores, as_floats(exact_scores(active, y, kind)))


@settings(deadline=None, max_examples=50)
@given(cases(), st.sampled_from(KINDS))
def test_p_values_of_classes_and_of_their_mean(case, kind):
    active, y = case
    report = selectivity_report(
        active, y, contrast=kind, n_permutations=30, random_state=0
    )
    drawn = permutations(y, None, 30, np.random.RandomState(0))
    best = exact_scores(active, y, kind).max(axis=0)
    null = [exact_scores(active, permuted, kind).max(axis=0) for permuted in drawn]
    assert_array_equal(report["p_value"], exact_p_values(null, best))
    means = [sum(scores) for scores in null]
    assert report["mean_p_value"][0] == exact_p_values(means, sum(best))


@settings(deadline=None, max_examples=50)
@given(cases(), st.sampled_from(KINDS), st.integers(1, 20))
def test_counts_above_a_fraction(case, kind, denominator):
    active, y = case
    levels = [Fraction(i, denominator) for i in range(denominator + 1)]
    table = selectivity_counts(
        active,
        y,
        contrast=kind,
        score_thresholds=as_floats(levels),
        n_permutations=10,
        random_state=0,
    )

    def count(labels):
        best = exact_scores(active, labels, kind).max(axis=1)
        return np.array([sum(score > level for score in best) for level in levels])

    drawn = permutations(y, None, 10, np.random.RandomState(0))
    null = [count(permuted) for permuted in drawn]
    assert_array_equal(table["n_features"], count(y))
    assert_allclose(table["null_mean"], np.mean(null, axis=0))
    assert_array_equal(table["p_value"], exact_p_values(null, count(y)))


def test_four_features_of_a_fifth():
    """3/15 - 0, 6/15 - 3/15, 9/15 - 6/15 and 12/15 - 9/15."""
    y = np.repeat([0, 1], 15)
    place = np.arange(15)
    active = np.array([np.r_[place < 3 * i + 3, place < 3 * i] for i in range(4)]).T
    assert_array_equal(selectivity_scores(active, y)[:, 0], 0.2)
    assert selectivity_counts(active, y)["n_features"].tolist() == [0, 0]
    # Of equal ones, the first stands first.
    assert selectivity_curve(active, y)["feature"].tolist() == [0, 1, 2, 3]
    assert selectivity_report(active, y)["best_feature"].tolist()[0] == 0


class Rows(BaseEstimator):
    """A dictionary whose codes are the rows."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.asarray(X, dtype=float)

    inverse_transform = transform


def test_comparison_counts_ties():
    """Balanced classes and few features: most permutations tie with others."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        X = (rng.random((24, 3)) < 0.5).astype(float)
        X[:, 0] = np.arange(24) % 3 == 0
        y = rng.permutation(np.arange(24) % 4)
        test = np.arange(12, 24)
        runs = compare_dictionaries(
            {"rows": Rows()},
            X,
            y,
            cv=[(np.arange(12), test)],
            seeds=[0],
            n_permutations=60,
        )
        run = runs.iloc[0]
        for kind in KINDS:
            # A dictionary without a seed of its own gets none.
            drawn = permutations(y[test], np.zeros(12, int), 60, seeded(run["seed"]))
            null = [sum(exact_scores(X[test] > 0, p, kind).max(axis=0)) for p in drawn]
            best = sum(exact_scores(X[test] > 0, y[test], kind).max(axis=0))
            assert run[f"{kind}_selectivity_p"] == exact_p_values(null, best)


def seeded(seed):
    return np.random.RandomState(seed)


def test_sums_in_another_order_tie():
    targets = np.array([0.1, 0.2, 0.3, 0.7, 0.7, 0.7])
    codes = np.array([[0.3, 0.1, 0.2, 0.0, 0.0, 0.0]]).T
    report = association_report(codes, targets, n_permutations=200, random_state=0)
    # Correlations of 720 orders, of which those of the three zeros are alike.
    null = []
    for permuted in permutations(targets, None, 200, np.random.RandomState(0)):
        tenths = [round(10 * t) for t in permuted]
        null.append(abs(3 * tenths[0] + tenths[1] + 2 * tenths[2] - sum(tenths)))
    tenths = [round(10 * t) for t in targets]
    best = abs(3 * tenths[0] + tenths[1] + 2 * tenths[2] - sum(tenths))
    assert report["p_value"][0] == exact_p_values(null, best)


@pytest.mark.parametrize(("rounding", "expected"), [(0, 2 / 4), (ROUNDING, 3 / 4)])
def test_rounding(rounding, expected):
    null = np.array([0.3, 0.1 + 0.2, 0.2]) + 0.0
    assert permutation_p_value(null, 0.1 + 0.2, rounding) == expected
