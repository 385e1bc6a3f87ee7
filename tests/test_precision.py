"""skdict.stats: average precision of every feature for every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import average_precision_score

from skdict.stats import average_precisions, precision


@given(st.data())
@settings(max_examples=40)
def test_it_is_that_of_scikit_learn(data):
    n_samples = data.draw(st.integers(1, 12))
    # Few values, so that there are ties, above zero and below.
    codes = data.draw(
        hnp.arrays(np.float32, (n_samples, 3), elements=st.integers(-2, 2))
    )
    labels = data.draw(hnp.arrays(np.intp, n_samples, elements=st.integers(0, 2)))
    found = average_precisions(sparse.csr_array(codes), labels, 3)
    for feature in range(3):
        for label in range(3):
            expected = 0.0
            if (labels == label).any():
                expected = average_precision_score(labels == label, codes[:, feature])
            assert_allclose(found[feature, label], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, bool])
def test_dense_and_sparse_codes_and_small_blocks_give_the_same(rng, dtype, monkeypatch):
    codes = (9 * rng.random((50, 7)) * (rng.random((50, 7)) < 0.4)).astype(dtype)
    labels = rng.integers(0, 4, 50)
    expected = average_precisions(codes, labels, 4)
    if dtype is not np.float16:  # scipy has none
        stored = sparse.csr_array(codes)
        assert_array_equal(average_precisions(stored, labels, 4), expected)
    monkeypatch.setattr(precision, "_BLOCK_ENTRIES", 8)
    assert_array_equal(average_precisions(codes, labels, 4), expected)


def test_a_silent_feature_has_the_frequency_of_the_class():
    found = average_precisions(np.zeros((8, 2)), np.array([0, 0, 0, 0, 0, 0, 1, 1]), 2)
    assert_array_equal(found, [[0.75, 0.25]] * 2)
