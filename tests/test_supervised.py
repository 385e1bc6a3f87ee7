"""skdict.evaluation: the supervised dictionary, and comparisons with it."""

import datetime as dt
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

from skdict.evaluation import SupervisedDictionary, compare_with_supervised
from skdict.evaluation._with_supervised import _greedy
from skdict.metrics import explained_variance, reconstruction_cosine

RNG = np.random.default_rng(0)
N = 240
SHAPE = RNG.permutation(np.repeat(["round", "flat", "long"], 80))
SIZE = RNG.integers(0, 2, N)
ATTRIBUTES = {"shape": SHAPE, "size": SIZE}
# One atom for each value, and six that say nothing; the codes of two rows differ.
VALUES = ["flat", "long", "round", 0, 1]
ATOMS = np.linalg.qr(RNG.normal(size=(12, 12)))[0][:11]
TRUE_CODES = np.column_stack(
    [
        *(value == SHAPE for value in VALUES[:3]),
        *(2.0 * (value == SIZE) for value in VALUES[3:]),
        0.3 * (RNG.random((N, 6)) < 0.2),
    ]
)
X = TRUE_CODES @ ATOMS
HEAD = LogisticRegression(C=100.0)
QUICK = {"cv": 2, "head": HEAD, "n_pairs": 30, "random_state": 0}


class Orthogonal(BaseEstimator):
    """A dictionary of orthonormal atoms, with a matrix that mixes the codes."""

    def __init__(self, atoms=ATOMS, encode=None):
        self.atoms = atoms
        self.encode = encode

    def transform(self, X):
        codes = np.round(X @ ATOMS.T, 9)
        return sparse.csr_matrix(codes if self.encode is None else self.encode(codes))

    def inverse_transform(self, codes):
        return codes @ self.atoms


def one_hot(columns):
    return np.column_stack(
        [column == value for column in columns.values() for value in np.unique(column)]
    ).astype(float)


# The supervised dictionary


def test_atoms_are_conditional_means():
    dictionary = SupervisedDictionary().fit(X, ATTRIBUTES)
    assert dictionary.attributes_ == 3 * ["shape"] + 2 * ["size"]
    assert dictionary.values_ == VALUES
    expected = [X[value == SHAPE].mean(axis=0) for value in VALUES[:3]]
    expected += [X[value == SIZE].mean(axis=0) for value in VALUES[3:]]
    assert_allclose(dictionary.components_, expected - X.mean(axis=0), atol=1e-12)
    codes = dictionary.transform(ATTRIBUTES)
    assert_array_equal(codes.toarray(), one_hot(ATTRIBUTES))
    assert_allclose(
        dictionary.inverse_transform(codes),
        X.mean(axis=0) + one_hot(ATTRIBUTES) @ dictionary.components_,
    )


def test_least_squares_rebuild_best():
    # Attributes that go together.
    alike = np.where(RNG.random(N) < 0.7, SIZE, 1 - SIZE)
    columns = {**ATTRIBUTES, "alike": alike, "again": SIZE}
    found = SupervisedDictionary(estimate="least_squares").fit(X, columns)
    design = np.column_stack([np.ones(N), one_hot(columns)])
    expected = design @ np.linalg.lstsq(design, X, rcond=None)[0]
    rebuilt = found.inverse_transform(found.transform(columns))
    assert_allclose(rebuilt, expected, atol=1e-9)
    for name, column in columns.items():
        atoms = found.components_[found.atoms_of(name)]
        sizes = np.unique(column, return_counts=True)[1]
        assert_allclose(sizes @ atoms, 0, atol=1e-9)


@given(st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=10)
def test_estimates_agree_where_attributes_are_independent(repeats, seed):
    grid = np.tile([(a, b) for a in range(3) for b in "xy"], (repeats, 1))
    columns = {"a": grid[:, 0], "b": grid[:, 1]}
    rows = np.random.default_rng(seed).normal(size=(len(grid), 4))
    mean, squares = (
        SupervisedDictionary(estimate=estimate).fit(rows, columns).components_
        for estimate in ("mean", "least_squares")
    )
    assert_allclose(mean, squares, atol=1e-9)


