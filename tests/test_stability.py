"""skdict.metrics: agreement of dictionaries, and atoms in order."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.stats import pearsonr

from skdict import ICFL
from skdict.datasets import make_planted_dictionary
from skdict.metrics import (
    match_codes,
    match_dictionaries,
    order_atoms,
    stability_report,
)
from skdict.metrics._stability import _correlations, _covariance_like

code_values = st.sampled_from([0.0, 0.0, 0.0, -0.0, 0.25, 0.5, -0.5, 2.0, -3.0, 1e3])
any_float = st.floats(allow_nan=False, allow_infinity=False)

FIGURES = ["matched_cosine", "matched_fraction", "max_cosine_a", "max_cosine_b"]
FORMS = [np.asarray, sparse.csr_array, sparse.csr_matrix, sparse.csc_array]


@st.composite
def two_codes(draw, elements=code_values):
    n_samples = draw(st.integers(2, 12))
    shapes = [(n_samples, draw(st.integers(1, 6))) for _ in range(2)]
    return [draw(hnp.arrays(np.float64, shape, elements=elements)) for shape in shapes]


def unit(A):
    return A / np.linalg.norm(A, axis=1, keepdims=True)


def correlation_loop(A, B):
    """Pearson correlations by scipy, 0 where it has none."""
    return np.array(
        [
            [pearsonr(a, b)[0] if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0 for b in B.T]
            for a in A.T
        ]
    )


class TestCorrelations:
    @settings(deadline=None, max_examples=60)
    @given(two_codes())
    def test_against_scipy(self, codes):
        A, B = codes
        expected = correlation_loop(A, B)
        for form_a, form_b in zip(FORMS, FORMS[1:] + FORMS[:1], strict=True):
            a, b = form_a(A), form_b(B)
            a, b = (c.tocsr() if sparse.issparse(c) else c for c in (a, b))
            assert_allclose(_correlations(a, b), expected, atol=1e-12)

    @settings(deadline=None, max_examples=60)
    @given(two_codes(any_float))
    def test_bounded_for_any_finite_input(self, codes):
        for form in (np.asarray, sparse.csr_array):
            A, B = map(form, codes)
            _, correlations = match_codes(A, B)
            assert np.all(np.abs(correlations) <= 1.0)

    @pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
    def test_small_variation_on_a_large_offset(self, form, rng):
        A = rng.normal(size=(60, 3)) + 1e7
        B = A + rng.normal(size=(60, 3))
        assert_allclose(
            _correlations(form(A), form(B)), correlation_loop(A - 1e7, B - 1e7)
        )
        # The worst that a sparse column can be: one zero among large values.
        A[0], B[1] = 0.0, 0.0
        assert_allclose(
            _correlations(form(A), form(B)), correlation_loop(A, B), atol=1e-11
        )

    @pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
    @pytest.mark.parametrize("value", [0.0, 0.1, 1e300, 5e-324])
    def test_constant_columns(self, form, value, rng):
        A = rng.normal(size=(7, 3))
        A[:, 1] = value
        pairs, correlations = match_codes(form(A), form(A))
        assert_array_equal(pairs[:, 1], [0, 1, 2])
        assert correlations[1] == 0.0
        assert_allclose(correlations[[0, 2]], 1.0)

    def test_blocks(self, rng, monkeypatch):
        A = rng.normal(size=(30, 11)) * (rng.random((30, 11)) < 0.4)
        B = rng.normal(size=(30, 5)) * (rng.random((30, 5)) < 0.4)
        whole = _correlations(sparse.csr_array(A), sparse.csr_array(B))
        monkeypatch.setattr("skdict.metrics._stability._BLOCK_FEATURES", 4)
        for form in (np.asarray, sparse.csr_array):
            assert_allclose(_correlations(form(A), form(B)), whole, atol=1e-14)


class TestMatchCodes:
    @settings(deadline=None, max_examples=30)
    @given(two_codes())
    def test_assignment(self, codes):
        A, B = codes
        pairs, correlations = match_codes(sparse.csr_array(A), B)
        expected = correlation_loop(A, B)
        n_pairs = min(A.shape[1], B.shape[1])
        assert pairs.shape == (n_pairs, 2)
        assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == n_pairs
        assert_array_equal(pairs[:, 0], np.sort(pairs[:, 0]))
        assert_allclose(correlations, expected[pairs[:, 0], pairs[:, 1]], atol=1e-12)
        best = expected[linear_sum_assignment(expected, maximize=True)].sum()
        assert_allclose(correlations.sum(), best, atol=1e-9)

    def test_finds_the_features_of_another_space(self, rng):
        # One set of codes, written in two spaces; then permuted, scaled and noisy.
        data = make_planted_dictionary(
            300, 16, n_components=40, n_active=4, random_state=0
        )
        codes = sparse.csr_array(data.codes)
        order = rng.permutation(40)
        other = codes[:, order] @ sparse.diags_array(rng.uniform(0.1, 9.0, 40))
        pairs, correlations = match_codes(codes, other.astype(np.float32))
        assert_array_equal(order[pairs[:, 1]], np.arange(40))
        assert_allclose(correlations, 1.0, rtol=1e-5)
        _, shuffled = match_codes(codes, other[rng.permutation(300)])
        assert shuffled.mean() < 0.3

    def test_explicit_zeros_and_duplicate_entries(self, rng):
        A = rng.integers(0, 3, size=(9, 4)).astype(float)
        halves = sparse.csr_array(
            (
                np.repeat(A.ravel() / 2, 2),
                np.repeat(np.tile(np.arange(4), 9), 2),
                np.arange(0, 80, 8),
            ),
            shape=(9, 4),
        )
        before = halves.data.copy()
        expected = match_codes(A, A[:, ::-1])
        for got, want in zip(match_codes(halves, A[:, ::-1]), expected, strict=True):
            assert_allclose(got, want)
        assert_array_equal(halves.data, before)

    def test_dtypes_and_pandas(self, rng):
        A = rng.integers(0, 2, size=(20, 3))
        B = rng.integers(0, 2, size=(20, 4))
        expected = match_codes(A.astype(float), B.astype(float))
        for cast in (
            lambda C: C.astype(np.float16),
            lambda C: C.astype(bool),
            lambda C: C.astype(object),
            pd.DataFrame,
            lambda C: sparse.csr_array(C.astype(np.int8)),
        ):
            for got, want in zip(match_codes(cast(A), cast(B)), expected, strict=True):
                assert_allclose(got, want)

    def test_errors(self):
        with pytest.raises(ValueError, match="same samples, got 3 and 4 rows"):
            match_codes(np.eye(3), np.eye(4))
        bad = np.ones((3, 2))
        bad[1:] = [[np.nan, np.inf], [1.0, np.inf]]
        message = "codes_b holds NaN or infinity in 2 of 3 rows, the first .* row 1"
        for form in (np.asarray, sparse.csr_array):
            with pytest.raises(ValueError, match=message):
                match_codes(np.eye(3), form(bad))
        with pytest.raises(ValueError, match="minimum of 2"):
            match_codes(np.ones((1, 3)), np.ones((1, 3)))
        with pytest.raises(ValueError, match="bytes/strings"):
            match_codes([["a"], ["b"]], np.eye(2))


class TestStabilityReport:
    @settings(deadline=None, max_examples=20)
    @given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1))
    def test_figures_against_their_definition(self, n_a, n_b, seed):
        rng = np.random.default_rng(seed)
        A, B = rng.normal(size=(n_a, 3)), rng.normal(size=(n_b, 3))
        report = stability_report([A, B], min_similarity=0.3, n_random=0)
        assert list(report.columns) == [
            "a",
            "b",
            *FIGURES,
            "min_similarity",
            "n_random",
        ]
        cosines = unit(A) @ unit(B).T
        matched = match_dictionaries(A, B)[1]
        expected = [
            matched.mean(),
            np.mean(matched > 0.3),
            cosines.max(axis=1).mean(),
            cosines.max(axis=0).mean(),
        ]
        assert_allclose(report.loc[0, FIGURES].astype(float), expected, atol=1e-12)

    def test_one_row_for_each_pair(self, rng):
        atoms = {name: rng.normal(size=(6, 4)) for name in "pqrs"}
        report = stability_report(atoms, random_state=0)
        assert [*zip(report["a"], report["b"], strict=True)] == [
            *combinations(atoms, 2)
        ]
        assert set(report["min_similarity"]) == {0.7}
        assert set(report["n_random"]) == {3}
        for kind in ("isotropic", "covariance"):
            assert all(f"{kind}_{figure}" in report for figure in FIGURES)
        listed = stability_report([*atoms.values()], random_state=0)
        assert_array_equal(listed["a"], [0, 0, 0, 1, 1, 2])
        assert_array_equal(listed["b"], [1, 2, 3, 2, 3, 3])
        assert_array_equal(listed["matched_cosine"], report["matched_cosine"])

    def test_names_of_any_kind(self, rng):
        atoms = rng.normal(size=(5, 3))
        report = stability_report({("icfl", 0): atoms, 1: atoms}, n_random=0)
        assert report.loc[0, "a"] == ("icfl", 0)
        assert report.loc[0, "b"] == 1

    def test_threshold_is_exceeded(self):
        A = [[1.0, 0.0], [0.0, 1.0]]
        B = [[1.0, 0.0], [0.6, 0.8]]
        for threshold, expected in {0.79: 1.0, 0.81: 0.5, 1.0: 0.0}.items():
            report = stability_report([A, B], min_similarity=threshold, n_random=0)
            assert report.loc[0, "matched_fraction"] == expected

    def test_the_isotropic_null_is_reached_by_random_atoms(self, rng):
        A, B, C = rng.normal(size=(3, 200, 20))
        report = stability_report([A, B, C], n_random=5, random_state=0)
        for figure in ("matched_cosine", "max_cosine_a", "max_cosine_b"):
            null = report[f"isotropic_{figure}"]
            assert null.nunique() == 1
            assert_allclose(report[figure], null, atol=0.01)
            assert_allclose(report[f"covariance_{figure}"], null, atol=0.02)

    def test_the_covariance_null_is_reached_by_atoms_in_few_directions(self, rng):
        # Independent atoms that share their mean and their covariance.
        spread = np.r_[np.full(4, 3.0), np.full(16, 0.3)]
        offset = np.r_[2.0, np.zeros(19)]
        A, B = rng.normal(size=(2, 200, 20)) * spread + offset
        report = stability_report([A, B], n_random=5, random_state=0).loc[0]
        assert report["matched_cosine"] > report["isotropic_matched_cosine"] + 0.2
        for figure in ("matched_cosine", "max_cosine_a", "matched_fraction"):
            assert_allclose(report[figure], report[f"covariance_{figure}"], atol=0.03)

    @pytest.mark.parametrize("power", [0.5, 1.0])
    @pytest.mark.parametrize("n_atoms", [30, 200])
    def test_unrelated_atoms_of_a_falling_spectrum_are_no_finding(self, power, n_atoms):
        """Fewer and more atoms than dimensions; 8 pairs, their null drawn once each."""
        rng = np.random.default_rng(1)
        deviations = np.arange(1, 61) ** -power
        above = []
        for seed in range(8):
            atoms = rng.normal(size=(2, n_atoms, 60)) * deviations
            report = stability_report([*atoms], n_random=1, random_state=seed).loc[0]
            figures = ["matched_cosine", "max_cosine_a"]
            above.append([report[f] - report[f"covariance_{f}"] for f in figures])
        error = np.std(above, axis=0) / np.sqrt(len(above))
        assert abs(np.mean(above, axis=0)[0]) <= 3 * error[0]
        # The largest cosines are a little larger than the null's, by 0.01 at most.
        assert (np.abs(np.mean(above, axis=0)) <= 3 * error + 0.01).all()
        assert (np.mean(above, axis=0) <= 0.025).all()

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 2**16), st.integers(4, 40), st.integers(3, 12))
    def test_draws_have_the_moments_of_the_atoms(self, seed, n_atoms, rank):
        """Whatever the rank, where a Cholesky factor would not exist, too."""
        rng = np.random.default_rng(seed)
        deviations = np.arange(1, rank + 1) ** -rng.uniform(0, 1)
        atoms = rng.normal(size=(n_atoms, rank)) * deviations + rng.normal(size=rank)
        atoms = unit(atoms @ rng.normal(size=(rank, 8)))
        draws = _covariance_like(atoms, np.random.RandomState(0))
        assert_allclose(np.linalg.norm(draws, axis=1), 1.0)
        assert_allclose(draws.mean(axis=0), atoms.mean(axis=0), atol=0.02)
        covariances = (np.cov(some.T, bias=True) for some in (draws, atoms))
        assert_allclose(*covariances, atol=0.02)
        # Nothing is left of the directions in which the atoms do not lie.
        outside = np.linalg.svd(atoms)[2][np.linalg.matrix_rank(atoms, tol=1e-8) :]
        assert np.abs(draws @ outside.T).max(initial=0) < 1e-6

    def test_zero_atoms_stay_zero(self, rng):
        atoms = unit(rng.normal(size=(20, 5)))
        atoms[3] = 0
        draws = _covariance_like(atoms, np.random.RandomState(0))
        assert_array_equal(draws.any(axis=1), atoms.any(axis=1))
        others = np.arange(20) != 3
        covariances = (np.cov(some[others].T) for some in (draws, atoms))
        assert_allclose(*covariances, atol=0.02)

    def test_random_state(self, rng):
        atoms = [*rng.normal(size=(2, 8, 4))]
        first, again, other = (
            stability_report(atoms, random_state=seed) for seed in (0, 0, 1)
        )
        pd.testing.assert_frame_equal(first, again)
        assert not first.equals(other)

    def test_few_and_zero_atoms(self):
        one = [[1.0, 2.0]]
        report = stability_report([one, one, np.zeros((2, 2))], random_state=0)
        assert np.isfinite(report.to_numpy(dtype=float)).all()
        assert_allclose(report.loc[0, "matched_cosine"], 1.0)
        assert report.loc[1, "matched_cosine"] == 0.0

    def test_errors(self, rng):
        A = rng.normal(size=(4, 3))
        with pytest.raises(ValueError, match="at least two dictionaries, got 1"):
            stability_report([A])
        with pytest.raises(ValueError, match=r"features, got \[3, 2\]"):
            stability_report([A, A[:, :2]])
        with pytest.raises(ValueError, match=r"dictionaries\['b'\] holds NaN .* row 2"):
            stability_report(
                {"a": A, "b": np.where(np.arange(4)[:, None] == 2, np.inf, A)}
            )
        with pytest.raises(ValueError, match=r"dictionaries\[0\] .* estimator ICFL"):
            stability_report([ICFL(), ICFL()])
        with pytest.raises(ValueError, match="'min_similarity' parameter"):
            stability_report([A, A], min_similarity=1.5)
        with pytest.raises(ValueError, match="'dictionaries' parameter"):
            stability_report(A)


class TestOrderAtoms:
    @settings(deadline=None, max_examples=40)
    @given(
        hnp.arrays(
            np.float64,
            st.tuples(st.integers(1, 9), st.integers(1, 4)),
            elements=any_float,
        ),
        st.sampled_from(["average", "complete", "single", "weighted"]),
    )
    def test_any_finite_atoms(self, atoms, method):
        result = order_atoms(atoms, linkage=method, min_similarity=0.5)
        assert_array_equal(np.sort(result.order), np.arange(len(atoms)))
        assert result.similarity.shape == (len(atoms), len(atoms))
        assert result.similarity.dtype == np.float32
        assert np.all(np.abs(result.similarity) <= 1.0)
        steps = np.diff(result.labels[result.order])
        assert set(steps) <= {0, 1}
        assert result.labels[result.order[0]] == 0
        assert result.linkage.shape == (len(atoms) - 1, 4)

    def test_planted_clusters(self, rng):
        planted = rng.permutation(np.repeat(np.arange(5), 8))
        atoms = np.eye(12)[planted] + 0.02 * rng.normal(size=(40, 12))
        atoms *= rng.uniform(0.1, 9.0, size=(40, 1))
        for cut in ({"n_clusters": 5}, {"min_similarity": 0.7}):
            result = order_atoms(atoms, **cut)
            assert len(set(zip(result.labels, planted, strict=True))) == 5
            assert_array_equal(result.labels[result.order], np.repeat(range(5), 8))
        block = result.similarity[:8, :8]
        assert block.min() > 0.9
        assert result.similarity[:8, 8:].max() < 0.3

    def test_similarity_stands_in_the_order(self, rng):
        atoms = rng.normal(size=(15, 4))
        result = order_atoms(atoms)
        expected = unit(atoms[result.order]) @ unit(atoms[result.order]).T
        assert_allclose(result.similarity, expected, atol=1e-6)
        assert result.labels is None

    def test_optimal_ordering_brings_neighbours_together(self, rng, monkeypatch):
        atoms = rng.normal(size=(60, 5))

        def neighbours(**kw):
            return np.diag(order_atoms(atoms, **kw).similarity, 1).mean()

        optimal, plain = (neighbours(optimal_ordering=v) for v in (True, False))
        assert optimal > plain
        assert neighbours() == optimal
        monkeypatch.setattr("skdict.metrics._ordering._MAX_OPTIMAL", 59)
        assert neighbours() == plain

    def test_threshold_is_the_mean_cosine_of_the_clusters(self):
        # Cosines 0.8 (0-1), 0.6 and 0.0 (with 2): clusters join at 0.8 and at 0.3.
        atoms = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]
        n_clusters = {0.81: 3, 0.79: 2, 0.31: 2, 0.29: 1}
        for threshold, expected in n_clusters.items():
            labels = order_atoms(atoms, min_similarity=threshold).labels
            assert labels.max() + 1 == expected

    def test_opposite_and_equal_atoms(self, rng):
        atom = rng.normal(size=(1, 7))
        atoms = np.vstack((atom, -atom, 3 * atom, atom / 7))
        labels = order_atoms(atoms, min_similarity=1.0).labels
        assert labels[0] == labels[2] == labels[3] != labels[1]

    def test_one_atom(self):
        result = order_atoms([[3.0, 4.0]], n_clusters=1)
        assert_array_equal(result.order, [0])
        assert_array_equal(result.labels, [0])
        assert_allclose(result.similarity, [[1.0]])

    def test_errors(self):
        with pytest.raises(ValueError, match="both n_clusters=2 and min_similarity"):
            order_atoms(np.eye(3), n_clusters=2, min_similarity=0.5)
        with pytest.raises(ValueError, match="n_clusters=4 is more than the 3 atoms"):
            order_atoms(np.eye(3), n_clusters=4)
        with pytest.raises(ValueError, match="'linkage' parameter"):
            order_atoms(np.eye(3), linkage="ward")
        with pytest.raises(ValueError, match=r"components holds NaN .* row 1"):
            order_atoms([[1.0], [np.nan]])
        with pytest.raises(ValueError, match="0 sample"):
            order_atoms(np.empty((0, 3)))
