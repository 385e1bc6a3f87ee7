"""skdict.metrics: one table for all features, and the flags for confounds."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skdict.metrics import (
    auroc_scores,
    describe_features,
    feature_density,
    selectivity_scores,
    selectivity_tests,
)

N = 800
NOISE, CLASS, BATCH, BOTH, PLATE = range(5)


@pytest.fixture
def planted(rng):
    """Labels that are uneven over the batches, and features for each of them."""
    batch = rng.integers(0, 4, N)
    plate = rng.integers(0, 3, N)
    y = np.where(rng.random(N) < 0.15 + 0.2 * batch, "b", "a")
    y[rng.random(N) < 0.2] = "c"
    rate = np.full((N, 8), 0.15)
    rate[:, CLASS] += 0.6 * (y == "b")
    rate[:, BATCH] += 0.6 * (batch == 3)
    rate[:, BOTH] += 0.4 * (y == "b") + 0.4 * (batch == 3)
    rate[:, PLATE] += 0.6 * (plate == 1)
    codes = sparse.csr_array((rng.random((N, 8)) < rate) * rng.uniform(1, 2, (N, 8)))
    return codes, y, {"batch": batch, "plate": np.array([*"xyz"])[plate]}


def test_flags(planted):
    codes, y, confounds = planted
    features = describe_features(codes, y, confounds=confounds)
    # The feature of the batch looks selective for the class as long as batches mix.
    assert features["q_value"][BATCH] < 1e-3
    assert features["q_value_within_batch"][BATCH] > 0.05
    assert_array_equal(np.flatnonzero(features["follows_batch"]), [BATCH])
    assert_array_equal(np.flatnonzero(features["follows_plate"]), [PLATE])
    assert features["best_batch"][BATCH] == 3
    assert features["best_plate"][PLATE] == "y"
    assert features["best_class"][CLASS] == features["best_class"][BOTH] == "b"
    assert features["q_value"][NOISE] > 0.05
    assert set(features["alpha"]) == {0.05}
    assert set(features["correction"]) == {"bh"}


def test_columns(planted):
    codes, y, confounds = planted
    features = describe_features(codes, y, confounds=confounds)
    assert list(features)[:7] == [
        "feature",
        "density",
        "best_class",
        "score",
        "q_value",
        "auroc",
        "n_classes",
    ]
    assert list(features)[7:12] == [
        "best_batch",
        "batch_score",
        "batch_q_value",
        "q_value_within_batch",
        "follows_batch",
    ]
    assert_array_equal(features["feature"], np.arange(8))
    assert_array_equal(features["density"], feature_density(codes))
    assert not features.isna().any(axis=None)


def test_equal_the_single_functions(planted):
    codes, y, confounds = planted
    features = describe_features(codes.toarray(), y, confounds=confounds)
    pairs = selectivity_tests(codes, y, alpha=1)
    q_values = pairs.pivot(index="feature", columns="class", values="q_value")
    scores = selectivity_scores(codes, y)
    areas = auroc_scores(codes, y)
    for row in features.itertuples():
        column = "abc".index(row.best_class)
        assert row.score == scores[row.feature, column]
        assert row.auroc == areas[row.feature, column]
        assert row.q_value == q_values.loc[row.feature, row.best_class]
        significant = q_values.loc[row.feature].to_numpy() <= 0.05
        assert row.n_classes == significant.sum()
        candidates = significant if significant.any() else np.full(3, True)
        assert row.score == scores[row.feature, candidates].max()

    within = selectivity_tests(codes, y, batch=confounds["batch"], alpha=1)
    smallest = within.groupby("feature")["q_value"].min()
    assert_allclose(features["q_value_within_batch"], smallest)
    batches = selectivity_tests(codes, confounds["batch"], alpha=1)
    merged = features.merge(
        batches, left_on=["feature", "best_batch"], right_on=["feature", "class"]
    )
    assert_allclose(merged["batch_q_value"], merged["q_value_y"])
    assert_allclose(merged["batch_score"], merged["score_y"])


def test_a_high_score_by_chance_is_not_the_best_class(rng):
    # One sample of class "rare" has the feature, by chance; class "b" has it often.
    y = np.repeat(["a", "b", "rare"], [200, 200, 1])
    codes = (rng.random((401, 1)) < np.where(y == "b", 0.5, 0.1)[:, None]).astype(float)
    codes[400] = 1.0
    scores = selectivity_scores(codes, y)
    assert scores.argmax() == 2
    assert describe_features(codes, y)["best_class"][0] == "b"
    # Without any significant class the score decides.
    assert describe_features(codes, y, alpha=1e-300)["best_class"][0] == "rare"


def test_class_that_coincides_with_a_batch_is_flagged(rng):
    y = np.repeat([0, 1], 100)
    codes = (rng.random((200, 1)) < 0.2 + 0.6 * y[:, None]).astype(float)
    features = describe_features(codes, y, confounds={"batch": y})
    assert features["follows_batch"][0]
    assert features["q_value_within_batch"][0] == 1.0


def test_false_flags_are_rare(rng):
    # Features of the class alone, in uneven batches: none follows the batch.
    batch = rng.integers(0, 4, N)
    y = (rng.random(N) < 0.15 + 0.2 * batch).astype(int)
    codes = sparse.csr_array(rng.random((N, 300)) < 0.1 + 0.4 * y[:, None])
    features = describe_features(codes, y, confounds={"batch": batch})
    assert (features["batch_q_value"] <= 0.05).mean() > 0.9
    assert features["follows_batch"].sum() == 0
    noise = sparse.csr_array(rng.random((N, 300)) < 0.2)
    features = describe_features(noise, y, confounds={"batch": batch})
    assert features["follows_batch"].sum() <= 3


def test_groups_and_control(planted):
    codes, y, confounds = planted
    batch = confounds["batch"]
    features = describe_features(codes, y, batch=batch)
    pairs = selectivity_tests(codes, y, batch=batch)
    selective = features["feature"][features["q_value"] <= 0.05]
    assert_array_equal(selective, np.unique(pairs["feature"]))
    assert BATCH not in selective.to_numpy()

    inside = describe_features(codes, y, control=y == "c", confounds=confounds)
    # Controls are exchanged among themselves only, so they stand for nothing.
    assert "c" not in set(inside["best_class"][inside["q_value"] <= 0.05])
    strata = [f"{b} {c}" for b, c in zip(batch, y == "c", strict=True)]
    within = selectivity_tests(codes, y, batch=strata, alpha=1)
    smallest = within.groupby("feature")["q_value"].min()
    assert_allclose(inside["q_value_within_batch"], smallest)


def test_confounds_as_a_frame(planted):
    codes, y, confounds = planted
    frame = pd.DataFrame(confounds, index=np.arange(N)[::-1])
    pd.testing.assert_frame_equal(
        describe_features(codes, y, confounds=frame),
        describe_features(codes, y, confounds=confounds),
    )


def test_bad_input(planted):
    codes, y, confounds = planted
    batch = confounds["batch"]
    with pytest.raises(ValueError, match="batch has length 3"):
        describe_features(codes, y, confounds={"batch": batch[:3]})
    with pytest.raises(ValueError, match="confound batch has the value 1"):
        describe_features(codes, y, confounds={"batch": np.ones(N)})
    with pytest.raises(ValueError, match="plate holds 1 missing"):
        describe_features(codes, y, confounds={"plate": [None, *batch[1:]]})
    with pytest.raises(ValueError, match="confounds must be a dict or a DataFrame"):
        describe_features(codes, y, confounds=batch)
    with pytest.raises(ValueError, match="confounds has two columns that are called 1"):
        describe_features(codes, y, confounds={1: batch, "1": batch[::-1]})
    with pytest.raises(ValueError, match="column best_class already"):
        describe_features(codes, y, confounds={"class": batch})
    with pytest.raises(ValueError, match="'alpha' parameter"):
        describe_features(codes, y, alpha=0)


def test_codes_without_activity():
    features = describe_features(
        sparse.csr_array((6, 3)), [0, 0, 1, 1, 2, 2], confounds={"b": [0, 1] * 3}
    )
    assert_array_equal(features["q_value"], 1.0)
    assert_array_equal(features["auroc"], 0.5)
    assert not features["follows_b"].any()