def test_values_that_fit_has_not_seen():
    days = [dt.date(2024, 1, 1 + i % 2) for i in range(4)]
    rows = np.arange(8.0).reshape(4, 2)
    dictionary = SupervisedDictionary().fit(rows, {"day": days})
    codes = dictionary.transform(
        {"day": [days[1], dt.date(2025, 1, 1)], "more": [1, 2]}
    )
    assert_array_equal(codes.toarray(), [[0, 1], [0, 0]])
    with pytest.raises(ValueError, match=r"attributes lacks \['day'\]"):
        dictionary.transform({"night": days})
    with pytest.raises(ValueError, match="holds strings, and in fit it held dates"):
        dictionary.transform({"day": ["a", "b"]})
    with pytest.raises(ValueError, match=r"no attribute 'night'; there are \['day'\]"):
        dictionary.atoms_of("night")
    with pytest.raises(NotFittedError):
        SupervisedDictionary().transform({"day": days})
    with pytest.raises(NotFittedError):
        SupervisedDictionary().inverse_transform(codes)
    with pytest.raises(ValueError, match="attributes is empty"):
        dictionary.fit(rows, {})
    with pytest.raises(ValueError, match=r"X holds NaN or infinity in 4 of 4 rows"):
        dictionary.fit(rows * np.nan, {"day": days})
    with pytest.raises(ValueError, match="estimate"):
        SupervisedDictionary(estimate="median").fit(rows, {"day": days})


# Approximation


def test_approximation_is_that_of_a_plain_loop():
    half = ATOMS.copy()
    half[3:5] *= 0.5  # of what lies between the sizes a half is kept
    result = compare_with_supervised({"half": Orthogonal(half)}, X, ATTRIBUTES, **QUICK)
    table = result.approximation.set_index(["dictionary", "fold", "attribute"])
    assert [*table.index.unique("dictionary")] == ["supervised", "half"]
    folds = StratifiedKFold(2, shuffle=True, random_state=0).split(X, SHAPE)
    for i, (train, test) in enumerate(folds):
        supervised = SupervisedDictionary().fit(
            X[train], {name: column[train] for name, column in ATTRIBUTES.items()}
        )
        new = {name: column[test] for name, column in ATTRIBUTES.items()}
        hats = {
            "supervised": supervised.inverse_transform(supervised.transform(new)),
            "half": TRUE_CODES[test] @ half,
        }
        for name, column in ATTRIBUTES.items():
            fitted = LogisticRegression(C=100.0).fit(X[train], column[train])
            between = 0
            centre = X[test].mean(axis=0)
            for value in np.unique(column):
                rows = column[test] == value
                between += rows.sum() * np.sum(
                    (X[test][rows].mean(axis=0) - centre) ** 2
                )
            for key, X_hat in hats.items():
                found = table.loc[key, i, name]
                assert_allclose(
                    [found["explained_variance"], found["cosine"]],
                    [
                        explained_variance(X[test], X_hat),
                        reconstruction_cosine(X[test], X_hat),
                    ],
                )
                assert_allclose(
                    found["magnitude"], between / np.sum((X[test] - centre) ** 2)
                )
                assert_allclose(
                    [found["head_x"], found["head_reconstruction"]],
                    [
                        balanced_accuracy_score(column[test], fitted.predict(rows))
                        for rows in (X[test], X_hat)
                    ],
                )
    recovered = table.loc["half"]["recovered"].unstack("attribute")
    assert_allclose(recovered["size"], 0.75, atol=0.02)
    assert (recovered["shape"] > 0.95).all()


# Control


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_the_greedy_choice_is_the_nearest_step_by_step(seed):
    rng = np.random.default_rng(seed)
    parts, aim = rng.normal(size=(5, 3)), rng.normal(size=3)
    chosen, ends = _greedy(parts, aim, 4)
    assert ends[0] == 0
    assert ends[-1] == len(chosen) == len({*chosen})
    for start, end in pairwise(ends):
        before = aim - parts[chosen[:start]].sum(axis=0)
        left = {
            (i, j): np.linalg.norm(before - parts[[*{i, j}]].sum(axis=0))
            for i, j in combinations_with_replacement(range(5), 2)
            if not {i, j} & {*chosen[:start]}
        }
        singles = {pair: x for pair, x in left.items() if pair[0] == pair[1]}
        if min(singles.values()) < np.linalg.norm(before):
            left = singles
        assert {*min(left, key=left.get)} == {*chosen[start:end]}
        assert min(left.values()) < np.linalg.norm(before)


