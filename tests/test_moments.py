"""Mergeable moments against NumPy in float64 and scikit-learn's covariances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf
from sklearn.preprocessing import StandardScaler

from skdict.ops import moments as moments_module
from skdict.ops.moments import (
    batch_moments,
    covariance,
    ledoit_wolf_intensity,
    merge_moments,
    principal_axes,
    rounding_variance,
    shrink_off_diagonal,
    supported_axes,
    whitening_matrix,
)


@st.composite
def rows(draw, min_samples=1):
    """Rows with features of different scales, skewness and offsets."""
    n = draw(st.integers(min_samples, 40))
    d = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.gamma(2.0, size=(n, d)) @ rng.normal(size=(d, d))
    return X * rng.uniform(0.5, 2.0, size=d) + draw(st.sampled_from([0.0, 3.0, -1e3]))


def oracle(X):
    """The moments as their definitions say, in NumPy."""
    Y = X - X.mean(axis=0)
    return {
        "mean": X.mean(axis=0),
        "scatter": Y.T @ Y,
        "third": (Y**2).T @ Y,
        "fourth": (Y**2).T @ Y**2,
    }


def assert_moments(actual, expected, scale, rtol=1e-9):
    for power, name in [(1, "mean"), (2, "scatter"), (3, "third"), (4, "fourth")]:
        value = getattr(actual, name)
        if value is not None:
            atol = rtol * actual.n_samples * scale**power
            np.testing.assert_allclose(value, expected[name], rtol=rtol, atol=atol)


def scale_of(X):
    return max(np.abs(X - X.mean(axis=0)).max(), 1e-6 * np.abs(X).max(), 1e-12)


@settings(max_examples=40)
@given(X=rows(), fourth_order=st.booleans())
def test_batch_moments_match_their_definition(X, fourth_order):
    m = batch_moments(torch.from_numpy(X), fourth_order=fourth_order)
    assert m.n_samples == len(X)
    assert (m.fourth is not None) == (m.third is not None) == fourth_order
    assert_moments(m, oracle(X), scale_of(X))


@settings(max_examples=40)
@given(X=rows(), fourth_order=st.booleans(), data=st.data())
def test_any_split_merges_to_the_moments_of_all_rows(X, fourth_order, data):
    cuts = data.draw(st.lists(st.integers(0, len(X)), max_size=5).map(sorted))
    parts = [
        batch_moments(torch.from_numpy(part), fourth_order=fourth_order)
        for part in np.split(X, cuts)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = merge_moments(total, part)
    assert total.n_samples == len(X)
    assert_moments(total, oracle(X), scale_of(X))


@settings(max_examples=25)
@given(X=rows(min_samples=3), fourth_order=st.booleans())
def test_merge_is_associative_and_commutative(X, fourth_order):
    a, b, c = (
        batch_moments(torch.from_numpy(part), fourth_order=fourth_order)
        for part in np.split(X, [1, 1 + len(X) // 2])
    )
    left = merge_moments(merge_moments(a, b), c)
    for other in (
        merge_moments(a, merge_moments(b, c)),
        merge_moments(c, merge_moments(b, a)),
    ):
        expected = {
            name: getattr(other, name).numpy()
            for name in ("mean", "scatter", "third", "fourth")
            if getattr(other, name) is not None
        }
        assert_moments(left, expected, scale_of(X), rtol=1e-11)


def test_batches_far_apart_merge_without_losing_digits():
    rng = np.random.default_rng(0)
    X = np.sort(rng.normal(size=(300, 4)), axis=0) * 50 + 1e6
    total = batch_moments(torch.from_numpy(X[:1]), fourth_order=True)
    for part in np.array_split(X[1:], 7):
        part = batch_moments(torch.from_numpy(part), fourth_order=True)
        total = merge_moments(total, part)
    assert_moments(total, oracle(X), scale_of(X), rtol=1e-12)


def test_several_chunks_equal_one(monkeypatch):
    X = torch.from_numpy(np.random.default_rng(1).normal(size=(101, 5)) + 7)
    whole = batch_moments(X)
    monkeypatch.setattr(moments_module, "_CHUNK_ENTRIES", 40)
    chunked = batch_moments(X)
    torch.testing.assert_close(chunked.scatter, whole.scatter, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(chunked.mean, whole.mean, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_accumulates_in_float64_from_any_dtype(dtype):
    X = (torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) + 30).to(dtype)
    kept = X.clone()
    m = batch_moments(X)
    assert m.scatter.dtype == m.mean.dtype == torch.float64
    expected = np.cov(X.double().numpy().T)
    np.testing.assert_allclose(covariance(m), expected, rtol=1e-12)
    assert torch.equal(X, kept)


@pytest.mark.parametrize("fourth_order", [False, True])
@pytest.mark.parametrize("value", [0.1, 1e8, -1e-9, 123456.789])
def test_a_constant_feature_has_no_variance(value, fourth_order):
    X = torch.full((1000, 1), value, dtype=torch.float64)
    m = merge_moments(
        batch_moments(X[:333], fourth_order=fourth_order),
        batch_moments(X[333:], fourth_order=fourth_order),
    )
    eps = torch.finfo(torch.float64).eps
    assert (covariance(m).diagonal() <= rounding_variance(m, eps)).all()
    assert m.mean.item() == pytest.approx(value, rel=2 * eps)


@pytest.mark.parametrize("fourth_order", [False, True])
def test_an_empty_batch_is_neutral(fourth_order):
    X = torch.randn(6, 3, dtype=torch.float64)
    empty = batch_moments(X[:0], fourth_order=fourth_order)
    full = batch_moments(X, fourth_order=fourth_order)
    assert empty.n_samples == 0
    assert empty.mean.shape == (3,)
    assert empty.scatter.shape == (3, 3)
    assert merge_moments(empty, full) is full
    assert merge_moments(full, empty) is full


@settings(max_examples=40)
@given(X=rows(min_samples=3))
def test_ledoit_wolf_matches_scikit_learn(X):
    standard = StandardScaler().fit(X)
    expected_cov, expected = ledoit_wolf(standard.transform(X))
    m = batch_moments(torch.from_numpy(X), fourth_order=True)
    varying = torch.ones(X.shape[1], dtype=torch.bool)
    intensity = ledoit_wolf_intensity(m, varying)
    assert intensity == pytest.approx(expected, abs=1e-9)
    shrunk = shrink_off_diagonal(m.scatter / len(X), intensity)
    scale = standard.scale_
    expected_cov = scale[:, None] * expected_cov * scale
    atol = 1e-9 * scale.max() ** 2
    np.testing.assert_allclose(shrunk, expected_cov, rtol=1e-9, atol=atol)


def test_ledoit_wolf_leaves_constant_features_out():
    X = np.random.default_rng(0).gamma(1.0, size=(30, 5))
    X[:, 2] = 4.0
    m = batch_moments(torch.from_numpy(X), fourth_order=True)
    varying = torch.tensor([True, True, False, True, True])
    Z = StandardScaler().fit_transform(np.delete(X, 2, axis=1))
    assert ledoit_wolf_intensity(m, varying) == pytest.approx(ledoit_wolf(Z)[1])
    assert ledoit_wolf_intensity(m, ~varying) == 0.0


def test_ledoit_wolf_of_uncorrelated_features_shrinks_fully():
    X = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    m = batch_moments(X, fourth_order=True)
    assert ledoit_wolf_intensity(m, torch.ones(2, dtype=torch.bool)) == 1.0


def test_principal_axes_are_ordered_orthonormal_and_signed():
    A = np.random.default_rng(3).normal(size=(20, 6))
    cov = torch.from_numpy(np.cov(A.T))
    variances, axes = principal_axes(cov)
    assert (variances.diff() <= 0).all()
    np.testing.assert_allclose(axes @ axes.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose((axes.T * variances) @ axes, cov, atol=1e-12)
    assert (axes.gather(1, axes.abs().argmax(1, keepdim=True)) > 0).all()
    np.testing.assert_allclose(principal_axes(cov.clone())[1], axes)


@pytest.mark.parametrize("n_samples", [12, 25, 60, 2000])
@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numerical_rank_sees_through_rounding(dtype, offset, n_samples):
    d, rank = 20 if n_samples > 12 else 200, 6
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n_samples, rank)) @ rng.normal(size=(rank, d))
        X = (X * 30 + offset * rng.uniform(0.5, 1, size=d)).astype(dtype)
        m = batch_moments(torch.from_numpy(X))
        eps = float(np.finfo(dtype).eps)
        variances, axes = principal_axes(covariance(m))
        keep = supported_axes(variances, axes, rounding_variance(m, eps))
        assert keep.tolist() == [True] * rank + [False] * (d - rank)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numerical_rank_keeps_weak_but_real_directions(dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4)) * [1.0, 1e-2, 1e-4, 1e-5]
    Q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    X = (X @ Q).astype(dtype)
    m = batch_moments(torch.from_numpy(X))
    variances, axes = principal_axes(covariance(m))
    rounding = rounding_variance(m, float(np.finfo(dtype).eps))
    assert supported_axes(variances, axes, rounding).all()


def test_a_huge_offset_of_one_feature_hides_no_other():
    X = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    X[:, 0] = 1e8
    m = batch_moments(torch.from_numpy(X))
    variances, axes = principal_axes(covariance(m))
    keep = supported_axes(variances, axes, rounding_variance(m, 2.0**-23))
    assert keep.tolist() == [True, True, False]


def test_whitening_matrices_whiten():
    X = np.random.default_rng(5).normal(size=(50, 4)) * [1, 2, 3, 4]
    cov = covariance(batch_moments(torch.from_numpy(X)))
    variances, axes = principal_axes(cov)
    for method in ("pca", "zca"):
        W = whitening_matrix(variances, axes, method)
        np.testing.assert_allclose(W.T @ cov @ W, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(W, W.T, atol=1e-12)


def test_ledoit_wolf_without_fourth_moments_is_refused():
    m = batch_moments(torch.eye(3))
    with pytest.raises(ValueError, match="needs fourth moments"):
        ledoit_wolf_intensity(m, torch.ones(3, dtype=torch.bool))
