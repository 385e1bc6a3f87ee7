"""skdict.metrics: exact tests of all pairs, and counts over thresholds."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats

from skdict.metrics import selectivity_counts, selectivity_scores, selectivity_tests
from skdict.stats import (
    choose_exchange,
    group_tests,
    permutations,
    run_label_tests,
)
from skdict.stats import exact_tests as module


@pytest.fixture
def planted(rng):
    """Random codes in which feature 4 marks class "b"; batches of unequal labels."""
    y = np.repeat(["a", "b", "c"], [60, 40, 20])
    batch = (rng.random(120) < np.where(y == "a", 0.8, 0.3)).astype(int)
    codes = rng.normal(size=(120, 12)) * (rng.random((120, 12)) < 0.3)
    codes[:, 4] = np.where(y == "b", 1.0, 0.0)
    codes[:, 5] = np.where(rng.random(120) < 0.9, batch, 1 - batch)
    return codes, y, batch


def all_pairs(codes, y, **options):
    """Table of all p-values, as (n_components, n_classes)."""
    pairs = selectivity_tests(codes, y, alpha=1, **options)
    return pairs.pivot(index="feature", columns="class", values="p_value").to_numpy()


def test_groups_against_permutations_of_their_labels(rng):
    """The labels of whole groups are exchanged inside the batches."""
    groups = np.repeat(np.arange(24), 5)
    batch, y = (np.arange(24) // 12)[groups], (rng.permutation(24) % 2)[groups]
    rates = rng.beta(0.5, 2, size=(24, 6))[groups]
    codes = (rng.random((120, 6)) < rates).astype(float)
    p_values = all_pairs(codes, y, groups=groups, batch=batch)
    counts = codes[y == 1].sum(axis=0)
    null = np.array(
        [
            codes[permuted == 1].sum(axis=0)
            for permuted in permutations(
                y, batch, 4000, np.random.RandomState(0), groups
            )
        ]
    )
    assert_allclose(p_values[:, 1], (null >= counts).mean(axis=0), atol=0.03)
    as_rows = all_pairs(codes, y, batch=batch)
    assert np.abs(as_rows - p_values).max() > 0.1


@pytest.mark.parametrize("batch", [[0] * 7, [0, 1, 1, 0, 1, 0, 0]], ids=["1", "2"])
def test_cumulants_of_groups_are_those_of_all_permutations(monkeypatch, batch):
    counts, labels = np.array([0, 3, 1, 0, 7, 2, 5]), np.array([0, 1, 0, 1, 0, 1, 0])
    batch, found = np.array(batch), []
    monkeypatch.setattr(group_tests, "pearson_tail", lambda *c: found.append(c) or c[0])
    activity = sparse.csr_array(counts[:, None])
    group_tests.group_p_values(activity, np.full(7, 9), labels, batch, 2)
    for label in (0, 1):
        expected = np.zeros(3)
        for b in set(batch):
            inside, own = counts[batch == b], (labels == label)[batch == b]
            draws = [sum(drawn) for drawn in combinations(inside, own.sum())]
            deviations = draws - np.mean(draws)
            expected += (
                inside[own].sum() - np.mean(draws),
                *((deviations**power).mean() for power in (2, 3)),
            )
        assert_allclose(np.array(found)[0, :, label, 0], expected, atol=1e-12)


def test_a_q_value_of_alpha_is_found():
    tests = run_label_tests(
        sparse.csr_array([[1], [1], [0], [0]]),
        np.array([0, 1, 0, 1]),
        choose_exchange(np.array([0, 1, 0, 1])),
    )
    tests.q_values, tests.scores = np.array([[0.5], [0.05]]), np.array([[0.9], [0.1]])
    assert tests.best_classes(0.05).tolist() == [1]
    assert tests.best_classes(0.04).tolist() == [0]


def permuted_counts(codes, y, groups, n_permutations, rng):
    active = codes != 0
    classes = np.unique(y)
    for _ in range(n_permutations):
        permuted = y.copy()
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            permuted[rows] = y[rng.permutation(rows)]
        yield np.array([active[permuted == c].sum(axis=0) for c in classes]).T


class TestPValues:
    def test_equal_scipy_without_groups(self, planted):
        codes, y, _ = planted
        expected = [
            [
                stats.hypergeom.sf(
                    np.sum(column[y == c] != 0) - 1,
                    len(y),
                    np.sum(column != 0),
                    np.sum(y == c),
                )
                for c in np.unique(y)
            ]
            for column in codes.T
        ]
        for same in (codes, sparse.csr_array(codes)):
            assert_allclose(all_pairs(same, y), expected, rtol=1e-9)

    def test_equal_fisher(self, planted):
        codes, y, _ = planted
        active = codes[:, 0] != 0
        table = pd.crosstab(y == "b", active).to_numpy()
        expected = stats.fisher_exact(table, alternative="greater").pvalue
        assert all_pairs(codes, y)[0, 1] == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("limit", [1000, 0], ids=["exact", "gamma"])
    def test_equal_permutations_in_groups(self, planted, rng, limit, monkeypatch):
        monkeypatch.setattr(module, "_MAX_EXACT_SIZE", limit)
        codes, y, batch = planted
        observed = np.array([(codes[y == c] != 0).sum(axis=0) for c in "abc"]).T
        null = np.array([*permuted_counts(codes, y, batch, 2000, rng)])
        expected = (null >= observed).mean(axis=0)
        # Four standard errors; the gamma distribution is off by a few percent.
        assert_allclose(all_pairs(codes, y, batch=batch), expected, atol=0.045)
        # Without the groups the feature of the batch follows class "a".
        assert all_pairs(codes, y)[5, 0] < 1e-6
        assert all_pairs(codes, y, batch=batch)[5, 0] > 0.05

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.02, 0.98))
    def test_equal_convolution_of_scipy(self, seed, n_groups, density):
        rng = np.random.default_rng(seed)
        N = rng.integers(1, 30, n_groups)
        n = np.array([rng.integers(0, size + 1) for size in N])
        K = rng.binomial(N[:, None], density, (n_groups, 5))
        k = rng.integers(0, n.sum() + 1, 5)
        expected = []
        for f in range(5):
            pmf = np.ones(1)
            for g in range(n_groups):
                draws = np.arange(n[g] + 1)
                pmf = np.convolve(pmf, stats.hypergeom.pmf(draws, N[g], K[g, f], n[g]))
            expected.append(pmf[k[f] :].sum())
        found = module.convolved_tail(k, N, K, n)
        assert_allclose(found, expected, rtol=1e-9, atol=1e-300)

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 5000), st.floats(0.0, 1.0))
    def test_tail_equals_scipy(self, seed, N, density):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, N + 1))
        K = rng.binomial(N, density, 10)
        low, high = np.maximum(0, n + K - N), np.minimum(n, K)
        k = np.concatenate((rng.integers(low, high + 1), low, high))
        K = np.tile(K, 3)
        expected = stats.hypergeom.sf(k - 1, N, K, n)
        found = module.hypergeometric_tail(k, N, K, n)
        assert_allclose(found, expected, rtol=1e-7, atol=1e-290)

    def test_many_samples_do_not_overflow(self):
        # Counts are int32, and their product with the number of samples is not.
        n_samples = 200_000
        y = np.repeat([0, 1], n_samples // 2)
        codes = sparse.csr_array((y == 1)[:, None].astype(np.float32))
        assert_array_equal(all_pairs(codes, y), [[1.0, 0.0]])

    def test_counts_of_no_class_are_certain(self):
        # A feature without activity, and one that is active everywhere.
        codes = np.tile([0.0, 1.0], (12, 1))
        y = np.arange(12) % 3
        assert_array_equal(all_pairs(codes, y), 1.0)
        assert_array_equal(all_pairs(codes, y, batch=np.arange(12) // 6), 1.0)

    def test_a_count_of_zero_is_certain(self, planted):
        codes, y, batch = planted
        codes[:, 0] = 0
        codes[-1, 0] = 1  # in class "c"
        assert_array_equal(all_pairs(codes, y, batch=batch)[0, :2], 1.0)

    def test_groups_with_a_single_sample(self, planted, monkeypatch):
        monkeypatch.setattr(module, "_MAYBE_SIGNIFICANT", 1.0)
        codes, y, _ = planted
        groups = np.concatenate((np.zeros(100, int), np.arange(1, 21)))
        p_values = all_pairs(codes, y, batch=groups)
        # Class "c" fills the groups of one, and so is not tested.
        assert_allclose(p_values, all_pairs(codes[:100], y[:100]), rtol=1e-9)

    @pytest.mark.parametrize("limit", [1000, 0], ids=["exact", "gamma"])
    def test_uniform_under_the_null(self, rng, limit, monkeypatch):
        monkeypatch.setattr(module, "_MAX_EXACT_SIZE", limit)
        batch = np.repeat([0, 1, 2, 3], 250)
        y = (rng.random(1000) < 0.1 + 0.2 * batch).astype(int)
        density = rng.uniform(0.05, 0.5, (4, 500))
        codes = sparse.csr_array(rng.random((1000, 500)) < density[batch])
        # Tests of the two classes are mirror images of each other.
        p_values = all_pairs(codes, y, batch=batch)[:, 1]
        assert 8 <= np.sum(p_values <= 0.05) <= 36
        assert (all_pairs(codes, y)[:, 1] <= 0.05).mean() > 0.2

    def test_gamma_errs_upwards_in_the_tail(self, rng, monkeypatch):
        # Rare and frequent features, counts up to six deviations above the mean.
        sizes = np.array([400, 300, 300])
        drawn = np.array([30, 10, 60])
        for rate in (0.002, 0.02, 0.2, 0.5):
            K = np.tile(rng.binomial(sizes, rate)[:, None], 40)
            mean = (drawn * K[:, 0] / sizes).sum()
            k = np.arange(40) + int(mean)
            k = np.minimum(k, np.minimum(K[:, 0], drawn).sum())
            exact = module.convolved_tail(k, sizes, K, drawn)
            shape = (3, 1)
            members = sparse.csr_array(drawn.reshape(shape).T)
            cumulants = module._cumulants(members, sparse.csr_array(K), sizes)
            approximate = module._gamma_tail(k[None], *cumulants)[0]
            tail = (exact > 1e-12) & (exact < 0.05)
            assert (approximate[tail] >= 0.98 * exact[tail]).all()
            likely = exact > 0.05
            assert_allclose(approximate[likely], exact[likely], atol=0.06)

    def test_cumulants_equal_scipy(self, rng):
        sizes = rng.integers(1, 40, 5)
        members = np.array([[rng.integers(0, N + 1) for N in sizes] for _ in range(3)])
        active = rng.binomial(sizes[:, None], 0.3, (5, 4))
        expected = np.zeros((3, 3, 4))
        for c, f, g in np.ndindex(3, 4, 5):
            draws = np.arange(members[c, g] + 1)
            pmf = stats.hypergeom.pmf(draws, sizes[g], active[g, f], members[c, g])
            mean = pmf @ draws
            moments = [mean, pmf @ (draws - mean) ** 2, pmf @ (draws - mean) ** 3]
            expected[:, c, f] += moments
        found = module._cumulants(
            sparse.csr_array(members), sparse.csr_array(active), sizes
        )
        assert_allclose(found, expected, atol=1e-9)


class TestPairs:
    def test_table(self, planted):
        codes, y, _ = planted
        pairs = selectivity_tests(codes, y, alpha=1)
        assert list(pairs) == [
            "class",
            "feature",
            "n_active",
            "score",
            "p_value",
            "q_value",
            "alpha",
            "correction",
            "n_tests",
        ]
        assert len(pairs) == 36
        keys = [*zip(pairs["p_value"], -pairs["score"], pairs["feature"], strict=True)]
        assert keys == sorted(keys)
        assert pairs["p_value"].duplicated().any()
        assert_allclose(
            pairs["q_value"], stats.false_discovery_control(pairs["p_value"])
        )
        scores = selectivity_scores(codes, y)
        column = np.searchsorted(["a", "b", "c"], pairs["class"])
        assert_array_equal(pairs["score"], scores[pairs["feature"], column])
        for row in pairs.itertuples(index=False):
            inside = codes[y == row[0], row.feature]
            assert row.n_active == np.count_nonzero(inside)
        assert set(pairs["n_tests"]) == {36}

    def test_only_discoveries(self, planted):
        codes, y, batch = planted
        every = selectivity_tests(codes, y, alpha=1)
        pairs = selectivity_tests(codes, y, alpha=0.01)
        some = every[every["q_value"] <= 0.01]
        pd.testing.assert_frame_equal(pairs, some.assign(alpha=0.01))
        assert set(pairs["correction"]) == {"bh"}
        assert set(pairs["n_tests"]) == {36}
        inside = selectivity_tests(codes, y, batch=batch)
        assert [*zip(inside["class"], inside["feature"], strict=True)] == [("b", 4)]

    def test_no_discoveries(self, rng):
        codes = rng.normal(size=(40, 3))
        pairs = selectivity_tests(codes, np.arange(40) % 2)
        assert len(pairs) == 0
        assert "n_tests" in pairs

    def test_dependence(self, planted):
        codes, y, _ = planted
        pairs = selectivity_tests(codes, y, alpha=1, correction="by")
        expected = stats.false_discovery_control(pairs["p_value"], method="by")
        assert_allclose(pairs["q_value"], expected)

    def test_rate_of_false_discoveries(self, rng):
        # A tenth of the features mark the class in part; 20 draws.
        n_false = n_found = 0
        for _ in range(20):
            y = rng.permutation(np.repeat([0, 1], 100))
            rate = np.full((2, 100), 0.3)
            rate[1, :10] = 0.7
            codes = sparse.csr_array(rng.random((200, 100)) < rate[y])
            pairs = selectivity_tests(codes, y, alpha=0.1)
            hits = pairs[pairs["class"] == 1]
            n_found += len(hits)
            n_false += int((hits["feature"] >= 10).sum())
        assert n_found > 150
        assert n_false / n_found <= 0.15

    def test_control_is_a_group(self, planted):
        codes, y, batch = planted
        control = y == "a"
        expected = selectivity_tests(
            codes, y, batch=[f"{b} {c}" for b, c in zip(batch, control, strict=True)]
        )
        found = selectivity_tests(codes, y, batch=batch, control=control)
        pd.testing.assert_frame_equal(found, expected)

    def test_threshold(self, planted):
        codes, y, _ = planted
        expected = selectivity_tests(np.abs(codes) > 0.5, y, alpha=1)
        found = selectivity_tests(codes, y, activity_threshold=0.5, alpha=1)
        pd.testing.assert_frame_equal(found, expected)

    def test_small_blocks(self, planted, monkeypatch):
        codes, y, batch = planted
        expected = selectivity_tests(codes, y, batch=batch, alpha=1)
        monkeypatch.setattr(module, "_BLOCK_CELLS", 30)
        found = selectivity_tests(codes, y, batch=batch, alpha=1)
        pd.testing.assert_frame_equal(found, expected)

    def test_groups_that_fix_every_label_warn(self, planted):
        codes, y, _ = planted
        with pytest.warns(UserWarning, match="No batch holds") as caught:
            assert len(selectivity_tests(codes, y, batch=y)) == 0
        assert caught[0].filename == __file__

    @pytest.mark.parametrize(
        "parameter",
        [
            {"alpha": 0},
            {"alpha": 1.1},
            {"correction": "holm"},
            {"activity_threshold": -1},
        ],
    )
    def test_parameters(self, planted, parameter):
        (name,) = parameter
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            selectivity_tests(*planted[:2], **parameter)

    def test_bad_input(self, planted):
        codes, y, _ = planted
        with pytest.raises(ValueError, match="only a"):
            selectivity_tests(codes, np.full(120, "a"))
        with pytest.raises(ValueError, match="y has length 3"):
            selectivity_tests(codes, y[:3])
        with pytest.raises(ValueError, match="batch has length 3"):
            selectivity_tests(codes, y, batch=y[:3])
        codes[2, 2] = np.nan
        with pytest.raises(ValueError, match="1 of 120 rows, the first of them row 2"):
            selectivity_tests(codes, y)


class TestCounts:
    @pytest.mark.parametrize("kind", ["average", "maximum"])
    def test_against_a_loop(self, planted, kind):
        codes, y, _ = planted
        levels = [0.5, 0.1, 0.2, 1.0, -1.0]
        counts = selectivity_counts(
            sparse.csr_array(codes),
            y,
            score_thresholds=levels,
            contrast=kind,
            activity_threshold=0.2,
            n_permutations=19,
            random_state=3,
        )

        def count(labels):
            scores = selectivity_scores(
                codes, labels, contrast=kind, activity_threshold=0.2
            )
            return (scores.max(axis=1)[:, None] > levels).sum(axis=0)

        rng = np.random.RandomState(3)
        null = np.array([count(rng.permutation(y)) for _ in range(19)])
        assert_array_equal(counts["score_threshold"], levels)
        assert_array_equal(counts["n_features"], count(y))
        assert_allclose(counts["null_mean"], null.mean(axis=0))
        assert_allclose(counts["null_q95"], np.quantile(null, 0.95, axis=0))
        assert_allclose(counts["p_value"], (1 + (null >= count(y)).sum(axis=0)) / 20)

    def test_without_permutations(self, planted):
        counts = selectivity_counts(*planted[:2])
        assert list(counts) == [
            *("score_threshold", "n_features", "contrast", "n_permutations")
        ]
        assert_array_equal(counts["score_threshold"], [0.2, 0.5])
        assert set(counts["contrast"]) == {"average"}
        assert set(counts["n_permutations"]) == {0}

    def test_groups_take_the_batch_into_the_null(self, planted):
        codes, y, batch = planted
        options = {"score_thresholds": [0.3], "n_permutations": 99, "random_state": 0}
        # Only the feature of the batch, and the labels that are uneven over it.
        y = y == "a"
        free = selectivity_counts(codes[:, [5]], y, **options)
        inside = selectivity_counts(codes[:, [5]], y, batch=batch, **options)
        assert free["p_value"][0] == 0.01
        assert inside["p_value"][0] > 0.05

    def test_several_tasks(self, planted):
        """Each task is a call by itself, with the samples that have a label."""
        codes, y, batch = planted
        options = {"n_permutations": 19, "random_state": 2}
        coarse = [None if label == "a" else label == "b" for label in y]
        known = y != "a"
        control = np.arange(len(y)) % 7 == 0
        for table in (codes, sparse.csr_matrix(codes)):
            found = selectivity_counts(
                table,
                {"cell type": y, "coarse": coarse},
                batch=batch,
                control=control,
                **options,
            )
            assert [*found][:3] == ["task", "n_classes", "n_samples"]
            own = [
                selectivity_counts(codes, y, batch=batch, control=control, **options),
                selectivity_counts(
                    codes[known],
                    y[known] == "b",
                    batch=batch[known],
                    control=control[known],
                    **options,
                ),
            ]
            pd.testing.assert_frame_equal(
                found.iloc[:, 3:], pd.concat(own, ignore_index=True)
            )
        assert found["task"].tolist() == ["cell type"] * 2 + ["coarse"] * 2
        assert found["n_classes"].tolist() == [len(np.unique(y))] * 2 + [2, 2]
        assert found["n_samples"].tolist() == [120] * 2 + [known.sum()] * 2

    @pytest.mark.parametrize(
        ("tasks", "message"),
        [
            ({}, "y is an empty dict"),
            ({"one": np.full(120, "a")}, "Task 'one': .* only a"),
            ({"none": [None] * 120}, "Task 'none': All 120 labels are missing"),
            ({"short": ["a", "b"]}, "Task 'short': There are 120 rows"),
            ({"dose": np.linspace(0, 1, 120)}, "Task 'dose': y holds fractional"),
        ],
    )
    def test_bad_tasks(self, planted, tasks, message):
        with pytest.raises(ValueError, match=message):
            selectivity_counts(planted[0], tasks)

    def test_tasks_on_a_grid_need_all_labels(self, planted):
        tasks = {"y": [None, *planted[1][1:]]}
        with pytest.raises(ValueError, match="Task 'y': 1 labels are missing, but"):
            selectivity_counts(planted[0], tasks, grid_shape=(10, 12))

    @pytest.mark.parametrize("levels", [[], [np.nan], [[0.2]]])
    def test_bad_thresholds(self, planted, levels):
        with pytest.raises(ValueError, match="score_thresholds must be"):
            selectivity_counts(*planted[:2], score_thresholds=levels)
