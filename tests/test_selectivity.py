"""skdict.metrics: selectivity, its permutation null and its scorer."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import labelled_codes
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_iris
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdict.metrics import (
    make_selectivity_scorer,
    selectivity_counts,
    selectivity_curve,
    selectivity_report,
    selectivity_scores,
)

KINDS = ("average", "maximum")


def brute_force(codes, y, kind, threshold):
    classes = np.unique(y)
    scores = np.empty((codes.shape[1], len(classes)))
    for feature in range(codes.shape[1]):
        rate = {
            c: np.mean([abs(z) > threshold for z in codes[y == c, feature]])
            for c in classes
        }
        for j, c in enumerate(classes):
            if kind == "average":
                other = np.mean([abs(z) > threshold for z in codes[y != c, feature]])
            else:
                other = max(rate[d] for d in classes if d != c)
            scores[feature, j] = rate[c] - other
    return scores


def with_noise_entries(codes):
    """The same matrix as CSR with explicit zeros and duplicate entries."""
    rows, columns = np.indices(codes.shape).reshape(2, -1)
    values = codes.ravel()
    # Every entry comes as (v + 1) and -1: zeros are the sum of two non-zeros.
    data = np.concatenate((values + 1.0, np.full(values.size, -1.0)))
    order = np.argsort(np.tile(rows, 2), kind="stable")
    indptr = np.arange(0, 2 * codes.size + 1, 2 * codes.shape[1])
    indices = np.tile(columns, 2)[order]
    return sparse.csr_array((data[order], indices, indptr), shape=codes.shape)


class TestScores:
    @settings(deadline=None, max_examples=100)
    @given(labelled_codes(), st.sampled_from(KINDS), st.sampled_from([0.0, 0.5, 2.5]))
    def test_equal_brute_force_for_dense_and_csr(self, data, kind, threshold):
        codes, y = data
        expected = brute_force(codes, y, kind, threshold)
        dense = selectivity_scores(
            codes, y, contrast=kind, activity_threshold=threshold
        )
        assert dense.shape == (codes.shape[1], len(np.unique(y)))
        assert_allclose(dense, expected, atol=1e-12, rtol=0)
        assert np.abs(dense).max() <= 1.0
        for same in (sparse.csr_array(codes), with_noise_entries(codes)):
            scores = selectivity_scores(
                same, y, contrast=kind, activity_threshold=threshold
            )
            assert_array_equal(scores, dense)

    @settings(deadline=None, max_examples=50)
    @given(labelled_codes(), st.sampled_from(KINDS), st.randoms(use_true_random=False))
    def test_rows_in_any_order(self, data, kind, random):
        codes, y = data
        order = random.sample(range(len(y)), len(y))
        assert_array_equal(
            selectivity_scores(codes[order], y[order], contrast=kind),
            selectivity_scores(codes, y, contrast=kind),
        )

    @settings(deadline=None, max_examples=50)
    @given(labelled_codes(), st.sampled_from(KINDS))
    def test_names_of_classes_only_order_the_columns(self, data, kind):
        codes, y = data
        renamed = np.array(["d", "a", "c", "b"])[y]
        order = np.argsort(["d", "a", "c", "b"][: y.max() + 1])
        assert_array_equal(
            selectivity_scores(codes, renamed, contrast=kind),
            selectivity_scores(codes, y, contrast=kind)[:, order],
        )

    @settings(deadline=None, max_examples=50)
    @given(labelled_codes(), st.sampled_from(KINDS), st.floats(1e-3, 1e3))
    def test_scale_and_sign_do_not_matter_at_threshold_zero(self, data, kind, factor):
        codes, y = data
        expected = selectivity_scores(codes, y, contrast=kind)
        assert_array_equal(
            selectivity_scores(factor * codes, y, contrast=kind), expected
        )
        assert_array_equal(selectivity_scores(-codes, y, contrast=kind), expected)

    @settings(deadline=None, max_examples=50)
    @given(labelled_codes(max_classes=2))
    def test_kinds_are_equal_to_the_bit_for_two_classes(self, data):
        codes, y = data
        assert_array_equal(
            selectivity_scores(codes, y, contrast="maximum"),
            selectivity_scores(codes, y, contrast="average"),
        )

    def test_maximum_with_a_tie_at_the_top(self):
        codes = np.array([[1.0], [1.0], [0.0]])
        scores = selectivity_scores(codes, [0, 1, 2], contrast="maximum")
        assert_array_equal(scores, [[0.0, 0.0, -1.0]])

    @pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "bsr", "dok", "dia"])
    @pytest.mark.parametrize("api", ["matrix", "array"])
    def test_every_sparse_format(self, form, api, rng):
        codes = rng.normal(size=(30, 8)) * (rng.random((30, 8)) < 0.4)
        y = rng.integers(0, 3, 30)
        same = getattr(sparse, f"{form}_{api}")(codes)
        assert_array_equal(selectivity_scores(same, y), selectivity_scores(codes, y))

    @pytest.mark.parametrize(
        "convert",
        [
            lambda z: z.astype(np.float32),
            lambda z: z.astype(np.float16),
            lambda z: z.astype(np.int8),
            lambda z: sparse.csr_array(z.astype(np.int8)),
            lambda z: z != 0,
            lambda z: sparse.csr_array(z != 0),
            lambda z: np.abs(z).astype(np.uint8),
            np.asfortranarray,
            pd.DataFrame,
            lambda z: pd.DataFrame.sparse.from_spmatrix(sparse.csr_array(z)),
            lambda z: z.tolist(),
        ],
    )
    def test_every_type_of_codes(self, convert, rng):
        codes = rng.choice([0.0, 0.0, 1.0, -128.0], size=(30, 8))
        y = rng.integers(0, 3, 30)
        assert_array_equal(
            selectivity_scores(convert(codes), y), selectivity_scores(codes, y)
        )

    def test_threshold_is_compared_in_float64(self):
        # The float32 next to 0.1 is larger than 0.1.
        codes = np.array([[0.1], [0.0]], dtype=np.float32)
        for same in (codes, sparse.csr_array(codes)):
            scores = selectivity_scores(same, [0, 1], activity_threshold=0.1)
            assert_array_equal(scores, [[1.0, -1.0]])

    @pytest.mark.parametrize(
        "y",
        [
            ["b", "a", "b", "c"],
            np.array(["b", "a", "b", "c"], dtype=object),
            pd.Series(["b", "a", "b", "c"], index=[5, 5, 1, 0]),
            pd.Categorical(["b", "a", "b", "c"], categories=["c", "b", "a"]),
            np.array([[1], [0], [1], [2]]),
            np.array([1.0, 0.0, 1.0, 2.0], dtype=np.float32),
        ],
    )
    def test_every_type_of_labels(self, y):
        codes = [[1.0], [0.0], [0.0], [2.0]]
        assert_array_equal(
            selectivity_scores(codes, y), selectivity_scores(codes, [1, 0, 1, 2])
        )

    def test_neither_densifies_nor_changes_csr(self, rng):
        # 10**5 x 10**5 would take 10 GB as booleans.
        n = 100_000
        codes = sparse.csr_array(
            (np.ones(n, np.float32), rng.integers(0, n, n), np.arange(n + 1)),
            shape=(n, n),
        )
        scores = selectivity_scores(codes, np.arange(n) % 2)
        assert scores.shape == (n, 2)

        messy = with_noise_entries(np.eye(3))
        before = messy.copy()
        selectivity_scores(messy, [0, 1, 1])
        assert messy.nnz == before.nnz
        assert_array_equal(messy.indices, before.indices)
        assert_array_equal(messy.data, before.data)

    def test_read_only_csr(self):
        codes = sparse.csr_array(np.eye(3))
        for part in (codes.data, codes.indices, codes.indptr):
            part.flags.writeable = False
        assert selectivity_scores(codes, [0, 1, 1])[0, 0] == 1.0

    def test_dense_codes_of_several_blocks(self, monkeypatch, rng):
        codes = rng.normal(size=(50, 7)) * (rng.random((50, 7)) < 0.5)
        y = rng.integers(0, 4, 50)
        expected = selectivity_scores(codes, y)
        monkeypatch.setattr("skdict._utils.arrays._BLOCK_ENTRIES", 21)
        assert_array_equal(selectivity_scores(codes, y), expected)

    def test_rows_and_features_without_activity(self):
        codes = sparse.csr_array((4, 3))
        assert_array_equal(selectivity_scores(codes, [0, 0, 1, 2]), np.zeros((3, 3)))


class TestErrors:
    codes = np.eye(4)
    y = (0, 0, 1, 1)

    @pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
    def test_not_finite(self, form):
        codes = np.eye(6)
        codes[3, [1, 2]] = np.nan
        codes[5, 5] = -np.inf
        message = "NaN or infinity in 2 of 6 rows, the first of them row 3"
        with pytest.raises(ValueError, match=message):
            selectivity_scores(form(codes), [0, 0, 0, 1, 1, 1])

    def test_nan_in_a_later_block(self, monkeypatch):
        monkeypatch.setattr("skdict._utils.arrays._BLOCK_ENTRIES", 8)
        codes = np.eye(6)
        codes[4, 0] = np.nan
        with pytest.raises(ValueError, match="1 of 6 rows, the first of them row 4"):
            selectivity_scores(codes, [0, 0, 0, 1, 1, 1])

    def test_length(self):
        with pytest.raises(ValueError, match="4 rows, but y has length 3"):
            selectivity_scores(self.codes, [0, 1, 1])
        with pytest.raises(ValueError, match="4 rows, but batch has length 5"):
            selectivity_report(self.codes, self.y, batch=[0, 1, 0, 1, 0])

    def test_single_class(self):
        with pytest.raises(ValueError, match="at least two classes; it holds only a"):
            selectivity_scores(self.codes, ["a"] * 4)

    @pytest.mark.parametrize(
        "y",
        [
            [0.0, np.nan, 1.0, np.nan],
            [0.0, np.inf, 1.0, -np.inf],
            ["a", None, "b", None],
            np.array(["a", np.nan, "b", np.nan], dtype=object),
            np.array(["a", pd.NA, "b", pd.NA], dtype=object),
            pd.Series([0, None, 1, None], dtype="Int64"),
            np.array(["2020", "NaT", "2021", "NaT"], dtype="datetime64[D]"),
        ],
    )
    def test_missing_labels(self, y):
        message = "y holds 2 missing or infinite values of 4, the first of them at row"
        with pytest.raises(ValueError, match=message):
            selectivity_scores(self.codes, y)

    def test_missing_groups(self):
        with pytest.raises(ValueError, match="batch holds 1 missing"):
            selectivity_report(self.codes, self.y, batch=["a", "a", None, "a"])

    def test_continuous_labels(self):
        with pytest.raises(ValueError, match="fractional numbers"):
            selectivity_scores(self.codes, [0.1, 0.2, 1.0, 1.0])

    def test_labels_that_cannot_be_sorted(self):
        with pytest.raises(ValueError, match="y mixes labels"):
            selectivity_scores(self.codes, np.array(["a", 1, "a", 1], dtype=object))

    @pytest.mark.parametrize("y", [None, 3, np.eye(4)])
    def test_labels_that_are_no_list(self, y):
        with pytest.raises(ValueError, match="y"):
            selectivity_scores(self.codes, y)

    @pytest.mark.parametrize(
        "parameter",
        [
            {"contrast": "mean"},
            {"activity_threshold": -0.1},
            {"activity_threshold": np.nan},
            {"activity_threshold": "0"},
        ],
    )
    def test_parameters(self, parameter):
        (name,) = parameter
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            selectivity_scores(self.codes, self.y, **parameter)
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            selectivity_report(self.codes, self.y, **parameter)
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            make_selectivity_scorer(**parameter)

    @pytest.mark.parametrize("n_permutations", [-1, 2.5])
    def test_n_permutations(self, n_permutations):
        with pytest.raises(ValueError, match="'n_permutations' parameter"):
            selectivity_report(self.codes, self.y, n_permutations=n_permutations)

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
    @pytest.mark.parametrize("form", [np.zeros, sparse.csr_array])
    def test_empty(self, form, shape):
        with pytest.raises(ValueError, match=r"0 (sample|feature)"):
            selectivity_scores(form(shape), [0, 1, 1])

    def test_one_dimensional_codes(self):
        with pytest.raises(ValueError, match="Expected 2D"):
            selectivity_scores(np.ones(4), self.y)


@pytest.fixture
def planted(rng):
    """Random codes in which feature 4 marks class "b"."""
    y = np.repeat(["a", "b", "c"], [60, 40, 20])
    codes = rng.normal(size=(120, 15)) * (rng.random((120, 15)) < 0.3)
    codes[:, 4] = np.where(y == "b", 1.0, 0.0)
    return codes, y


class TestReport:
    def test_without_permutations(self, planted):
        codes, y = planted
        scores = selectivity_scores(codes, y)
        report = selectivity_report(codes, y)
        assert isinstance(report, pd.DataFrame)
        assert list(report) == [
            *("class", "n_samples", "best_feature", "score"),
            *("contrast", "n_permutations", "mean_score"),
        ]
        assert list(report["class"]) == ["a", "b", "c"]
        assert list(report["n_samples"]) == [60, 40, 20]
        assert_array_equal(report["best_feature"], scores.argmax(axis=0))
        assert_array_equal(report["score"], scores.max(axis=0))
        assert set(report["contrast"]) == {"average"}
        assert set(report["n_permutations"]) == {0}
        assert_allclose(report["mean_score"], scores.max(axis=0).mean())

    @pytest.mark.parametrize("kind", KINDS)
    def test_null_against_a_loop(self, planted, kind):
        codes, y = planted
        options = {"contrast": kind, "activity_threshold": 0.2}
        report = selectivity_report(
            codes, y, n_permutations=19, random_state=3, **options
        )
        rng = np.random.RandomState(3)
        null = np.array(
            [
                selectivity_scores(codes, rng.permutation(y), **options).max(axis=0)
                for _ in range(19)
            ]
        )
        observed = selectivity_scores(codes, y, **options).max(axis=0)
        assert_allclose(report["null_q95"], np.quantile(null, 0.95, axis=0))
        assert_allclose(report["p_value"], (1 + (null >= observed).sum(axis=0)) / 20)
        means = null.mean(axis=1)
        assert_allclose(report["null_mean_q95"], np.quantile(means, 0.95))
        p_value = (1 + (means >= observed.mean()).sum()) / 20
        assert_allclose(report["mean_p_value"], p_value)

    def test_finds_the_planted_feature_only(self, planted):
        codes, y = planted
        report = selectivity_report(codes, y, n_permutations=99, random_state=0)
        row = report.set_index("class").loc["b"]
        assert row["best_feature"] == 4
        assert row["score"] == 1.0
        assert row["p_value"] == 0.01
        assert row["null_q95"] < 0.5
        assert set(report["mean_p_value"]) == {0.01}
        noise = selectivity_report(
            np.delete(codes, 4, axis=1), y, n_permutations=99, random_state=0
        )
        assert noise["p_value"].min() > 0.05

    def test_p_values_are_uniform_without_a_signal(self, rng):
        codes = sparse.csr_array(rng.random((60, 10)) < 0.3)
        p_values = [
            selectivity_report(
                codes, rng.integers(0, 2, 60), n_permutations=19, random_state=i
            )["p_value"][0]
            for i in range(200)
        ]
        # P(p <= 0.05) is at most 0.05, and not far below in spite of the ties: 10
        # of 200, with a standard deviation of 3.
        assert 1 <= np.sum(np.array(p_values) <= 0.05) <= 20
        assert 0.4 < np.mean(p_values) < 0.65

    def test_same_for_dense_and_csr(self, planted):
        codes, y = planted
        options = {"n_permutations": 9, "random_state": 0}
        dense = selectivity_report(codes, y, **options)
        csr = selectivity_report(sparse.csr_array(codes), y, **options)
        pd.testing.assert_frame_equal(dense, csr, check_exact=True)

    def test_same_seed_same_report(self, planted):
        codes, y = planted
        first, again, other = (
            selectivity_report(codes, y, n_permutations=9, random_state=seed)
            for seed in (1, 1, 2)
        )
        pd.testing.assert_frame_equal(first, again)
        assert first["null_mean_q95"][0] != other["null_mean_q95"][0]

    def test_permutes_inside_groups(self, rng):
        # The batch explains everything: class "b" is frequent in batch 1, and the
        # feature marks batch 1.
        batch = np.repeat([0, 1], 100)
        y = np.where(rng.random(200) < np.where(batch == 1, 0.9, 0.1), "b", "a")
        shuffle = rng.permutation(200)
        batch, y = batch[shuffle], y[shuffle]
        codes = batch[:, None].astype(float)
        options = {"n_permutations": 39, "random_state": 0}
        free = selectivity_report(codes, y, **options)
        inside = selectivity_report(codes, y, batch=batch, **options)
        assert free["p_value"][1] == 1 / 40
        # The feature is constant in each group, so no permutation changes a count.
        assert inside["p_value"][1] == 1.0
        assert_allclose(inside["null_q95"], inside["score"])

        # With one feature per sample the scores tell the labels' places.
        seen = set()
        marks = sparse.identity(200, format="csr")
        for permuted in permuted_labels(marks, y, batch, 39):
            assert_array_equal(np.sort(permuted[batch == 0]), np.sort(y[batch == 0]))
            assert_array_equal(np.sort(permuted[batch == 1]), np.sort(y[batch == 1]))
            seen.add(tuple(permuted))
        assert len(seen) == 39

    def test_groups_of_any_type(self, planted):
        codes, y = planted
        batch = np.arange(120) % 3
        options = {"n_permutations": 9, "random_state": 0}
        expected = selectivity_report(codes, y, batch=batch, **options)
        named = selectivity_report(codes, y, batch=np.array([*"xyz"])[batch], **options)
        pd.testing.assert_frame_equal(named, expected)

    def test_control_labels_stay_among_the_controls(self, rng):
        y = np.repeat(["control", "dose 1", "dose 2", "control"], 30)
        control = y == "control"
        batch = np.arange(120) % 2
        marks = sparse.identity(120, format="csr")
        for groups in (None, batch):
            permutations = permuted_labels(marks, y, groups, 9, control)
            assert len({tuple(permuted) for permuted in permutations}) == 9
            for permuted in permutations:
                assert_array_equal(permuted[control], "control")
                if groups is not None:
                    assert_array_equal(
                        np.sort(permuted[batch == 0]), np.sort(y[batch == 0])
                    )

    def test_control_is_not_distinct_from_a_group(self, planted):
        codes, y = planted
        control = y == "a"
        options = {"n_permutations": 9, "random_state": 0}
        expected = selectivity_report(codes, y, batch=control, **options)
        for same in (control, control.astype(int), control.tolist()):
            report = selectivity_report(codes, y, control=same, **options)
            pd.testing.assert_frame_equal(report, expected)

    @pytest.mark.parametrize(
        ("control", "message"),
        [
            (np.arange(120) % 3, "boolean or 0/1"),
            (np.array(["yes", "no"])[np.arange(120) % 2], "boolean or 0/1"),
            (np.ones(7, dtype=bool), "control has length 7"),
            (np.where(np.arange(120) == 3, np.nan, 1.0), "missing at row 3"),
        ],
    )
    def test_bad_control(self, planted, control, message):
        with pytest.raises(ValueError, match=message):
            selectivity_report(*planted, control=control)

    def test_groups_that_fix_every_label_warn(self, planted):
        codes, y = planted
        with pytest.warns(UserWarning, match="No batch holds") as caught:
            report = selectivity_report(codes, y, batch=y, n_permutations=3)
        assert caught[0].filename == __file__
        assert report[["null_q95", "p_value"]].isna().all(axis=None)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_class_that_is_never_exchanged_is_not_tested(self, planted, kind):
        codes, y = planted
        options = {"contrast": kind, "n_permutations": 9, "random_state": 0}
        report = selectivity_report(codes, y, control=y == "a", **options)
        assert report["p_value"].isna().tolist() == [True, False, False]
        assert report["null_q95"].isna().tolist() == [True, False, False]
        assert np.isfinite(report["score"]).all()
        assert np.isfinite(report["null_mean_q95"]).all()
        as_objects = (y == "a").astype(object)  # such as a column of a table
        for same in (as_objects, (y == "a").astype(float), (y == "a").tolist()):
            again = selectivity_report(codes, y, control=same, **options)
            assert again["p_value"].equals(report["p_value"])
        # One sample of another class among the controls, and they can be exchanged.
        mixed = (y == "a") | (np.arange(len(y)) == np.flatnonzero(y == "b")[0])
        report = selectivity_report(codes, y, control=mixed, **options)
        assert not report.isna().any(axis=None)
        curve = selectivity_curve(codes, y, label="a", control=y == "a", **options)
        assert curve[["null_q05", "null_q95"]].isna().all(axis=None)
        curve = selectivity_curve(codes, y, label="b", control=y == "a", **options)
        assert not curve.isna().any(axis=None)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_best_score_leaves_out_what_is_never_exchanged(self, planted, kind):
        codes, y = planted
        codes = codes.copy()
        codes[:, 1] = y == "a"  # the feature of the controls, by far the best
        options = {"contrast": kind, "n_permutations": 19, "random_state": 0}
        scores = selectivity_scores(codes, y, contrast=kind)
        curve = selectivity_curve(codes, y, control=y == "a", **options)
        expected = np.sort(scores[:, 1:].max(axis=1))[::-1]
        assert_array_equal(curve["score"], expected)
        assert scores[1, 0] == 1 > scores[1, 1:].max()
        assert (curve["null_q05"] < curve["null_q95"]).iloc[0]
        thresholds = [0.0, 0.1, 0.9]
        counts = selectivity_counts(
            codes, y, score_thresholds=thresholds, control=y == "a", **options
        )
        found = [(scores[:, 1:].max(axis=1) > t).sum() for t in thresholds]
        assert counts["n_features"].tolist() == found
        assert found[-1] < (scores.max(axis=1) > 0.9).sum()
        assert (counts["null_mean"] < codes.shape[1]).all()
        # Without controls every class counts, with nothing to exchange, too.
        best = np.sort(scores.max(axis=1))[::-1]
        assert_array_equal(selectivity_curve(codes, y, contrast=kind)["score"], best)
        with pytest.warns(UserWarning, match="No batch holds samples of two classes"):
            curve = selectivity_curve(codes, y, batch=y, **options)
        assert_array_equal(curve["score"], best)

    @pytest.mark.parametrize("kind", KINDS)
    def test_all_zero_codes_have_no_nan(self, kind):
        report = selectivity_report(
            sparse.csr_array((6, 3)),
            [0, 0, 1, 1, 2, 2],
            contrast=kind,
            n_permutations=4,
            random_state=0,
        )
        assert not report.isna().any(axis=None)
        assert_array_equal(report["score"], 0.0)
        assert_array_equal(report["p_value"], 1.0)


def permuted_labels(marks, y, groups, n_permutations, control=None):
    """The labels of every permutation, read out of the report's inner loop."""
    from skdict.stats import scores

    seen = []
    original = scores.count_each

    def spy(activity, draws, n_classes):
        draws = [*draws]
        seen.extend(np.unique(y)[labels] for labels in draws)
        return original(activity, draws, n_classes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "count_each", spy)
        selectivity_report(
            marks,
            y,
            batch=groups,
            control=control,
            n_permutations=n_permutations,
            random_state=0,
        )
    return seen


