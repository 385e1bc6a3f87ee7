"""skdict.evaluation.replicate_retrieval: replicates that find each other."""

import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from skdict.evaluation import replicate_retrieval


def wells(rng, n_classes=6, n_replicates=4, n_features=12, shift=1.0):
    y = np.repeat([f"drug {i}" for i in range(n_classes)], n_replicates)
    means = shift * rng.normal(size=(n_classes, n_features))
    X = np.repeat(means, n_replicates, axis=0) + rng.normal(size=(len(y), n_features))
    batch = np.tile(["p", "q"], len(y) // 2)
    return X, y, batch


def by_hand(X, y, negative, positive=None):
    """Mean over the replicates of scikit-learn's average precision."""
    cosines, found = cosine_similarity(X), {}
    for label in np.unique(y):
        scores = []
        for i in np.flatnonzero(y == label):
            same = (y == label) & (np.arange(len(y)) != i)
            same &= True if positive is None else positive(i)
            other = negative(i)
            if same.any():
                ranked = same | other
                scores.append(average_precision_score(same[ranked], cosines[i, ranked]))
        if scores:
            found[label] = np.mean(scores)
    return found


def test_against_other_perturbations(rng):
    X, y, batch = wells(rng)
    found = replicate_retrieval(X, y, null_size=200, random_state=0)
    expected = by_hand(X, y, lambda i: y != y[i])
    assert found["class"].tolist() == list(expected)
    assert_allclose(found["average_precision"], list(expected.values()), rtol=1e-4)
    assert (found["n_queries"] == 4).all()
    other = replicate_retrieval(
        X,
        y,
        batch=batch,
        positives="other_batches",
        negatives="same_batch",
        null_size=200,
        random_state=0,
    )
    expected = by_hand(
        X,
        y,
        lambda i: (y != y[i]) & (batch == batch[i]),
        lambda i: batch != batch[i],
    )
    assert_allclose(other["average_precision"], list(expected.values()), rtol=1e-4)


def test_more_pairs_than_copairs_asks_for_at_a_time(rng):
    X, y, _ = wells(rng, n_classes=2, n_replicates=220, n_features=4)
    found = replicate_retrieval(X, y, null_size=10, random_state=0)
    expected = by_hand(X, y, lambda i: y != y[i])
    assert_allclose(found["average_precision"], list(expected.values()), rtol=1e-3)


def test_against_controls(rng):
    X, y, _ = wells(rng)
    control = y == "drug 0"
    found = replicate_retrieval(X, y, control=control, null_size=200, random_state=0)
    expected = by_hand(X, y, lambda i: control)
    expected.pop("drug 0")
    assert found["class"].tolist() == list(expected)
    assert_allclose(found["average_precision"], list(expected.values()), rtol=1e-4)


def test_tables_sparse_and_alone(rng):
    X, y, _ = wells(rng)
    X[abs(X) < 1] = 0
    X[3] = 0  # a row without any active feature
    y = y.copy()
    y[-4:] = ["a", "b", "c", "d"]  # no replicates
    both = replicate_retrieval(
        {"rows": X, "codes": sparse.csr_array(X)}, y, null_size=100, random_state=3
    )
    assert both["profiles"].tolist() == ["rows"] * 5 + ["codes"] * 5
    first, second = (
        both[both["profiles"] == name].drop(columns="profiles").reset_index(drop=True)
        for name in ("rows", "codes")
    )
    pd.testing.assert_frame_equal(first, second)
    again = replicate_retrieval(X, y, null_size=100, random_state=3)
    assert_array_equal(again["p_value"], first["p_value"])
    assert both.notna().all(axis=None)


def test_ties_are_no_discovery():
    """All rows have the same code: copairs alone would give every class 1."""
    y = np.repeat(np.arange(30), 3)
    found = replicate_retrieval(np.ones((90, 2)), y, null_size=500, random_state=0)
    assert found["normalized_average_precision"].mean() < 0.1
    assert (found["p_value"] < 0.05).mean() < 0.2


def test_a_perfect_ranking_may_come_by_chance():
    """One partner and two other rows: a third of the random rankings are perfect."""
    X = np.array([[1, 0.0], [1, 0.1], [0, 1], [0.5, 1]])
    found = replicate_retrieval(X, ["a", "a", "b", "c"], null_size=2000, random_state=0)
    assert_allclose(found["average_precision"], 1, rtol=1e-5)
    assert 0.25 < found["p_value"][0] < 0.42


def test_p_values_are_calibrated(rng):
    X, y = rng.normal(size=(240, 10)), np.repeat(np.arange(80), 3)
    found = replicate_retrieval(X, y, null_size=1000, random_state=0)
    assert 0.4 < found["p_value"].mean() < 0.6
    assert (found["p_value"] <= 0.1).mean() < 0.2
    assert (found["q_value"] >= found["p_value"]).all()
    assert abs(found["normalized_average_precision"].mean()) < 0.05


def test_planted_drugs_are_found(rng):
    X, y, _ = wells(rng, shift=2.0)
    X[y == "drug 5"] = rng.normal(size=(4, 12))
    found = replicate_retrieval(X, y, null_size=2000, random_state=0)
    assert (found["q_value"] < 0.05).tolist() == [True] * 5 + [False]


def test_nothing_is_left_in_the_home_directory(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    X, y, _ = wells(rng)
    replicate_retrieval(X, y, null_size=10)
    assert not list(tmp_path.iterdir())


def test_without_copairs(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "copairs.map", None)
    X, y, _ = wells(rng)
    with pytest.raises(ImportError, match=r"skdict\[profiles\]"):
        replicate_retrieval(X, y)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y": ["a", "b", "c", "d"]}, "No perturbation has two rows"),
        ({"y": ["a"] * 4}, "nothing to rank them against"),
        ({"y": ["a"]}, "There are 4 rows, but y has length 1"),
        ({"positives": "other_batches"}, "need batch"),
        ({"negatives": "same_batch"}, "need batch"),
        ({"batch": ["p", "q"]}, "There are 4 rows, but batch has length 2"),
        (
            {"batch": list("ppqq"), "positives": "other_batches"},
            "no pair of replicates",
        ),
        ({"control": [0, 0, 0, 0]}, "control marks 0 of 4 rows"),
        ({"control": [0, 1, 1, 1]}, "No perturbation has two rows"),
        ({"null_size": 0}, "null_size"),
    ],
)
def test_bad_input(changed, message):
    call = {"profiles": np.eye(4), "y": ["a", "a", "b", "b"]} | changed
    with pytest.raises(ValueError, match=message):
        replicate_retrieval(**call)
