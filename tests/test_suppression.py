"""What taking features out does to the predictability of batches and labels."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, FeatureSuppressor
from skdict.concepts import ablate, decode, suppression_report
from skdict.concepts._matched import FeatureUse
from skdict.concepts._splits import make_folds

rng = np.random.default_rng(0)
N = 240
Y = rng.choice(["a", "b", "c"], N)
BATCH = rng.integers(0, 3, N)
CODES = rng.exponential(size=(N, 20)) * (rng.random((N, 20)) < 0.4)
CODES[:, :2] += 3 * ((BATCH == 1)[:, None] & (rng.random((N, 2)) < 0.6))
CODES[:, 5] += 3 * ((Y == "a") & (rng.random(N) < 0.7))
PROBE = RidgeClassifier()


def report(codes=CODES, **kw):
    options = {"batch": BATCH, "cv": 3, "probe": PROBE, "random_state": 0} | kw
    return suppression_report(codes, Y, **options)


def test_batch_features_are_what_the_batch_is_told_by():
    runs = report()
    assert [*runs["removed"][:3]] == ["none", "batch features", "random features"]
    assert len(runs) == 3 * (2 + 5)
    means = runs.groupby("removed")[["probe_batch", "probe_y"]].mean()
    assert means["probe_batch"]["none"] > 0.55
    assert means["probe_batch"]["batch features"] < 0.45
    assert means["probe_batch"]["random features"] > 0.55
    assert means["probe_y"]["batch features"] > means["probe_y"]["none"] - 0.05
    assert (runs["chance_batch"] == 1 / 3).all()
    found = runs[runs["removed"] == "batch features"]
    assert (found["n_removed"] == 2).all()
    assert (runs.loc[runs["removed"] == "none", "energy_removed"] == 0).all()


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csr_array])
def test_sparse_codes_give_the_same(container):
    expected = report(features=[0, 1], n_random=1)
    found = report(container(CODES), features=[0, 1], n_random=1)
    np.testing.assert_allclose(
        found.drop(columns="removed"), expected.drop(columns="removed")
    )


def test_scores_are_those_of_the_probe_on_held_out_rows():
    folds = [(np.arange(N) % 2 == 0, np.arange(N) % 2 == 1)]
    folds = [tuple(map(np.flatnonzero, fold)) for fold in folds]
    runs = report(features=[0, 1], cv=folds, n_random=0)
    train, test = folds[0]
    for removed, row in zip(([], [0, 1]), runs.itertuples(), strict=True):
        kept = ablate(CODES, removed)
        for labels, score in ((BATCH, row.probe_batch), (Y, row.probe_y)):
            predicted = PROBE.fit(kept[train], labels[train]).predict(kept[test])
            assert score == pytest.approx(
                balanced_accuracy_score(labels[test], predicted)
            )
        energy = (CODES[test][:, removed] ** 2).sum() / (CODES[test] ** 2).sum()
        assert row.energy_removed == pytest.approx(energy)
        active = (CODES[test][:, removed] != 0).sum(axis=1).mean()
        assert row.l0_removed == pytest.approx(active)


def test_probes_of_decoded_rows():
    rows = rng.normal(size=(N, 6)) + 2 + 2 * np.eye(3, 6)[BATCH]
    pipe = make_pipeline(
        StandardScaler(), Normalizer(), ICFL(12, 3, max_iter=1, random_state=0)
    )
    codes = pipe.fit_transform(rows)
    train, test = np.arange(0, N, 2), np.arange(1, N, 2)
    for keep_error in (True, False):
        runs = report(
            codes,
            features=[0, 3],
            estimator=pipe,
            X=rows,
            keep_error=keep_error,
            cv=[(train, test)],
            n_random=0,
        )
        for removed, row in zip(([], [0, 3]), runs.itertuples(), strict=True):
            given = decode(pipe, ablate(codes, removed), rows, keep_error=keep_error)
            predicted = PROBE.fit(given[train], BATCH[train]).predict(given[test])
            expected = balanced_accuracy_score(BATCH[test], predicted)
            assert row.probe_batch == pytest.approx(expected)
    with pytest.raises(ValueError, match="pass the estimator, too"):
        report(codes, X=rows)


def test_features_are_found_on_training_rows_alone():
    """The batch leaves its mark only where it is held out."""
    codes = rng.exponential(size=(N, 6))
    half = np.arange(N) % 2 == 0
    codes[half, 2] += 5 * (BATCH[half] == 1)
    folds = [(np.flatnonzero(~half), np.flatnonzero(half))]
    runs = report(codes, cv=folds, n_random=0)
    assert runs["n_removed"].tolist() == [0, 0]


def test_groups_stay_whole_and_are_what_the_suppressor_exchanges():
    groups = np.arange(N) // 4
    batch, y = (values[groups * 4] for values in (BATCH, Y))
    runs = suppression_report(
        CODES, y, batch=batch, groups=groups, cv=2, probe=PROBE, random_state=0
    )
    assert set(runs["fold"]) == {0, 1}
    # Where batches differ inside groups, rows are exchanged.
    report(groups=groups, cv=2, n_random=0)
    folds = [(np.arange(0, N, 2), np.arange(1, N, 2))]
    with pytest.raises(ValueError, match="Groups are on both sides of fold 0"):
        report(groups=groups, cv=folds)


def test_the_suppressor_compares_batches_inside_classes():
    """A class that is more frequent in one batch, and a feature that marks it."""
    y = np.where(rng.random(N) < np.where(BATCH == 1, 0.8, 0.2), "a", "b")
    codes = rng.exponential(size=(N, 6))
    codes[:, 2] += 3 * (y == "a")
    codes[:, 4] += 3 * (BATCH == 2)
    runs = suppression_report(
        codes, y, batch=BATCH, cv=2, n_random=0, probe=PROBE, random_state=0
    )
    assert runs["n_removed"].tolist() == [0, 1, 0, 1]


def test_the_suppressor_exchanges_whole_groups():
    """Wells differ by themselves, so batches of few wells differ by chance."""
    wells = np.repeat(np.arange(24), 10)
    codes = rng.normal(size=(24, 4))[wells] + 0.1 * rng.normal(size=(N, 4))
    y, batch = wells // 2 % 2, wells % 2
    n_removed = {
        name: suppression_report(
            codes, y, batch=batch, groups=groups, n_random=0, probe=PROBE,
            random_state=0, cv=[(np.arange(120), np.arange(120, 240))],
        )["n_removed"][1]
        for name, groups in (("rows", None), ("wells", wells))
    }  # fmt: skip
    assert n_removed["wells"] < n_removed["rows"]


def test_random_features_are_used_alike():
    use = FeatureUse(CODES)
    for container in (sp.csr_array, np.asarray):
        own = FeatureUse(container(CODES))
        np.testing.assert_allclose(own.n_active, (CODES != 0).sum(axis=0))
        expected = (CODES**2).sum(axis=0)
        np.testing.assert_allclose(
            own.energy / own.energy.sum(), expected / expected.sum()
        )
    chosen = np.array([0, 1, 7])
    state = np.random.RandomState(0)
    drawn = [use.matched(chosen, state) for _ in range(20)]
    assert all(len(set(d)) == 3 and not set(d) & set(chosen) for d in drawn)
    assert len({tuple(d) for d in drawn}) > 10
    # Of 200 features of two kinds, each is replaced by one of its own kind.
    kinds = np.tile([1.0, 30.0], 100)
    use = FeatureUse(kinds * (rng.random((50, 200)) < np.where(kinds > 1, 0.1, 0.8)))
    chosen = np.array([3, 8, 12, 15])
    np.testing.assert_array_equal(kinds[use.matched(chosen, state)], kinds[chosen])


def test_dead_features_and_codes_without_any():
    use = FeatureUse(np.column_stack([CODES, np.zeros((N, 12))]))
    drawn = use.matched(np.array([20, 21]), np.random.RandomState(0))
    assert (drawn >= 20).all()
    assert FeatureUse(np.zeros((3, 4))).removed(np.array([1]))["energy_removed"] == 0
    with pytest.raises(ValueError, match="20 of 32 features are chosen"):
        use.matched(np.arange(20), np.random.RandomState(0))


def test_folds_are_stratified_by_all_labels_if_there_are_enough():
    state = np.random.RandomState(0)
    labels = {"batch": BATCH, "y": np.unique(Y, return_inverse=True)[1]}
    for _, test in make_folds(4, labels, None, state):
        counts = np.bincount(BATCH[test] * 3 + labels["y"][test])
        whole = np.bincount(BATCH * 3 + labels["y"])
        assert (abs(counts - whole / 4) <= 1).all()
    rare = np.where(np.arange(N) < 2, 1, 0)
    folds = make_folds(2, {"batch": BATCH, "rare": rare}, None, state)
    assert all(rare[test].sum() == 1 for _, test in folds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": np.zeros(N)}, "batch has the value 0 for all samples"),
        ({"features": [0], "suppressor": FeatureSuppressor()}, "not both"),
        ({"suppressor": PROBE}, "'suppressor' parameter of suppression_report"),
        ({"cv": []}, "at least one pair"),
        ({"cv": [(np.arange(9), [N])]}, f"names row {N}, but there are {N} rows"),
        ({"cv": [([N - 1], [-1])]}, "1 rows are on both sides of fold 0"),
        ({"cv": [(BATCH == 0, [True])]}, "neither indices of rows nor masks"),
        ({"cv": [(np.arange(9), np.arange(9))]}, "9 rows are on both sides of fold 0"),
        ({"cv": GroupKFold(3), "groups": BATCH}, "held out in fold 0 have a single"),
        ({"features": np.arange(11)}, "11 of 20 features are chosen"),
    ],
)
def test_what_cannot_be_reported(options, message):
    with pytest.raises(ValueError, match=message):
        report(**options)
