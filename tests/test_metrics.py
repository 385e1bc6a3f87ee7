"""skdict.metrics: usage, reconstruction, dictionaries and the linear probe."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import SparseCoder
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import paired_cosine_distances
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.preprocessing import normalize

from skdict.metrics import (
    dead_feature_fraction,
    explained_variance,
    feature_density,
    make_linear_probe,
    match_dictionaries,
    mean_coherence,
    mutual_coherence,
    offset_ratio,
    reconstruction_cosine,
)

any_float = st.floats(allow_nan=False, allow_infinity=False)
small_float = st.floats(-10, 10, width=32)


def matrices(elements=small_float, max_rows=8, max_columns=5):
    shape = st.tuples(st.integers(1, max_rows), st.integers(1, max_columns))
    return hnp.arrays(np.float64, shape, elements=elements)


@st.composite
def pairs_of_matrices(draw, elements=small_float):
    X = draw(matrices(elements))
    return X, draw(hnp.arrays(np.float64, X.shape, elements=elements))


@pytest.fixture
def tiny_blocks(monkeypatch):
    monkeypatch.setattr("skdict._utils.arrays._BLOCK_ENTRIES", 30)
    monkeypatch.setattr("skdict.metrics._dictionary._BLOCK_ATOMS", 4)


class TestUsage:
    @settings(deadline=None, max_examples=50)
    @given(
        matrices(st.sampled_from([0.0, -0.0, 1e-30, -0.5, 2.0])),
        st.sampled_from([0.0, 0.5, 1.0]),
    )
    def test_density_against_numpy(self, codes, threshold):
        expected = (np.abs(codes) > threshold).mean(axis=0)
        for form in (np.asarray, sparse.csr_array, sparse.csc_matrix):
            density = feature_density(form(codes), activity_threshold=threshold)
            assert_array_equal(density, expected)
        dead = dead_feature_fraction(codes, 0.3)
        assert dead == np.mean((codes != 0).mean(axis=0) < 0.3)

    def test_explicit_zeros_are_not_active(self):
        codes = sparse.csr_array(
            (np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3)
        )
        assert_array_equal(feature_density(codes), [0.0, 1.0, 0.0])
        assert dead_feature_fraction(codes) == 2 / 3

    def test_dead_means_below_the_threshold(self):
        codes = sparse.csr_array(
            (np.ones(3), np.array([0, 1, 1]), np.array([0, 1, 2, 3] + [3] * 99_997)),
            shape=(100_000, 3),
        )
        assert_array_equal(feature_density(codes), [1e-5, 2e-5, 0.0])
        assert dead_feature_fraction(codes) == 1 / 3
        assert dead_feature_fraction(codes, 1.5e-5) == 2 / 3
        assert dead_feature_fraction(codes, min_density=1.0) == 1.0
        assert dead_feature_fraction(codes, min_density=0.0) == 0.0

    def test_errors(self):
        with pytest.raises(ValueError, match="'min_density' parameter"):
            dead_feature_fraction(np.eye(2), 1.5)
        with pytest.raises(ValueError, match="'activity_threshold' parameter"):
            feature_density(np.eye(2), activity_threshold=-1.0)
        with pytest.raises(ValueError, match="0 sample"):
            feature_density(np.empty((0, 3)))
        with pytest.raises(ValueError, match="1 of 2 rows, the first of them row 1"):
            dead_feature_fraction(np.array([[1.0], [np.nan]]))


class TestCosine:
    @settings(deadline=None, max_examples=50)
    @given(pairs_of_matrices())
    def test_against_scikit_learn(self, pair):
        # Rows of no length have no cosine in scikit-learn's sense.
        X, X_hat = (A + 20.0 for A in pair)
        X[:, 0] -= 50.0
        expected = np.mean(1 - paired_cosine_distances(X, X_hat))
        assert_allclose(reconstruction_cosine(X, X_hat), expected, atol=1e-9)
        assert_allclose(reconstruction_cosine(X, -X_hat), -expected, atol=1e-9)

    @settings(deadline=None, max_examples=100)
    @given(pairs_of_matrices(any_float))
    def test_bounded_for_any_finite_input(self, pair):
        X, X_hat = pair
        assert -1.0 <= reconstruction_cosine(X, X_hat) <= 1.0
        assert_allclose(reconstruction_cosine(X, X), 1.0)

    def test_zero_rows(self):
        X = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
        X_hat = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
        assert reconstruction_cosine(X[:1], X_hat[:1]) == 1.0
        assert reconstruction_cosine(X, X_hat) == 0.5

    def test_blocks(self, rng, tiny_blocks):
        X, X_hat = rng.normal(size=(2, 40, 7))
        expected = np.mean(1 - paired_cosine_distances(X, X_hat))
        assert_allclose(reconstruction_cosine(X, X_hat), expected)


class TestExplainedVariance:
    @settings(deadline=None, max_examples=100)
    @given(pairs_of_matrices(st.integers(-100, 100).map(lambda i: i / 8)))
    def test_against_r2_score(self, pair):
        X, X_hat = pair
        X = np.vstack((X, X[:1] + 1.0))
        X_hat = np.vstack((X_hat, X_hat[:1]))
        expected = 1 - np.sum((X - X_hat) ** 2) / np.sum((X - X.mean(axis=0)) ** 2)
        assert_allclose(explained_variance(X, X_hat), expected, rtol=1e-9)
        weighted = r2_score(X, X_hat, multioutput="variance_weighted")
        if np.ptp(X, axis=0).all():  # r2_score sets constant features apart
            assert_allclose(weighted, expected, rtol=1e-9)

    @settings(deadline=None, max_examples=100)
    @given(pairs_of_matrices(any_float))
    def test_no_nan_for_any_finite_input(self, pair):
        X, X_hat = pair
        assert explained_variance(X, X_hat) <= 1.0
        assert explained_variance(X, X) == 1.0

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            (0.0, np.float32),
            (0.1, np.float32),
            (3e38, np.float32),
            (0.1, np.float64),
            (1e-310, np.float64),
            (5e-324, np.float64),
            (1e300, np.float64),
        ],
    )
    def test_constant_data(self, value, dtype):
        X = np.full((7, 3), value, dtype=dtype)
        assert explained_variance(X, X) == 1.0
        assert explained_variance(X, X / 2 - dtype(1.0)) == 0.0

    def test_mean_scores_zero(self, rng):
        X = rng.normal(size=(50, 4)) + np.array([0.0, 10.0, 1e6, -3.0])
        mean = np.broadcast_to(X.mean(axis=0), X.shape)
        assert_allclose(explained_variance(X, mean), 0.0, atol=1e-12)

    def test_large_offset_in_float32(self, rng):
        X = (rng.normal(size=(1000, 3)) + 1000).astype(np.float32)
        X_hat = X + np.float32(0.5)
        exact = 1 - 0.25 * X.size / np.sum((X - X.mean(0, dtype=float)) ** 2)
        assert_allclose(explained_variance(X, X_hat), exact, rtol=1e-6)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, bool])
    def test_dtypes(self, dtype, rng):
        X, X_hat = rng.integers(0, 2, size=(2, 20, 3)).astype(dtype)
        exact = explained_variance(X.astype(float), X_hat.astype(float))
        assert explained_variance(X, X_hat) == exact

    def test_scale_does_not_matter(self, rng):
        X, X_hat = rng.normal(size=(2, 20, 3))
        expected = explained_variance(X, X_hat)
        for scale in (1e-300, 1e-12, 1e200, 1e307):
            assert_allclose(explained_variance(scale * X, scale * X_hat), expected)

    def test_blocks(self, rng, tiny_blocks):
        X = rng.normal(size=(40, 7)) + 5.0
        X_hat = X + rng.normal(size=(40, 7))
        expected = r2_score(X, X_hat, multioutput="variance_weighted")
        assert_allclose(explained_variance(X, X_hat), expected)

    def test_does_not_change_its_input(self, rng):
        X, X_hat = rng.normal(size=(2, 20, 3))
        X.flags.writeable = X_hat.flags.writeable = False
        assert explained_variance(X, X_hat) == explained_variance(X, X_hat)


@pytest.mark.parametrize("figure", [reconstruction_cosine, explained_variance])
class TestPairErrors:
    def test_shapes(self, figure):
        with pytest.raises(ValueError, match=r"got \(3, 2\) and \(2, 3\)"):
            figure(np.ones((3, 2)), np.ones((2, 3)))

    def test_not_finite(self, figure):
        bad = np.ones((3, 2))
        bad[1:] = [[np.nan, np.inf], [1.0, np.inf]]
        message = " holds NaN or infinity in 2 of 3 rows, the first of them row 1"
        with pytest.raises(ValueError, match="X" + message):
            figure(bad, np.ones((3, 2)))
        with pytest.raises(ValueError, match="X_hat" + message):
            figure(np.ones((3, 2)), bad)

    def test_empty(self, figure):
        with pytest.raises(ValueError, match="0 sample"):
            figure(np.empty((0, 3)), np.empty((0, 3)))


class TestOffsetRatio:
    @settings(deadline=None, max_examples=50)
    @given(matrices(any_float))
    @example(np.array([[1e308], [-1e308]]))  # whose difference overflows
    def test_against_numpy(self, X):
        scale = np.abs(X).max() or 1
        unit = X / scale
        spread = np.sqrt(np.square(unit - unit.mean(axis=0)).sum(axis=1).mean())
        length = np.linalg.norm(unit.mean(axis=0))
        ratio = offset_ratio(X)
        if (X[0] == X).all():
            assert ratio == (math.inf if X.any() else 0)
        elif spread > 1e-6 * length:
            assert_allclose(ratio, length / spread, rtol=1e-6, atol=1e-12)

    def test_what_does_not_matter(self, rng, tiny_blocks):
        X = rng.normal(loc=[3, 0, 1, 0], size=(30, 4))
        ratio = offset_ratio(X)
        rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        assert_allclose(offset_ratio(7e100 * X @ rotation), ratio)
        assert_allclose(offset_ratio(X[::-1]), ratio)
        assert offset_ratio(X - X.mean(axis=0)) < 1e-14

    def test_few_digits(self, rng):
        X = (rng.normal(size=(400, 3)) + 1e4).astype(np.float32)
        assert_allclose(offset_ratio(X), offset_ratio(X.astype(np.float64)), rtol=1e-12)
        assert_allclose(offset_ratio(X), 1e4, rtol=0.1)


class TestMeanCoherence:
    @settings(deadline=None, max_examples=50)
    @given(matrices(any_float))
    def test_against_a_loop(self, atoms):
        unit = [a / np.abs(a).max() if a.any() else a for a in atoms]
        unit = [a / np.linalg.norm(a) if a.any() else a for a in unit]
        cosines = [abs(a @ b) for i, a in enumerate(unit) for b in unit[:i]]
        coherence = mean_coherence(atoms)
        assert_allclose(coherence, np.mean(cosines) if cosines else 0, atol=1e-12)
        assert 0.0 <= coherence <= 1.0

    def test_blocks_do_not_matter(self, rng, monkeypatch):
        atoms = rng.normal(size=(11, 5))
        whole = mean_coherence(atoms)
        monkeypatch.setattr("skdict.metrics._dictionary._BLOCK_ATOMS", 4)
        assert_allclose(mean_coherence(atoms), whole)
        assert whole == pytest.approx(np.sqrt(2 / (5 * np.pi)), rel=0.3)


class TestCoherence:
    @settings(deadline=None, max_examples=50)
    @given(matrices(any_float))
    def test_against_a_loop(self, atoms):
        unit = [a / np.abs(a).max() if a.any() else a for a in atoms]
        unit = [a / np.linalg.norm(a) if a.any() else a for a in unit]
        expected = max(
            (abs(a @ b) for i, a in enumerate(unit) for b in unit[:i]), default=0.0
        )
        coherence = mutual_coherence(atoms)
        assert_allclose(coherence, expected, atol=1e-12)
        assert 0.0 <= coherence <= 1.0

    def test_particular_dictionaries(self):
        assert mutual_coherence(np.eye(5)) == 0.0
        assert mutual_coherence([[3.0, 4.0]]) == 0.0
        assert mutual_coherence(np.zeros((3, 2))) == 0.0
        assert_allclose(mutual_coherence([[1.0, 2.0], [-2.0, -4.0]]), 1.0)

    def test_duplicates_are_bounded_by_one(self, rng):
        atoms = rng.normal(size=(50, 7))
        coherence = mutual_coherence(np.vstack((atoms, atoms)))
        assert_allclose(coherence, 1.0)
        assert coherence <= 1.0

    def test_every_pair_is_seen_across_blocks(self, rng, tiny_blocks):
        # 11 atoms in blocks of 4; each pair in turn is the most coherent one.
        for i in range(11):
            for j in range(i):
                atoms = np.eye(11)
                atoms[i, j] = -0.75
                assert_allclose(mutual_coherence(atoms), 0.6)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"components holds NaN .* row 2"):
            mutual_coherence(np.array([[1.0], [1.0], [np.nan]]))
        with pytest.raises(ValueError, match="0 sample"):
            mutual_coherence(np.empty((0, 3)))


class TestMatch:
    @settings(deadline=None, max_examples=50)
    @given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
    def test_optimal_by_trying_all(self, n_a, n_b, seed):
        rng = np.random.default_rng(seed)
        A, B = rng.normal(size=(n_a, 3)), rng.normal(size=(n_b, 3))
        table = (A / np.linalg.norm(A, axis=1)[:, None]) @ (
            B / np.linalg.norm(B, axis=1)[:, None]
        ).T
        pairs, cosines = match_dictionaries(A, B)
        assert pairs.shape == (min(n_a, n_b), 2)
        assert cosines.shape == (min(n_a, n_b),)
        assert_array_equal(pairs[:, 0], np.sort(pairs[:, 0]))
        assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == min(n_a, n_b)
        assert_allclose(cosines, table[pairs[:, 0], pairs[:, 1]])
        small = table if n_a <= n_b else table.T
        best = max(
            sum(small[i, j] for i, j in enumerate(chosen))
            for chosen in permutations(range(small.shape[1]), small.shape[0])
        )
        assert_allclose(cosines.sum(), best, atol=1e-9)
        swapped = match_dictionaries(B, A)[1]
        assert_allclose(swapped.sum(), cosines.sum(), atol=1e-9)

    def test_recovers_a_permutation_with_any_lengths(self, rng):
        A = rng.normal(size=(40, 16))
        order = rng.permutation(40)
        B = A[order] * rng.uniform(0.1, 10, size=(40, 1))
        pairs, cosines = match_dictionaries(A, B)
        assert_array_equal(order[pairs[:, 1]], np.arange(40))
        assert_allclose(cosines, 1.0)
        assert cosines.max() <= 1.0

    def test_opposite_atoms_do_not_match(self):
        assert_allclose(match_dictionaries([[1.0, 0.0]], [[-1.0, 0.0]])[1], -1.0)

    def test_zero_and_duplicate_atoms(self):
        A = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
        pairs, cosines = match_dictionaries(A, A)
        assert_array_equal(np.sort(pairs[:, 1]), [0, 1, 2])
        assert_array_equal(np.sort(cosines), [0.0, 1.0, 1.0])

    def test_errors(self):
        with pytest.raises(ValueError, match="features, got 2 and 3"):
            match_dictionaries(np.ones((4, 2)), np.ones((4, 3)))
        with pytest.raises(ValueError, match="components_b holds NaN or infinity in 1"):
            match_dictionaries(np.ones((2, 2)), [[1.0, np.inf], [1.0, 1.0]])


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    centred = X - X.mean(axis=0)
    atoms = normalize(centred[600:700])
    coder = SparseCoder(atoms, transform_n_nonzero_coefs=6)
    return X[:600], coder.transform(centred[:600]), y[:600]


class TestProbe:
    @staticmethod
    def score(probe, X, y):
        cv = StratifiedKFold(2, shuffle=True, random_state=0)
        return cross_val_score(probe, X, y, cv=cv, scoring="balanced_accuracy").mean()

    def test_embeddings_without_convergence_warning(self, digits):
        X, _, y = digits
        assert self.score(make_linear_probe(), X, y) > 0.9

    def test_codes_csr_and_dense(self, digits):
        _, codes, y = digits
        csr = sparse.csr_array(codes)
        probe = make_linear_probe().fit(csr, y)
        dense_probe = make_linear_probe().fit(codes, y)
        assert_allclose(
            probe.predict_proba(csr), dense_probe.predict_proba(codes), atol=1e-3
        )
        assert self.score(make_linear_probe(), csr, y) > 0.8
        float32 = csr.astype(np.float32)
        assert self.score(make_linear_probe(), float32, y) > 0.8

    def test_features_of_very_different_scale(self):
        X, y = load_wine(return_X_y=True)
        assert self.score(make_linear_probe(), X, y) > 0.93

    def test_classes_weigh_the_same(self, rng):
        y = np.repeat([0, 1], [475, 25])
        X = rng.normal(size=(500, 3)) + 0.8 * y[:, None]
        balanced = self.score(make_linear_probe(), X, y)
        assert balanced > self.score(make_linear_probe(class_weight=None), X, y) + 0.1

    def test_parameters(self):
        probe = make_linear_probe(C=0.25, max_iter=50)
        classifier = probe[-1]
        assert isinstance(classifier, LogisticRegression)
        assert classifier.C == 0.25
        assert classifier.max_iter == 50
        assert classifier.class_weight == "balanced"
        assert clone(probe).get_params()["logisticregression__C"] == 0.25
        with pytest.raises(TypeError, match="penalti"):
            make_linear_probe(penalti=3)
