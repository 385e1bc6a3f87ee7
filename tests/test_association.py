"""skdict.metrics: correlations with continuous targets, variance by factors."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import code_values
from scipy import sparse, stats

from skdict.metrics import _association as module
from skdict.metrics import (
    association_report,
    association_scores,
    eta_squared,
    rescore_associations,
)
from skdict.stats import levels

METHODS = ("pearson", "spearman")


@pytest.fixture
def planted(rng):
    """Codes whose features 2 and 5 go with the first and, inversely, second target."""
    codes = rng.random((200, 12)) * (rng.random((200, 12)) < 0.3)
    targets = rng.normal(size=(200, 3))
    targets[:, 0] += 6 * codes[:, 2]
    targets[:, 1] -= 6 * codes[:, 5]
    return codes, pd.DataFrame(targets, columns=["lymphocytes", "stroma", "noise"])


def oracle(codes, targets, method):
    correlate = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[method]

    def one(z, t):
        if np.ptp(z) == 0 or np.ptp(t) == 0:
            return 0.0
        return correlate(z, t).statistic

    return np.array([[one(z, t) for t in targets.T] for z in codes.T])


class TestScores:
    @settings(deadline=None, max_examples=50)
    @given(st.data(), st.integers(2, 15), st.sampled_from(METHODS))
    def test_equal_scipy(self, data, n, method):
        codes = data.draw(hnp.arrays(np.float64, (n, 4), elements=code_values))
        targets = data.draw(hnp.arrays(np.float64, (n, 2), elements=code_values))
        expected = oracle(codes, targets, method)
        for form in (np.asarray, sparse.csr_array, sparse.csc_matrix):
            scores = association_scores(form(codes), targets, correlation=method)
            assert_allclose(scores, expected, atol=1e-12)

    @pytest.mark.parametrize("method", METHODS)
    def test_scale_and_offset(self, rng, method):
        codes = rng.normal(size=(100, 5)) * (rng.random((100, 5)) < 0.5)
        targets = rng.normal(size=(100, 2))
        expected = oracle(codes, targets, method)
        for factor in (1e-200, 1e-3, 1e200):
            for other in (1e-200, 1e200):
                scores = association_scores(
                    factor * codes, other * targets, correlation=method
                )
                assert_allclose(scores, expected, atol=1e-12)
        shifted = association_scores(codes + 1e6, targets - 1e6, correlation=method)
        assert_allclose(shifted, expected, atol=1e-6)

    @pytest.mark.parametrize("method", METHODS)
    def test_constants_have_no_correlation(self, method):
        codes = np.column_stack((np.zeros(6), np.full(6, 0.1), np.arange(6)))
        targets = np.column_stack((np.arange(6.0), np.full(6, 0.1)))
        scores = association_scores(codes, targets, correlation=method)
        assert_allclose(scores, [[0, 0], [0, 0], [1, 0]], atol=1e-12)

    @pytest.mark.parametrize(
        "convert",
        [
            lambda z: z.astype(np.float32),
            lambda z: z.astype(np.int8),
            lambda z: sparse.csr_array(z.astype(np.int8)),
            np.asfortranarray,
            pd.DataFrame,
            lambda z: z.tolist(),
        ],
    )
    @pytest.mark.parametrize("method", METHODS)
    def test_every_type_of_codes(self, convert, method, rng):
        codes = rng.choice([0.0, 0.0, 1.0, -128.0], size=(30, 8))
        targets = rng.normal(size=30)
        assert_allclose(
            association_scores(convert(codes), targets, correlation=method),
            oracle(codes, targets[:, None], method),
            atol=1e-12,
        )

    def test_neither_densifies_nor_changes_csr(self, rng):
        n = 50_000
        codes = sparse.csr_array(
            (np.ones(n, np.float32), rng.integers(0, n, n), np.arange(n + 1)),
            shape=(n, n),
        )
        for part in (codes.data, codes.indices, codes.indptr):
            part.flags.writeable = False
        for method in METHODS:
            scores = association_scores(codes, np.arange(n), correlation=method)
            assert scores.shape == (n, 1)

    def test_bad_input(self, rng):
        codes, targets = np.eye(4), np.arange(4.0)
        with pytest.raises(ValueError, match="targets has 3"):
            association_scores(codes, targets[:3])
        targets[2] = np.nan
        message = "targets holds NaN or infinity in 1 of 4 rows, the first of them row"
        with pytest.raises(ValueError, match=message):
            association_scores(codes, targets)
        codes[1, 1] = np.inf
        with pytest.raises(ValueError, match="codes holds NaN or infinity in 1 of 4"):
            association_scores(codes, np.arange(4.0))
        with pytest.raises(ValueError, match="two samples"):
            association_scores([[1.0]], [1.0])
        with pytest.raises(ValueError, match=r"must be numbers.*selectivity_report"):
            association_scores(np.eye(4), [*"abcd"])
        with pytest.raises(ValueError, match="'correlation' parameter"):
            association_scores(np.eye(4), np.arange(4.0), correlation="kendall")
        with pytest.raises(ValueError, match="0 sample"):
            association_scores(np.empty((0, 3)), [])


class TestReport:
    @pytest.mark.parametrize("method", METHODS)
    def test_against_a_loop(self, planted, method, monkeypatch):
        codes, targets = planted
        monkeypatch.setattr(module, "_BLOCK_TARGETS", 10)
        report = association_report(
            sparse.csr_array(codes),
            targets,
            correlation=method,
            n_permutations=19,
            random_state=3,
        )
        values = targets.to_numpy()
        scores = oracle(codes, values, method)
        best = np.abs(scores).argmax(axis=0)
        rng = np.random.RandomState(3)
        null = []
        for _ in range(19):
            permuted = oracle(codes, values[rng.permutation(200)], method)
            null.append(np.abs(permuted).max(axis=0))
        null = np.array(null)
        assert list(report["target"]) == ["lymphocytes", "stroma", "noise"]
        assert_array_equal(report["feature"], best)
        assert_allclose(report["score"], scores[best, range(3)])
        assert_allclose(report["null_q95"], np.quantile(null, 0.95, axis=0))
        expected = (1 + (null >= np.abs(scores).max(axis=0)).sum(axis=0)) / 20
        assert_allclose(report["p_value"], expected)
        assert set(report["correlation"]) == {method}
        assert set(report["n_permutations"]) == {19}

    def test_finds_what_is_planted_only(self, planted):
        report = association_report(*planted, n_permutations=99, random_state=0)
        assert list(report["feature"][:2]) == [2, 5]
        assert report["score"][0] > 0.5
        assert report["score"][1] < -0.5
        assert list(report["p_value"][:2]) == [0.01, 0.01]
        assert report["p_value"][2] > 0.05

    def test_uniform_without_association(self, rng):
        codes = sparse.csr_array(rng.random((40, 10)) * (rng.random((40, 10)) < 0.3))
        targets = rng.normal(size=(40, 200))
        report = association_report(codes, targets, n_permutations=39, random_state=0)
        # Targets of their own: 10 of 200 are due, with a deviation of 3.
        assert 1 <= (report["p_value"] <= 0.05).sum() <= 20

    def test_groups(self, rng):
        # The slide explains everything.
        slide = np.repeat(np.arange(5), 40)
        codes = slide[:, None] + rng.random((200, 6))
        target = slide + rng.normal(size=200)
        options = {"n_permutations": 39, "random_state": 0}
        free = association_report(codes, target, **options)
        inside = association_report(codes, target, batch=slide, **options)
        assert free["p_value"][0] == 1 / 40
        assert inside["p_value"][0] > 0.05

    def test_names(self, planted):
        codes, targets = planted
        assert list(association_report(codes, targets.to_numpy())["target"]) == [
            0,
            1,
            2,
        ]
        assert list(association_report(codes, targets["stroma"])["target"]) == [
            "stroma"
        ]
        (name,) = association_report(codes, targets["stroma"].to_numpy())["target"]
        assert name == 0

    def test_constant_target_has_no_evidence(self, planted):
        codes, _ = planted
        report = association_report(codes, np.ones(200), n_permutations=9)
        assert report["score"][0] == 0.0
        assert report["p_value"][0] == 1.0


class TestRescore:
    @pytest.mark.parametrize("method", METHODS)
    def test_same_pairs_on_other_data(self, planted, method):
        codes, targets = planted
        report = association_report(codes[:100], targets[:100], correlation=method)
        table = rescore_associations(
            report,
            sparse.csr_array(codes[100:]),
            targets[100:][["noise", "stroma", "lymphocytes"]],
            n_permutations=99,
            random_state=0,
        )
        scores = association_scores(codes[100:], targets[100:], correlation=method)
        assert_array_equal(table["target"], report["target"])
        assert_array_equal(table["feature"], report["feature"])
        assert_array_equal(table["score_before"], report["score"])
        assert_allclose(table["score"], scores[report["feature"], range(3)])
        assert list(table["p_value"][:2]) == [0.01, 0.01]
        assert set(table["correlation"]) == {method}
        assert set(table["n_permutations"]) == {99}

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", [str, int])
    def test_a_report_from_a_file(self, planted, method, name, tmp_path):
        codes, targets = planted
        targets = targets.set_axis([name(i) for i in range(3)], axis=1)
        report = association_report(codes[:100], targets[:100], correlation=method)
        report.to_csv(tmp_path / "report.csv")
        read = pd.read_csv(tmp_path / "report.csv")
        options = {"n_permutations": 19, "random_state": 0}
        expected = rescore_associations(report, codes[100:], targets[100:], **options)
        again = rescore_associations(read, codes[100:], targets[100:], **options)
        assert_allclose(again["score_before"], expected["score_before"])
        for column in ("feature", "score", "p_value", "correlation", "n_permutations"):
            assert_array_equal(again[column], expected[column])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda r: 3, "report must be a table of .* int has no column target"),
            (lambda r: [r], "this list has no column"),
            (
                lambda r: r.drop(columns="correlation"),
                "DataFrame has no column correlation",
            ),
            (
                lambda r: r.assign(correlation="kendall"),
                "only 'spearman', but it holds kendall",
            ),
            (
                lambda r: r.assign(correlation=[*METHODS, "pearson"]),
                "pearson, spearman",
            ),
            (lambda r: r[:0], "it holds nothing"),
            (lambda r: r.assign(feature=-1), "indices of features, .* -1"),
            (lambda r: r.assign(feature=0.5), r"indices of features, .* 0\.5"),
            (lambda r: r.assign(feature="a"), "indices of features"),
        ],
    )
    def test_what_is_no_report(self, planted, change, message):
        report = association_report(*planted)
        with pytest.raises(ValueError, match=message):
            rescore_associations(change(report), *planted)

    def test_the_other_sign_is_no_evidence(self, planted):
        codes, targets = planted
        report = association_report(codes, targets)
        table = rescore_associations(
            report, codes, -targets, n_permutations=99, random_state=0
        )
        assert_allclose(table["score"], -table["score_before"])
        assert (table["p_value"] > 0.9).all()

    def test_p_value_of_the_pair(self, planted):
        codes, targets = planted
        report = association_report(codes, targets)
        table = rescore_associations(
            report, codes, targets, n_permutations=19, random_state=1
        )
        rng = np.random.RandomState(1)
        null = []
        for _ in range(19):
            order = rng.permutation(200)
            scores = association_scores(codes, targets.to_numpy()[order])
            null.append(scores[report["feature"], range(3)])
        sign = np.sign(report["score"].to_numpy())
        expected = (1 + (sign * null >= sign * table["score"].to_numpy()).sum(0)) / 20
        assert_allclose(table["p_value"], expected)

    def test_bad_input(self, planted):
        codes, targets = planted
        report = association_report(codes, targets)
        with pytest.raises(ValueError, match="lacks 1 of the 3 targets"):
            rescore_associations(report, codes, targets[["stroma", "noise"]])
        with pytest.raises(ValueError, match="targets has 2 columns"):
            rescore_associations(report, codes, targets.to_numpy()[:, :2])
        with pytest.raises(ValueError, match="only 2 features"):
            rescore_associations(report, codes[:, :2], targets)
        with pytest.raises(ValueError, match="batch has length 3"):
            rescore_associations(
                report, codes, targets, n_permutations=1, batch=[0, 0, 1]
            )


class TestVariance:
    @settings(deadline=None, max_examples=40)
    @given(st.data(), st.integers(4, 15))
    def test_equal_the_f_test_of_scipy(self, data, n):
        codes = data.draw(hnp.arrays(np.float64, (n, 3), elements=code_values))
        ids = np.array(
            [
                0,
                1,
                *data.draw(st.lists(st.integers(0, 2), min_size=n - 2, max_size=n - 2)),
            ]
        )
        if len(np.unique(ids)) == n:
            return
        for form in (np.asarray, sparse.csr_array):
            table = eta_squared(form(codes), {"scanner": ids})
            n_levels = len(np.unique(ids))
            for f, column in enumerate(codes.T):
                eta = table["scanner_eta_squared"][f]
                if np.ptp(column) == 0:
                    assert eta == table["scanner_omega_squared"][f] == 0
                    continue
                groups = [column[ids == level] for level in np.unique(ids)]
                inside = sum(((g - g.mean()) ** 2).sum() for g in groups)
                total = ((column - column.mean()) ** 2).sum()
                assert eta == pytest.approx(1 - inside / total, abs=1e-12)
                mean_square = inside / (n - n_levels)
                omega = (total - inside - (n_levels - 1) * mean_square) / (
                    total + mean_square
                )
                found = table["scanner_omega_squared"][f]
                assert found == pytest.approx(omega, abs=1e-9)
                if inside > 1e-9:
                    F = eta / (1 - eta) * (n - n_levels) / (n_levels - 1)
                    assert pytest.approx(stats.f_oneway(*groups).statistic) == F

    def test_levels_in_blocks_are_the_same(self, rng, monkeypatch):
        codes = sparse.random_array((90, 5), density=0.3, rng=rng, format="csr")
        factors = {"slide": np.arange(90) % 7, "side": np.arange(90) % 2}
        options = {"n_permutations": 9, "random_state": 0}
        expected = eta_squared(codes, factors, **options)
        monkeypatch.setattr(levels, "_BLOCK_CELLS", 15)
        table = eta_squared(codes, factors, **options)
        pd.testing.assert_frame_equal(table, expected)

    def test_many_levels_explain_nothing_by_chance(self, rng):
        codes = sparse.csr_array(
            rng.random((600, 200)) * (rng.random((600, 200)) < 0.3)
        )
        table = eta_squared(codes, {"well": rng.integers(0, 150, 600)})
        assert table["well_eta_squared"].mean() == pytest.approx(149 / 599, abs=0.02)
        assert table["well_omega_squared"].mean() == pytest.approx(0, abs=0.01)
        assert table["well_mean_omega_squared"][0] == pytest.approx(
            table["well_omega_squared"].mean()
        )

    def test_nuisance_against_biology(self, rng):
        scanner, tissue = (
            rng.integers(0, 3, 300),
            np.array([*"abc"])[rng.integers(0, 3, 300)],
        )
        codes = rng.random((300, 4)) * (rng.random((300, 4)) < 0.3)
        codes[:, 1] += scanner == 1
        codes[:, 2] += tissue == "a"
        codes[:, 3] = 5.0
        table = eta_squared(
            codes,
            pd.DataFrame({"tissue": tissue, "scanner": scanner}),
            n_permutations=39,
            random_state=0,
        )
        assert list(table["strongest"][1:3]) == ["scanner", "tissue"]
        assert table["scanner_p_value"][1] == table["tissue_p_value"][2] == 1 / 40
        assert table["tissue_p_value"][1] > 0.05
        assert table["tissue_p_value"][3] == table["scanner_p_value"][3] == 1.0
        for name in ("tissue", "scanner"):
            varying = table[f"{name}_omega_squared"][:3].mean()
            assert_allclose(table[f"{name}_mean_omega_squared"], varying)
        assert not table.isna().any(axis=None)

    def test_p_values_against_a_loop(self, rng):
        codes = rng.random((60, 5)) * (rng.random((60, 5)) < 0.5)
        ids = rng.integers(0, 3, 60)
        table = eta_squared(codes, {"stain": ids}, n_permutations=19, random_state=2)
        permutations = np.random.RandomState(2)
        null = np.array(
            [
                eta_squared(codes, {"stain": permutations.permutation(ids)})[
                    "stain_eta_squared"
                ]
                for _ in range(19)
            ]
        )
        expected = (1 + (null >= table["stain_eta_squared"].to_numpy()).sum(0)) / 20
        assert_allclose(table["stain_p_value"], expected)

    def test_groups(self, rng):
        slide = np.repeat(np.arange(4), 50)
        scanner = (rng.random(200) < np.where(slide < 2, 0.9, 0.1)).astype(int)
        codes = (slide < 2)[:, None] + rng.random((200, 1))
        options = {"n_permutations": 39, "random_state": 0}
        free = eta_squared(codes, {"scanner": scanner}, **options)
        inside = eta_squared(codes, {"scanner": scanner}, batch=slide, **options)
        assert free["scanner_p_value"][0] == 1 / 40
        assert inside["scanner_p_value"][0] > 0.05

    def test_small_blocks(self, rng, monkeypatch):
        codes = rng.random((60, 5))
        factors = {"stain": rng.integers(0, 7, 60)}
        expected = eta_squared(codes, factors)
        monkeypatch.setattr(levels, "_BLOCK_CELLS", 10)
        pd.testing.assert_frame_equal(eta_squared(codes, factors), expected)

    def test_bad_input(self):
        codes = np.eye(4)
        with pytest.raises(ValueError, match="factors is empty"):
            eta_squared(codes, {})
        with pytest.raises(ValueError, match="factor stain has the value 1"):
            eta_squared(codes, {"stain": [1, 1, 1, 1]})
        with pytest.raises(ValueError, match="different label for every sample"):
            eta_squared(codes, {"stain": [1, 2, 3, 4]})
        with pytest.raises(ValueError, match="stain has length 2"):
            eta_squared(codes, {"stain": [1, 2]})
        with pytest.raises(ValueError, match="stain holds 1 missing"):
            eta_squared(codes, {"stain": ["a", "b", None, "b"]})
        with pytest.raises(ValueError, match="must be a dict or a DataFrame"):
            eta_squared(codes, [1, 1, 2, 2])
