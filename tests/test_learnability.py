"""Whether concepts are easier to learn than classes, and hold on other probe sets."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.naive_bayes import GaussianNB

from skdict.concepts import compare_probe_sets, learnability

rng = np.random.default_rng(0)
N = 240
X = rng.normal(size=(N, 6))
Y = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + rng.normal(size=N), [-0.6, 0.6])]
CODES = np.maximum(rng.normal(size=(N, 8)), 0)
CODES[:, 2] = np.maximum(X[:, 3], 0)
PROBE = RidgeClassifier()


def learned(codes=CODES, **kw):
    options = {"cv": 2, "probe": PROBE, "random_state": 0} | kw
    return learnability(X, codes, Y, **options)


def test_what_the_inputs_hold_is_learned_and_noise_is_not():
    table = learned()
    concepts = table[table["kind"] == "concept"]
    assert concepts["name"].tolist() == list(range(8))
    assert concepts["learnability"][2] > 0.8
    assert concepts["harder_than"][2] == 0
    assert (concepts["learnability"].drop(2).abs() < 0.25).all()
    classes = table[table["kind"] == "class"]
    assert classes["name"].tolist() == ["a", "b", "c"]
    assert (classes["auroc"].iloc[[0, 2]] > 0.7).all()


@pytest.mark.parametrize("probe", [PROBE, GaussianNB()])
def test_figures_are_those_of_scikit_learn(probe):
    folds = [(np.arange(0, N, 2), np.arange(1, N, 2))]
    table = learned(features=[2], cv=folds, probe=probe)
    train, test = folds[0]
    present = CODES[:, 2] > 0
    fitted = probe.fit(X[train], present[train])
    if probe is PROBE:
        scores = fitted.decision_function(X[test])
    else:
        scores = fitted.predict_proba(X[test])[:, 1]
    precision = average_precision_score(present[test], scores)
    chance = present[test].mean()
    row = table.iloc[0]
    assert row["average_precision"] == pytest.approx(precision)
    assert row["learnability"] == pytest.approx((precision - chance) / (1 - chance))
    assert row["auroc"] == pytest.approx(roc_auc_score(present[test], scores))
    assert row["density"] == present.mean()


def test_the_least_integer_is_active():
    small = np.where(CODES > 0.5, -128, 0).astype(np.int8)
    np.testing.assert_allclose(
        learned(small)["density"], learned(small.astype(float))["density"]
    )


def test_sparse_codes_thresholds_and_groups():
    expected = learned(activity_threshold=0.5).drop(columns="name")
    found = learned(sp.csr_matrix(CODES), activity_threshold=0.5)
    np.testing.assert_allclose(
        found.drop(columns=["name", "kind"]), expected.drop(columns="kind")
    )
    groups = np.arange(N) // 4
    assert (learned(groups=groups)["n_folds"] == 2).all()
    with pytest.raises(ValueError, match="Groups are on both sides"):
        learned(groups=groups, cv=[(np.arange(0, N, 2), np.arange(1, N, 2))])


def test_concepts_that_are_too_rare_to_be_judged():
    codes = np.zeros((N, 3))
    codes[:2, 0] = 1
    codes[:, 1] = 1
    table = learned(codes)
    assert table["n_folds"][:3].tolist() == [0, 0, 0]
    assert (
        table.loc[:2, ["average_precision", "learnability", "auroc"]].isna().all(None)
    )
    # The densities nearest to one half come first.
    mixed = np.column_stack([codes, CODES[:, :2]])
    assert learned(mixed, max_concepts=2)["name"][:2].tolist() == [3, 4]


def test_bad_input():
    with pytest.raises(ValueError, match="X has 240 rows, but codes has 9"):
        learned(CODES[:9])
    with pytest.raises(ValueError, match="y has the value a for all samples"):
        learnability(X, CODES, ["a"] * N)


# Other probe sets


PLATES = np.repeat(["p", "q", "r"], N // 3)


def shifted(seed=0):
    """Attributions of which plate r has other important concepts."""
    state = np.random.default_rng(seed)
    attributions = state.normal(size=(N, 20)) + np.arange(20) / 4
    attributions[PLATES == "r"] = attributions[PLATES == "r"][:, ::-1]
    return attributions


def test_figures_are_those_of_the_means():
    attributions = shifted()
    table = compare_probe_sets(attributions, PLATES, max_concepts=6, n_permutations=0)
    assert table.columns.tolist() == ["first", "second", "rank_correlation", "overlap"]
    for row in table.itertuples():
        means = [
            attributions[s == PLATES].mean(axis=0) for s in (row.first, row.second)
        ]
        tops = [set(np.argsort(-np.abs(m))[:6]) for m in means]
        either = sorted(tops[0] | tops[1])
        assert row.overlap == len(tops[0] & tops[1]) / len(either)
        expected = spearmanr(means[0][either], means[1][either]).statistic
        assert row.rank_correlation == pytest.approx(expected)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csr_array])
def test_a_set_that_differs_is_found(container):
    table = compare_probe_sets(
        container(shifted()), PLATES, max_concepts=6, random_state=0
    )
    pairs = dict(zip(table["first"] + table["second"], table["overlap_p"], strict=True))
    assert pairs["pr"] == pairs["qr"] == 1 / 101
    assert pairs["pq"] > 0.5
    assert (table["overlap"] < table["overlap_null"]).tolist() == [False, True, True]


def test_the_null_holds_its_level_and_exchanges_groups():
    n_found = {"rows": 0, "wells": 0}
    for seed in range(40):
        state = np.random.default_rng(seed)
        wells = np.repeat(np.arange(12), 5)
        own = state.normal(size=(12, 10))[wells] + 0.1 * state.normal(size=(60, 10))
        for name, groups in (("rows", None), ("wells", wells)):
            table = compare_probe_sets(
                own, wells % 2, groups=groups, n_permutations=19, random_state=seed
            )
            n_found[name] += table["rank_correlation_p"][0] <= 0.1
    assert n_found["wells"] <= 9
    assert n_found["rows"] > n_found["wells"]


def test_sets_without_importance_agree():
    table = compare_probe_sets(np.zeros((6, 3)), [0, 0, 0, 1, 1, 1], random_state=0)
    assert table["rank_correlation"][0] == table["overlap"][0] == 1
    with pytest.raises(ValueError, match="probe_set has the value 1 for all rows"):
        compare_probe_sets(np.ones((3, 2)), [1, 1, 1])
    with pytest.raises(ValueError, match="probe_set differs inside 1 of 1 groups"):
        compare_probe_sets(np.ones((3, 2)), [1, 1, 2], groups=[0, 0, 0])