class Thresholder(TransformerMixin, BaseEstimator):
    """Values beyond a level, as CSR: a sparse transformer without training."""

    def __init__(self, level=1.0):
        self.level = level

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return sparse.csr_array(np.where(np.abs(X) > self.level, X, 0.0))


class WeightedThresholder(Thresholder):
    def fit(self, X, y=None, sample_weight=None):
        self.weighted_ = sample_weight is not None
        return super().fit(X)


def make_pipe(dictionary=None):
    return Pipeline(
        [("scaler", StandardScaler()), ("dictionary", dictionary or Thresholder())]
    )


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield request.param


class TestScorer:
    @pytest.mark.parametrize("kind", KINDS)
    def test_value(self, iris, kind):
        X, y = iris
        pipe = make_pipe().fit(X)
        score = make_selectivity_scorer(kind)(pipe, X, y)
        assert isinstance(score, float)
        best = selectivity_scores(pipe.transform(X), y, contrast=kind).max(axis=0)
        assert score == best.mean()

    def test_threshold(self, iris):
        X, y = iris
        loose = make_pipe(Thresholder(0.0)).fit(X)
        strict = make_pipe(Thresholder(1.2)).fit(X)
        assert make_selectivity_scorer()(loose, X, y) == 0.0
        assert make_selectivity_scorer(activity_threshold=1.2)(
            loose, X, y
        ) == make_selectivity_scorer()(strict, X, y)

    @pytest.mark.usefixtures("forked_jobs")
    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_grid_search(self, iris, routing, n_jobs):
        X, y = iris
        levels = [0.1, 0.5, 1.0, 1.5]
        search = GridSearchCV(
            make_pipe(),
            {"dictionary__level": levels},
            scoring=make_selectivity_scorer(),
            cv=StratifiedKFold(3),
            error_score="raise",
            n_jobs=n_jobs,
        ).fit(X, y)
        expected = []
        for level in levels:
            scores = []
            for train, test in StratifiedKFold(3).split(X, y):
                pipe = make_pipe(Thresholder(level)).fit(X[train])
                codes = pipe.transform(X[test])
                scores.append(selectivity_scores(codes, y[test]).max(axis=0).mean())
            expected.append(np.mean(scores))
        assert_allclose(search.cv_results_["mean_test_score"], expected)
        assert np.ptp(expected) > 0.05
        assert search.score(X, y) == make_selectivity_scorer()(search, X, y)

    def test_dictionary_learning_of_scikit_learn(self, iris, routing):
        X, y = iris
        dictionary = MiniBatchDictionaryLearning(
            6, transform_n_nonzero_coefs=2, max_iter=3, random_state=0
        )
        search = GridSearchCV(
            make_pipe(dictionary),
            {"dictionary__transform_n_nonzero_coefs": [1, 2]},
            scoring=make_selectivity_scorer("maximum"),
            cv=StratifiedKFold(3, shuffle=True, random_state=0),
            error_score="raise",
        ).fit(X, y)
        assert -1.0 <= search.best_score_ <= 1.0

    def test_groups(self, iris, routing):
        X, y = iris
        groups = np.arange(len(y)) % 6
        given = {"params": {"groups": groups}} if routing else {"groups": groups}
        results = cross_validate(
            make_pipe(),
            X,
            y,
            scoring={kind: make_selectivity_scorer(kind) for kind in KINDS},
            cv=GroupKFold(3),
            error_score="raise",
            **given,
        )
        for i, (train, test) in enumerate(GroupKFold(3).split(X, y, groups)):
            codes = make_pipe().fit(X[train]).transform(X[test])
            for kind in KINDS:
                scores = selectivity_scores(codes, y[test], contrast=kind)
                assert results[f"test_{kind}"][i] == scores.max(axis=0).mean()

    def test_sample_weight_is_for_the_dictionary(self, iris, routing):
        X, y = iris
        dictionary = WeightedThresholder()
        if routing:
            dictionary.set_fit_request(sample_weight=True)
        search = GridSearchCV(
            dictionary,
            {"level": [1.0, 1.5]},
            scoring={kind: make_selectivity_scorer(kind) for kind in KINDS},
            refit="average",
            cv=StratifiedKFold(3),
            error_score="raise",
        )
        if routing:
            search.fit(X, y, sample_weight=np.ones(len(y)))
        else:
            with pytest.warns(UserWarning, match="does not support sample_weight"):
                search.fit(X, y, sample_weight=np.ones(len(y)))
        assert search.best_estimator_.weighted_
        results = search.cv_results_
        assert (results["mean_test_maximum"] <= results["mean_test_average"]).all()

    def test_pandas_output(self, iris):
        X, y = iris
        plain = make_pipe(StandardScaler()).fit(X)
        framed = make_pipe(StandardScaler()).set_output(transform="pandas").fit(X)
        scorer = make_selectivity_scorer(activity_threshold=1.0)
        assert scorer(framed, X, y) == scorer(plain, X, y) > 0

    def test_pickle_clone_repr_and_equality(self, iris):
        X, y = iris
        scorer = make_selectivity_scorer("maximum", activity_threshold=0.5)
        pipe = make_pipe().fit(X)
        for same in (
            pickle.loads(pickle.dumps(scorer)),
            copy.deepcopy(scorer),
            clone(scorer, safe=False),
            clone(GridSearchCV(pipe, {}, scoring=scorer)).scoring,
        ):
            assert same == scorer
            assert same(pipe, X, y) == scorer(pipe, X, y)
        assert scorer != make_selectivity_scorer("maximum")
        assert "contrast='maximum', activity_threshold=0.5" in repr(scorer)

    def test_misuse(self, iris):
        X, y = iris
        scorer = make_selectivity_scorer()
        with pytest.raises(ValueError, match="needs labels"):
            scorer(make_pipe().fit(X), X, None)
        with pytest.raises(TypeError, match="BaseEstimator has none"):
            scorer(BaseEstimator(), X, y)