def test_two_features_edit_an_attribute_whose_atoms_are_known():
    result = compare_with_supervised({"true": Orthogonal()}, X, ATTRIBUTES, **QUICK)
    table = result.control.groupby(["dictionary", "n_features"]).mean(numeric_only=True)
    for name in ("true", "supervised"):
        assert_array_equal(table.loc[(name, 0), ["success", "success_random"]], 0)
        assert_allclose(table.loc[(name, 0), ["others_kept", "distance"]], 1)
        assert_allclose(table.loc[(name, 2), ["success", "others_kept"]], 1)
        assert table.loc[(name, 1), "success"] < 1
    assert_allclose(table.loc[("supervised", 2), "distance"], 0, atol=1e-9)
    assert table.loc[("true", 2), "distance"] < 0.2
    # What differs otherwise between the rows of a pair is left alone.
    assert_array_equal(
        table.loc[("true", 2), "success"], table.loc[("true", 10), "success"]
    )
    assert table.loc[("true", 2), "success_random"] < 0.9


def test_a_dictionary_without_the_attribute_has_no_control():
    blind = ATOMS.copy()
    blind[3:5] = 0
    result = compare_with_supervised(
        {"blind": Orthogonal(blind)}, X, ATTRIBUTES, **QUICK
    )
    success = result.control.query("dictionary == 'blind'").groupby("attribute")[
        "success"
    ]
    assert success.max().to_dict() == {"shape": 1.0, "size": 0.0}
    only = compare_with_supervised({"a": Orthogonal()}, X, {"size": SIZE}, **QUICK)
    assert only.control["others_kept"].isna().all()


def test_the_rows_of_a_pair_are_alike_otherwise():
    """Features of pairs of values change both, unless the other value is the same."""
    pairs = [(shape, size) for shape in VALUES[:3] for size in VALUES[3:]]
    atoms = [ATOMS[VALUES.index(a)] + 2 * ATOMS[VALUES.index(b)] for a, b in pairs]

    def encode(codes):
        return np.column_stack(
            [
                codes[:, VALUES.index(a)] * codes[:, VALUES.index(b)] / 2
                for a, b in pairs
            ]
        )

    dictionary = Orthogonal(np.array(atoms), encode)
    result = compare_with_supervised({"pairs": dictionary}, X, ATTRIBUTES, **QUICK)
    table = result.control.query("dictionary == 'pairs' and n_features == 2")
    assert_allclose(table[["success", "others_kept"]], 1)


def test_heads_see_training_rows_only():
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y):
            seen.append(X)
            return super().fit(X, y)

    cv = [(np.arange(100), np.arange(100, N))]
    options = QUICK | {"head": Spy(), "cv": cv}
    compare_with_supervised({"a": Orthogonal()}, X, ATTRIBUTES, **options)
    assert_array_equal(seen, [X[:100]] * 2)


def test_heads_may_be_given():
    fitted = {
        name: FrozenEstimator(LogisticRegression(C=100.0).fit(X, column))
        for name, column in ATTRIBUTES.items()
    }
    result = compare_with_supervised(
        {"a": Orthogonal()}, X, ATTRIBUTES, **QUICK | {"head": fitted}
    )
    assert (result.approximation["head_x"] == 1).all()
    with pytest.raises(ValueError, match="no classifier for the attribute 'size'"):
        compare_with_supervised(
            {"a": Orthogonal()}, X, ATTRIBUTES, head={"shape": HEAD}
        )


# Interpretability


def interpreted(encode, attributes=ATTRIBUTES, **options):
    result = compare_with_supervised(
        {"a": Orthogonal(encode=encode)}, X, attributes, **QUICK | options
    )
    return result.interpretability


def test_f1_is_that_of_scikit_learn():
    table = interpreted(None).query("attribute == 'shape'")
    folds = StratifiedKFold(2, shuffle=True, random_state=0).split(X, SHAPE)
    for i, (_, test) in enumerate(folds):
        own = table[table["fold"] == i]
        assert own["value"].tolist() == VALUES[:3]
        assert own["best_feature"].tolist() == [0, 1, 2]
        assert_array_equal(own["f1"], 1)
        for value, always in zip(own["value"], own["f1_always"], strict=True):
            is_value = SHAPE[test] == value
            assert_allclose(always, f1_score(is_value, np.ones_like(is_value)))
    assert_array_equal(table[["n_precise", "recall_best", "recall_all"]], 1)
    assert_array_equal(table["n_effective"], 1)
    assert set(table["best_of"]) == {"shape"}


def test_the_best_feature_is_chosen_on_the_training_rows():
    noise = np.random.default_rng(1).random((N, 20)) < 0.4

    def encode(codes):  # knows its rows, of which it has seen none
        return noise.astype(float)

    dictionary = Orthogonal(np.zeros((20, 12)), encode)
    result = compare_with_supervised({"a": dictionary}, X, ATTRIBUTES, **QUICK)
    folds = list(StratifiedKFold(2, shuffle=True, random_state=0).split(X, SHAPE))
    for row in result.interpretability.to_dict("records"):
        train, test = folds[row["fold"]]
        is_value = ATTRIBUTES[row["attribute"]] == row["value"]
        scores = [f1_score(is_value[train], one) for one in noise[train].T]
        assert row["best_feature"] == np.argmax(scores)
        own = noise[test, row["best_feature"]]
        assert_allclose(row["f1"], f1_score(is_value[test], own))
        assert row["n_precise"] == row["recall_all"] == row["n_effective"] == 0


