"""skdict.evaluation: probes on the best features, and the yield of a discovery."""

from itertools import combinations

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
)
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skdict.evaluation import discovery_yield, sparse_probing
from skdict.evaluation._ranking import Ranker
from skdict.inspection import SparseProbingDisplay
from skdict.metrics import make_linear_probe

RNG = np.random.default_rng(0)
Y = np.tile(np.array(["a", "b", "c"]), 40)
X = RNG.normal(size=(120, 6))
CODES = RNG.random((120, 20)) * (RNG.random((120, 20)) < 0.3)
CODES[:, [3, 11, 17]] += 0.8 * (Y[:, None] == np.array(["a", "b", "c"]))
CODES[:, 19] = 0  # dead
STORED = sparse.csr_array(CODES)
QUICK = {"cv": 2, "n_permutations": 0}
# Fast, and without a solver whose iterations depend on the labels.
BAYES = GaussianNB()


class _Dense(GaussianNB):
    """Takes sparse tables, too."""

    def fit(self, X, y):
        return super().fit(X.toarray() if sparse.issparse(X) else X, y)

    def predict(self, X):
        return super().predict(X.toarray() if sparse.issparse(X) else X)

    def predict_proba(self, X):
        return super().predict_proba(X.toarray() if sparse.issparse(X) else X)


BAYES_ON_ANY = _Dense(var_smoothing=1e-3)
MEASURES = ["balanced_accuracy", "auroc"]


def best(runs, n_features):
    return runs[(runs["input"] == "best features") & (runs["n_features"] == n_features)]


# Ranking


def test_the_order_is_that_of_the_f_statistic():
    labels = np.unique(Y, return_inverse=True)[1]
    F, _ = f_classif(CODES[:, :19] + 1e3, labels)
    for codes in (CODES[:, :19], STORED[:, :19], 1e200 * CODES[:, :19]):
        found = Ranker(codes, "f_statistic").order(labels)
        assert_array_equal(found, np.argsort(-F, kind="stable"))


def test_mean_difference_is_that_of_a_plain_loop():
    labels = np.unique(Y, return_inverse=True)[1]
    codes = CODES * np.logspace(0, 2, 20)
    differences = np.max(
        [
            np.abs(codes[labels == c].mean(axis=0) - codes[labels != c].mean(axis=0))
            for c in range(3)
        ],
        axis=0,
    )
    for given in (codes, sparse.csr_array(codes)):
        score = Ranker(given, "mean_difference").score(labels)
        assert_allclose(score * codes[:, :].max(), differences, rtol=1e-12)


@pytest.mark.parametrize(
    "ranking",
    [
        make_pipeline(MaxAbsScaler(), LogisticRegression()),
        ExtraTreesClassifier(10, max_depth=3, random_state=0),
    ],
)
def test_a_classifier_ranks(ranking):
    labels = np.unique(Y, return_inverse=True)[1]
    assert {*Ranker(CODES, ranking).order(labels)[:3]} == {3, 11, 17}


def test_a_constant_feature_is_last():
    codes = np.column_stack([np.full(120, 0.1), CODES[:, 3]])
    labels = np.unique(Y, return_inverse=True)[1]
    for ranking in ("f_statistic", "mean_difference"):
        assert Ranker(codes, ranking).score(labels)[0] == 0


# Probes on few features


def test_figures_are_those_of_a_plain_loop():
    cv = StratifiedKFold(3)
    runs = sparse_probing(
        CODES, Y, X=X, n_features=[1, 3], cv=cv, n_permutations=0, probe=BAYES
    )
    assert [*runs] == ["input", "n_features", "fold", *MEASURES]
    assert runs["input"].tolist() == 6 * ["best features"] + 3 * ["codes"] + 3 * ["x"]
    assert runs["n_features"].tolist() == 3 * [1] + 3 * [3] + 3 * [20] + 3 * [6]
    assert runs["fold"].tolist() == 4 * [0, 1, 2]
    # The dense lines and one of three features by hand.
    for i, (train, test) in enumerate(cv.split(X, Y)):
        F, _ = f_classif(CODES[train, :19], Y[train])
        chosen = np.argsort(-F, kind="stable")[:3]
        for name, features in (("x", X), ("best features", CODES[:, chosen])):
            size = features.shape[1]
            fitted = GaussianNB().fit(features[train], Y[train])
            own = runs[(runs["input"] == name) & (runs["n_features"] == size)]
            assert_allclose(
                own[MEASURES].to_numpy()[i],
                [
                    balanced_accuracy_score(Y[test], fitted.predict(features[test])),
                    roc_auc_score(
                        Y[test], fitted.predict_proba(features[test]), multi_class="ovr"
                    ),
                ],
            )


