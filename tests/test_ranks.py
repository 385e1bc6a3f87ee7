"""skdict.metrics: the area under the ROC curve, from ranks of sparse codes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import labelled_codes
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

from skdict.metrics import auroc_scores
from skdict.stats import ranks as module


@settings(deadline=None, max_examples=60)
@given(labelled_codes())
def test_equal_scikit_learn(data):
    codes, y = data
    expected = [[roc_auc_score(y == c, z) for c in np.unique(y)] for z in codes.T]
    for form in (np.asarray, sparse.csr_array, sparse.coo_matrix):
        assert_allclose(auroc_scores(form(codes), y), expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(labelled_codes(), st.integers(1, 30))
def test_ranks_equal_scipy(data, block):
    codes, _ = data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_ENTRIES", block)
        for form in (np.asarray, sparse.csr_array):
            blocks = [*module.centred_ranks(form(codes))]
            found = np.hstack([r.toarray() + zero for _, r, zero in blocks])
            assert_array_equal(found, stats.rankdata(codes, axis=0))


def test_real_codes(rng):
    codes = np.maximum(rng.normal(size=(300, 20)) - 1, 0)
    y = np.array([*"abc"])[rng.integers(0, 3, 300)]
    codes[y == "b", 3] += 9
    scores = auroc_scores(sparse.csr_array(codes), y)
    assert scores.shape == (20, 3)
    assert scores[3, 1] == 1.0
    expected = [[roc_auc_score(y == c, z) for c in "abc"] for z in codes.T]
    assert_allclose(scores, expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(labelled_codes())
def test_two_symmetries(data):
    codes, y = data
    scores = auroc_scores(codes, y)
    assert_allclose(auroc_scores(-codes, y), 1 - scores, atol=1e-12)
    assert_allclose(auroc_scores(codes, y == 0)[:, 1], scores[:, 0], atol=1e-12)


@pytest.mark.parametrize(
    "convert",
    [
        lambda z: z.astype(np.float16),
        lambda z: z.astype(np.int8),
        lambda z: sparse.csr_array(z.astype(np.int8)),
        lambda z: sparse.csr_array(z.astype(np.float32)),
        np.asfortranarray,
        pd.DataFrame,
        lambda z: z.tolist(),
    ],
)
def test_every_type_of_codes(convert, rng):
    codes = rng.choice([0.0, 0.0, 1.0, 5.0, -128.0], size=(30, 8))
    y = rng.integers(0, 3, 30)
    expected = auroc_scores(codes, y)
    assert_array_equal(auroc_scores(convert(codes), y), expected)


def test_booleans(rng):
    codes = rng.random((30, 4)) < 0.3
    y = rng.integers(0, 3, 30)
    for same in (codes, sparse.csr_array(codes)):
        assert_array_equal(auroc_scores(same, y), auroc_scores(codes.astype(float), y))


def test_neither_densifies_nor_changes_csr(rng):
    n = 50_000
    codes = sparse.csr_array(
        (np.ones(n, np.float32), rng.integers(0, n, n), np.arange(n + 1)), shape=(n, n)
    )
    codes.data[:9] = 0
    before = codes.copy()
    assert auroc_scores(codes, np.arange(n) % 2).shape == (n, 2)
    assert codes.nnz == before.nnz
    assert_array_equal(codes.indices, before.indices)


def test_constant_features_tell_nothing():
    codes = np.tile([0.0, 1.0, -2.0], (6, 1))
    assert_array_equal(auroc_scores(codes, [0, 0, 1, 1, 2, 2]), 0.5)


def test_bad_input():
    codes = np.eye(4)
    codes[2, 1] = np.inf
    with pytest.raises(ValueError, match="1 of 4 rows, the first of them row 2"):
        auroc_scores(codes, [0, 0, 1, 1])
    with pytest.raises(ValueError, match="1 of 4 rows, the first of them row 2"):
        auroc_scores(sparse.csr_array(codes), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="at least two classes"):
        auroc_scores(np.eye(4), [0, 0, 0, 0])
    with pytest.raises(ValueError, match="y has length 2"):
        auroc_scores(np.eye(4), [0, 1])
    with pytest.raises(ValueError, match="0 sample"):
        auroc_scores(np.empty((0, 3)), [])