def test_rare_features_are_not_precise_by_chance():
    rare = np.random.default_rng(3).random((N, 200)) < 0.02

    def encode(codes):
        return rare.astype(float)

    dictionary = Orthogonal(np.zeros((200, 12)), encode)
    result = compare_with_supervised({"a": dictionary}, X, ATTRIBUTES, **QUICK)
    train, _ = next(StratifiedKFold(2, shuffle=True, random_state=0).split(X, SHAPE))
    fired = rare[train].sum(axis=0)
    hits = rare[train][SIZE[train] == 1].sum(axis=0)
    assert ((hits >= 0.8 * fired) & (fired > 0)).sum() > 5
    assert_array_equal(result.interpretability["n_precise"], 0)


def test_over_splitting_is_seen():
    """The feature of the first shape is split by what the rows are otherwise."""
    parts = np.random.default_rng(2).integers(0, 4, N)

    def encode(codes):
        split = codes[:, [0]] * (parts[:, None] == np.arange(4))
        return np.column_stack([codes[:, 1:], split])

    dictionary = Orthogonal(np.vstack([ATOMS[1:], np.tile(ATOMS[0], (4, 1))]), encode)
    result = compare_with_supervised({"a": dictionary}, X, ATTRIBUTES, **QUICK)
    table = result.interpretability.groupby("value")[
        ["n_precise", "n_effective", "recall_best", "recall_all"]
    ].mean()
    assert_allclose(table.loc["flat"], [4, 4, 0.25, 1], rtol=0.4)
    assert_allclose(table.loc["long"], 1)


def test_occlusion_is_seen():
    """Small differences of another attribute have no feature of their own."""
    other = np.where(RNG.random(N) < 0.8, SIZE, 1 - SIZE)
    table = interpreted(None, {**ATTRIBUTES, "other": other})
    best_of = table.groupby("attribute")["best_of"].agg(set).to_dict()
    assert best_of == {"shape": {"shape"}, "size": {"size"}, "other": {"size"}}


# Input


def test_groups_are_not_split():
    groups = np.arange(N) // 4
    compare_with_supervised({"a": Orthogonal()}, X, ATTRIBUTES, groups=groups, **QUICK)
    cv = [(np.arange(0, N, 2), np.arange(1, N, 2))]
    with pytest.raises(ValueError, match="groups are on both sides"):
        compare_with_supervised(
            {"a": Orthogonal()}, X, ATTRIBUTES, groups=groups, **QUICK | {"cv": cv}
        )


def test_dense_and_sparse_codes_give_the_same():
    class Dense(Orthogonal):
        def transform(self, X):
            return super().transform(X).toarray()

    tables = [
        compare_with_supervised({"a": one}, X, ATTRIBUTES, **QUICK)
        for one in (Orthogonal(), Dense())
    ]
    for one, other in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dictionaries": {}}, "at least one dictionary"),
        ({"dictionaries": {"supervised": Orthogonal()}}, "none 'supervised'"),
        ({"dictionaries": {"a": Orthogonal(ATOMS[:, :5])}}, "rebuilds rows of shape"),
        ({"attributes": {}}, "attributes is empty"),
        ({"attributes": {"shape": SHAPE[1:]}}, "attribute shape has length 239"),
        ({"attributes": {"one": np.ones(N)}}, "1 classes|single value"),
        (
            {"attributes": {"shape": SHAPE, "one": np.ones(N)}},
            "Attribute one has a single value in the 120 rows trained on in fold 0",
        ),
        ({"n_features": [0]}, "n_features must be a list of positive integers"),
        ({"X": X * np.nan}, "X holds NaN"),
    ],
)
def test_bad_input_is_named(options, complaint):
    given = {"dictionaries": {"a": Orthogonal()}, "X": X, "attributes": ATTRIBUTES}
    with pytest.raises(ValueError, match=complaint):
        compare_with_supervised(**given | QUICK | options)


def test_progress_bar(capsys):
    compare_with_supervised({"a": Orthogonal()}, X, {"size": SIZE}, verbose=1, **QUICK)
    assert "with supervised" in capsys.readouterr().err
