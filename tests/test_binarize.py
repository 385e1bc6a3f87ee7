"""skdict.metrics: continuous features made binary at quantiles."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse

from skdict.metrics import binarize_at_quantiles, selectivity_scores


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 8), st.data())
def test_quantiles_of_numpy_without_ties(seed, n_samples, n_features, data):
    X = np.random.default_rng(seed).normal(size=(n_samples, n_features))
    n_each = data.draw(st.integers(1, n_samples // 2))
    codes, _ = binarize_at_quantiles(X, 2 * n_features * n_each / n_samples)
    order = np.sort(X, axis=0)
    assert_array_equal(codes.toarray()[:, :n_features], order[n_each - 1] >= X)
    assert_array_equal(codes.toarray()[:, n_features:], order[-n_each] <= X)


def test_protocol_of_the_paper(rng):
    X = rng.lognormal(size=(500, 964))
    codes, names = binarize_at_quantiles(X, 100)
    assert sparse.isspmatrix_csr(codes)  # as scikit-learn is configured by default
    assert codes.shape == (500, 2 * 964)
    assert codes.dtype == np.float32
    assert codes.nnz / 500 == pytest.approx(100, abs=2 * 964 / 500)
    assert_array_equal(codes.data, 1)
    share = 100 / (2 * 964)
    low, high = np.quantile(X, [share, 1 - share], axis=0)
    expected = np.hstack((low > X, high < X))
    # At the quantile itself one sample more or less may be active in each feature.
    assert np.abs(codes.toarray() - expected).sum(axis=0).max() <= 1
    assert len(names) == 2 * 964
    # Fit for the scores.
    assert selectivity_scores(codes, rng.integers(0, 3, 500)).shape == (2 * 964, 3)


def test_ties_and_constants_are_made_up_for(rng):
    X = rng.normal(size=(1000, 10))
    X[:, 3] = 7.0
    X[:, 4] = rng.integers(0, 2, 1000)
    codes, _ = binarize_at_quantiles(X, 4.0)
    assert codes.nnz / 1000 == pytest.approx(4.0, abs=0.02)
    density = codes.toarray().mean(axis=0)
    assert density[3] == density[13] == density[4] == density[14] == 0.0
    assert density[0] > 4.0 / 20


def test_equal_values_that_are_no_binary_fractions(rng):
    constants = np.tile(rng.random(200), (50, 1))
    X = np.hstack((constants, rng.normal(size=(50, 1))))
    for n_active in (0.04, 0.2, 0.33, 0.7):
        codes, _ = binarize_at_quantiles(X, n_active)
        assert codes.nnz == codes[:, [200, 401]].nnz
        assert codes.nnz / 50 == pytest.approx(n_active, abs=0.021)


def test_small_integers_do_not_overflow():
    X = np.tile(np.array([[-128], [-100], [0], [100], [127]], dtype=np.int8), (1, 2))
    codes, _ = binarize_at_quantiles(X, 4 / 5)
    assert_array_equal(codes.toarray()[:, 0], [1, 0, 0, 0, 0])
    assert_array_equal(codes.toarray()[:, 2], [0, 0, 0, 0, 1])


def test_never_both_low_and_high(rng):
    X = rng.integers(0, 4, size=(50, 6))
    codes, _ = binarize_at_quantiles(X, 3.0)
    both = codes.toarray()[:, :6] * codes.toarray()[:, 6:]
    assert both.sum() == 0


def test_names(rng):
    X = rng.normal(size=(20, 2))
    _, names = binarize_at_quantiles(X, 1, feature_names=["area", "texture"])
    expected = ["area_low", "texture_low", "area_high", "texture_high"]
    assert names.tolist() == expected
    assert names.dtype == object
    frame = pd.DataFrame(X, columns=["area", "texture"])
    codes, names = binarize_at_quantiles(frame, 1)
    assert names.tolist() == expected
    assert_array_equal(codes.toarray(), binarize_at_quantiles(X, 1)[0].toarray())


def test_too_many_active(rng):
    X = rng.normal(size=(20, 3))
    X[:, 1] = 0
    with pytest.raises(ValueError, match="gets at most 2 active"):
        binarize_at_quantiles(X, 3)


def test_one_sample_or_only_constants_can_activate_nothing():
    for X in (np.ones((1, 3)), np.ones((5, 3))):
        with pytest.raises(ValueError, match="gets at most 0 active"):
            binarize_at_quantiles(X, 1)


def test_bad_input(rng):
    X = rng.normal(size=(20, 3))
    with pytest.raises(ValueError, match="feature_names has length 2"):
        binarize_at_quantiles(X, 1, feature_names=["a", "b"])
    with pytest.raises(ValueError, match="'n_active' parameter"):
        binarize_at_quantiles(X, 0)
    X[4, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 20 rows, the first of them row 4"):
        binarize_at_quantiles(X, 1)
    with pytest.raises(ValueError, match="0 sample"):
        binarize_at_quantiles(np.empty((0, 3)), 1)


def test_values_at_the_ends_of_float64():
    """Their difference is infinite."""
    values = np.random.default_rng(0).permutation(40)[:, None] - 20.0
    expected, _ = binarize_at_quantiles(values, 0.5)
    active, _ = binarize_at_quantiles(1.7e308 / 20 * values, 0.5)
    assert_array_equal(active.toarray(), expected.toarray())