def test_two_classes_and_margins():
    y = Y == "a"
    probe = Perceptron(random_state=0)  # has no probabilities
    runs = sparse_probing(CODES, y, n_features=[1], probe=probe, **QUICK)
    splitter = StratifiedKFold(2, shuffle=True, random_state=0)
    for i, (train, test) in enumerate(splitter.split(X, y)):
        fitted = Perceptron(random_state=0).fit(CODES[train], y[train])
        found = runs[runs["input"] == "codes"]["auroc"].iloc[i]
        assert found == roc_auc_score(y[test], fitted.decision_function(CODES[test]))


def test_planted_features_are_found_and_noise_is_not():
    options = {"n_features": [3], "cv": 3, "n_permutations": 19, "random_state": 0}
    runs = best(sparse_probing(STORED, Y, probe=BAYES_ON_ANY, **options), 3)
    assert (runs["balanced_accuracy"] > runs["balanced_accuracy_null"] + 0.3).all()
    assert set(runs["balanced_accuracy_p"]) == {0.05}
    noise = np.random.default_rng(1).permutation(Y)
    runs = best(sparse_probing(STORED, noise, probe=BAYES_ON_ANY, **options), 3)
    assert (runs["balanced_accuracy_p"] > 0.05).all()


def test_p_values_of_noise_are_uniform():
    rng = np.random.default_rng(0)
    options = {"n_features": [2], "cv": 2, "n_permutations": 9, "probe": BAYES}
    p_values = []
    for i in range(20):
        codes, y = rng.random((40, 8)), rng.permutation(np.arange(40) % 2)
        runs = sparse_probing(codes, y, random_state=i, **options)
        p_values.append(best(runs, 2)["auroc_p"].iloc[0])
    assert stats.kstest(p_values, "uniform").statistic < 0.3


def test_folds_share_their_permutations_and_stay_stratified():
    """Scores of the folds are not independent, so their null must not be either."""
    seen = []

    class Spy(GaussianNB):
        def fit(self, X, y):
            seen.append(dict(zip(X[:, 0], y, strict=True)))
            return super().fit(X, y)

    codes = np.arange(120.0)[:, None]  # the only feature is the number of the row
    options = {"n_features": [1], "cv": 3, "n_permutations": 2, "probe": Spy()}
    sparse_probing(codes, Y, random_state=0, **options)
    true = dict(zip(codes[:, 0], Y, strict=True))
    # Of each fold: the labels, two permutations, and the probe on all features.
    for i in range(3):
        own = [seen[4 * fold + i] for fold in range(3)]
        for one, other in combinations(own, 2):
            assert all(one[row] == other[row] for row in one.keys() & other.keys())
        for labels in own:
            assert sorted(labels.values()) == sorted(true[row] for row in labels)
            assert (labels.items() <= true.items()) == (i == 0)


def test_permutations_that_leave_a_fold_with_one_class():
    groups = np.repeat(np.arange(4), 30)
    y = np.repeat(["a", "b", "a", "b"], 30)
    cv = [(np.arange(60), np.arange(60, 120)), (np.arange(60, 120), np.arange(60))]
    probe = LogisticRegression()  # needs two classes
    options = {"n_features": [1], "cv": cv, "n_permutations": 20, "probe": probe}
    runs = best(sparse_probing(CODES, y, groups=groups, random_state=0, **options), 1)
    assert runs[["auroc_p", "auroc_null"]].notna().all(axis=None)


def test_dense_and_sparse_codes_and_processes_give_the_same():
    options = {"n_features": [2, 20], "cv": 2, "n_permutations": 2, "random_state": 3}
    expected = sparse_probing(CODES, Y, **options)
    pd.testing.assert_frame_equal(sparse_probing(STORED, Y, **options), expected)
    with joblib.parallel_config("threading"):  # processes would start slowly
        found = sparse_probing(sparse.csr_matrix(CODES), Y, n_jobs=2, **options)
    pd.testing.assert_frame_equal(found, expected)


def test_groups_are_not_split_and_are_exchanged_as_a_whole():
    """Ten groups that differ by themselves: only two of them are of a class each."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    y = groups % 2
    codes = rng.normal(size=(12, 30))[groups] + 0.1 * rng.normal(size=(120, 30))
    options = {"n_features": [1], "cv": 3, "n_permutations": 19, "probe": BAYES}
    of_groups = sparse_probing(codes, y, groups=groups, random_state=0, **options)
    assert best(of_groups, 1)["auroc_p"].iloc[0] > 0.05
    of_rows = sparse_probing(codes, y, random_state=0, **options)
    assert best(of_rows, 1)["auroc_p"].iloc[0] == 0.05  # the leak
    options["cv"] = [(np.arange(0, 120, 2), np.arange(1, 120, 2))]
    with pytest.raises(ValueError, match="groups are on both sides"):
        sparse_probing(codes, y, groups=groups, **options)


def test_labels_stay_inside_batches():
    y = np.repeat(["a", "b"], 60)
    codes = CODES.copy()
    codes[:, 0] += y == "a"
    options = {"n_features": [2], "cv": 2, "n_permutations": 9, "probe": BAYES}
    with pytest.warns(UserWarning, match="nothing is tested"):
        runs = sparse_probing(codes, y, batch=y, **options)
    assert set(best(runs, 2)["auroc_p"]) == {1.0}
    runs = sparse_probing(codes, y, batch=np.arange(120) % 2, random_state=0, **options)
    assert set(best(runs, 2)["auroc_p"]) == {0.1}


def test_a_class_without_training_rows_has_an_area_of_one_half():
    y = np.repeat(["a", "b", "c"], 40)
    order = np.random.default_rng(0).permutation(80)
    cv = [(order[:60], np.append(order[60:], np.arange(80, 120)))]
    runs = sparse_probing(
        CODES, y, n_features=[1], cv=cv, n_permutations=0, probe=LogisticRegression()
    )
    train, test = cv[0]
    fitted = LogisticRegression().fit(CODES[train], y[train])
    margin = fitted.decision_function(CODES[test])
    areas = (
        roc_auc_score(y[test] == "a", -margin),
        roc_auc_score(y[test] == "b", margin),
    )
    assert_allclose(runs[runs["input"] == "codes"]["auroc"], (sum(areas) + 0.5) / 3)
    assert runs["balanced_accuracy"].max() <= 2 / 3


def test_the_probe_is_the_linear_one_by_default():
    runs = sparse_probing(CODES, Y, n_features=[3], **QUICK)
    given = sparse_probing(CODES, Y, n_features=[3], probe=make_linear_probe(), **QUICK)
    pd.testing.assert_frame_equal(runs, given)


def test_progress_bar(capsys):
    sparse_probing(CODES, Y, n_features=[1], probe=BAYES, verbose=1, **QUICK)
    discovery_yield(
        CODES, Y, budgets=[2], min_precision=0.4, verbose=1, n_permutations=1
    )
    shown = capsys.readouterr().err
    assert "sparse probing" in shown
    assert "discovery yield" in shown


class NoScores(DummyClassifier):
    predict_proba = property()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_features": [0, 2]}, "n_features must be a list of positive integers"),
        ({"n_features": [True]}, "n_features must be a list of positive integers"),
        ({"n_features": 3}, "n_features"),
        ({"n_features": [21, 50]}, "No entry of n_features is possible"),
        ({"X": X[1:]}, "x has 119 rows"),
        ({"probe": NoScores()}, "probe must have predict_proba"),
        ({"ranking": "best"}, "ranking"),
        ({"ranking": GaussianNB()}, "coef_ or feature_importances_"),
        ({"n_permutations": -1}, "n_permutations"),
    ],
)
def test_bad_input_is_named(options, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        sparse_probing(CODES, Y, **QUICK | options)
    if "n_features" in options:
        options = {"budgets": options["n_features"]}
        with pytest.raises(
            ValueError, match=complaint.replace("n_features", "budgets")
        ):
            discovery_yield(CODES, Y, **QUICK | options)


def test_codes_that_are_not_finite():
    codes = CODES.copy()
    codes[5, 2] = np.nan
    for call in (sparse_probing, discovery_yield):
        with pytest.raises(ValueError, match="codes holds NaN or infinity in 1 of 120"):
            call(codes, Y)


# The yield of a discovery

AUDIT = np.array(["p", "q", "r", "s", "t"])[RNG.integers(0, 5, 120)]


def test_yields_are_those_of_a_plain_loop():
    codes = CODES.copy()
    codes[:, [3, 5]] += AUDIT[:, None] == np.array(["p", "q"])
    result = discovery_yield(
        sparse.csr_array(codes),
        Y,
        audit_labels=AUDIT,
        budgets=[2, 8, 40],
        min_precision=0.4,
        **QUICK,
    )
    splitter = StratifiedKFold(2, shuffle=True, random_state=0)
    for i, (train, test) in enumerate(splitter.split(codes, Y)):
        F, _ = f_classif(codes[train, :19], Y[train])
        order = np.append(np.argsort(-F, kind="stable"), 19)
        precisions = np.array(
            [
                [
                    average_precision_score(AUDIT[test] == c, codes[test, f])
                    for c in "pqrst"
                ]
                for f in range(20)
            ]
        )
        found = precisions.max(axis=1) >= 0.4
        own = result.yields[result.yields["fold"] == i]
        assert own["budget"].tolist() == [2, 8]
        expected = [found[order[:size]].mean() for size in (2, 8)]
        assert_allclose(own["discovery_yield"], expected)
        assert_allclose(own["yield_at_random"], found[:19].mean())
        features = result.features[result.features["fold"] == i]
        assert features["feature"].tolist() == order[:8].tolist()
        assert features["rank"].tolist() == [*range(1, 9)]
        assert_allclose(
            features["average_precision"], precisions[order[:8]].max(axis=1)
        )
        best_class = np.array([*"pqrst"])[precisions[order[:8]].argmax(axis=1)]
        assert features["best_class"].tolist() == best_class.tolist()
        assert features["is_concept"].tolist() == found[order[:8]].tolist()
        assert set(features["audit"]) == {"audit_labels"}
        concepts = {*best_class[found[order[:8]]]}
        assert own["n_concepts"].iloc[1] == len(concepts)


def test_several_columns_are_audited_together():
    frame = pd.DataFrame({"first": AUDIT, "second": np.roll(AUDIT, 7)})
    both = discovery_yield(CODES, Y, audit_labels=frame, budgets=[20], **QUICK).features
    each = [
        discovery_yield(CODES, Y, audit_labels=frame[name], budgets=[20], **QUICK)
        .features["average_precision"]
        .to_numpy()
        for name in frame
    ]
    assert_array_equal(both["average_precision"], np.maximum(*each))
    names = np.where(each[0] >= each[1], "first", "second")
    assert both["audit"].tolist() == names.tolist()


def test_nulls_tell_planted_concepts_from_noise():
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(6), 40)
    codes = rng.random((240, 60)) * (rng.random((240, 60)) < 0.3)
    codes[:, :6] += y[:, None] == np.arange(6)
    options = {"budgets": [6], "n_permutations": 19, "random_state": 0}
    planted = discovery_yield(codes, y, **options).yields
    assert_array_equal(planted["discovery_yield"], 1)
    assert_array_equal(planted["n_concepts"], 6)
    assert (planted["yield_at_random"] < 0.25).all()
    assert (planted["proposal_null"] < 0.6).all()
    assert (planted["audit_null"] < 0.6).all()
    assert_array_equal(planted[["proposal_p", "audit_p"]], 0.05)
    noise = discovery_yield(codes, rng.permutation(y), **options).yields
    assert (noise[["proposal_p", "audit_p"]] > 0.05).all(axis=None)


def test_yields_do_not_depend_on_the_container_or_the_processes():
    options = {"audit_labels": AUDIT, "budgets": [3], "n_permutations": 4}
    expected = discovery_yield(CODES, Y, random_state=0, **options)
    for codes, n_jobs in ((STORED, None), (STORED, 2)):
        with joblib.parallel_config("threading"):
            found = discovery_yield(codes, Y, random_state=0, n_jobs=n_jobs, **options)
        pd.testing.assert_frame_equal(found.yields, expected.yields)
        pd.testing.assert_frame_equal(found.features, expected.features)


def test_frequent_classes_are_no_concepts():
    """A dead feature has the frequency of the class as its precision."""
    labels = np.where(np.arange(120) < 60, "half", AUDIT)
    result = discovery_yield(CODES, Y, audit_labels=labels, budgets=[20], **QUICK)
    assert "half" not in set(result.features["best_class"])
    with pytest.raises(ValueError, match="No class is left for the audit in fold 0"):
        discovery_yield(CODES, Y == "a", budgets=[5])
    with pytest.raises(ValueError, match="audit_labels is empty"):
        discovery_yield(CODES, Y, audit_labels={})
    with pytest.raises(ValueError, match="first has length 119"):
        discovery_yield(CODES, Y, audit_labels={"first": AUDIT[1:]})


def test_an_audit_keeps_groups_whole():
    groups = np.arange(120) // 4
    y = np.array(["a", "b", "c", "d", "e"])[groups % 5]
    seen = []

    class Spy(GroupKFold):
        def split(self, X, y=None, groups=None):
            for train, test in super().split(X, y, groups):
                seen.append({*groups[train]} & {*groups[test]})
                yield train, test

    discovery_yield(CODES, y, groups=groups, cv=Spy(2), budgets=[5], n_permutations=2)
    assert seen == [set(), set()]


# Display


def test_the_display_draws_the_table():
    runs = sparse_probing(
        CODES, Y, X=X, n_features=[1, 3], cv=2, n_permutations=2, probe=BAYES_ON_ANY
    )
    display = SparseProbingDisplay.from_runs(runs, measure="auroc", name="ICFL")
    chosen = runs[runs["input"] == "best features"].groupby("n_features")
    assert_array_equal(display.n_features, [1, 3])
    assert_allclose(display.mean, chosen["auroc"].mean())
    assert_allclose(display.std, chosen["auroc"].std(ddof=0))
    assert_allclose(display.null_high, chosen["auroc_null"].mean())
    assert_allclose(
        display.references["probe on x"], runs[runs["input"] == "x"]["auroc"].mean()
    )
    assert [*display.references] == ["all features", "probe on x"]
    assert len(display.null_lines_) == 1
    assert "ROC" in display.ax_.get_ylabel()
    several = pd.concat([runs.assign(dictionary=name) for name in ("a", "b")])
    display = SparseProbingDisplay.from_runs(several, references={})
    assert [line.get_label() for line in display.line_] == ["a", "b"]
    assert display.references == {}
    bare = runs.drop(columns=["auroc_null", "balanced_accuracy_null"])
    assert SparseProbingDisplay.from_runs(bare).null_lines_ == []
    plt.close("all")
    with pytest.raises(TypeError, match="runs must be a DataFrame"):
        SparseProbingDisplay.from_runs([runs])
    with pytest.raises(ValueError, match=r"lacks the columns \['input'\]"):
        SparseProbingDisplay.from_runs(runs.drop(columns="input"))
    with pytest.raises(ValueError, match="no probes on best features"):
        SparseProbingDisplay.from_runs(runs[runs["input"] == "x"])
    assert plt.get_fignums() == []
