"""Moments by group, against NumPy on each group."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skdict.ops import group_moments as module
from skdict.ops.group_moments import (
    group_moments,
    merge_group_moments,
    spread_within,
)


def sample(seed, n=60, d=4, n_groups=5, offset=0.0):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 10, d) + groups[:, None] + offset
    return torch.from_numpy(X), torch.from_numpy(groups)


def assert_equal_moments(a, b, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(a.n_samples, b.n_samples)
    torch.testing.assert_close(a.mean, b.mean, rtol=rtol, atol=atol)
    torch.testing.assert_close(a.spread, b.spread, rtol=rtol, atol=atol)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 60),
    offset=st.sampled_from([0.0, 1e5]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64]),
)
@example(seed=29, n=27, offset=0.0, dtype=torch.float16)
def test_moments_of_each_group(seed, n, offset, dtype):
    if dtype == torch.float16:
        offset = 0.0
    X, groups = sample(seed, n, offset=offset)
    X = X.to(dtype)
    moments = group_moments(X, groups, 7)
    for g in range(7):
        rows = X[groups == g].double().numpy()
        assert moments.n_samples[g] == len(rows)
        if len(rows) == 0:
            assert (moments.mean[g] == 0).all()
            assert (moments.spread[g] == 0).all()
            continue
        # Rounding is of the size of the rows, which may cancel in their mean.
        np.testing.assert_allclose(
            moments.mean[g], rows.mean(axis=0), rtol=1e-12, atol=1e-14 * abs(rows).max()
        )
        np.testing.assert_allclose(
            moments.spread[g], len(rows) ** 0.5 * rows.std(axis=0), rtol=1e-7, atol=1e-9
        )
    assert all(
        x.dtype == torch.float64
        for x in (moments.n_samples, moments.mean, moments.spread)
    )


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 60))
def test_merging_equals_all_at_once(seed, cut):
    X, groups = sample(seed, offset=1e4)
    a = group_moments(X[:cut], groups[:cut], 5)
    b = group_moments(X[cut:], groups[cut:], 5)
    whole = group_moments(X, groups, 5)
    assert_equal_moments(merge_group_moments(a, b), whole, atol=1e-7)
    assert_equal_moments(merge_group_moments(b, a), whole, atol=1e-7)


def test_merging_with_nothing_changes_no_bit():
    X, groups = sample(0)
    whole = group_moments(X, groups, 5)
    nothing = group_moments(X[:0], groups[:0], 5)
    for merged in (
        merge_group_moments(whole, nothing),
        merge_group_moments(nothing, whole),
    ):
        assert_equal_moments(merged, whole, rtol=0, atol=0)


def test_chunks_do_not_change_the_result(monkeypatch):
    X, groups = sample(1, offset=1e4)
    whole = group_moments(X, groups, 5)
    monkeypatch.setattr(module, "_CHUNK_ENTRIES", 28)
    assert_equal_moments(group_moments(X, groups, 5), whole, atol=1e-7)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e8 + 0.1])
def test_a_constant_feature_has_no_spread(value):
    X = torch.full((1001, 1), value, dtype=torch.float64)
    moments = group_moments(X, torch.arange(1001) % 2, 2)
    assert moments.spread.max() <= 1e-14 * value
    np.testing.assert_allclose(moments.mean, value, rtol=1e-15)


def test_the_rows_are_left_alone():
    X, groups = sample(2)
    before = X.clone()
    group_moments(X, groups, 5)
    assert torch.equal(X, before)


def test_spread_within_groups():
    X, groups = sample(3)
    X, groups = torch.cat([X, X[:1]]), torch.cat([groups, torch.tensor([5])])
    moments = group_moments(X, groups, 7)
    centred = X.numpy().copy()
    for g in range(6):
        centred[groups == g] -= X[groups == g].numpy().mean(axis=0)
    expected = ((centred**2).sum(axis=0) / (len(X) - 6)) ** 0.5
    np.testing.assert_allclose(spread_within(moments), expected)
    alone = group_moments(X[:3], torch.arange(3), 3)
    assert (spread_within(alone) == 0).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), exponent=st.integers(-1010, 1000))
def test_any_magnitude(seed, exponent):
    X, groups = sample(seed)
    scale = 2.0**exponent
    a, b = (group_moments(Y, groups, 5) for Y in (X, X * scale))
    halves = [group_moments(X[i::2] * scale, groups[i::2], 5) for i in (0, 1)]
    for scaled in (b, merge_group_moments(*halves)):
        for name in ("mean", "spread"):
            expected = getattr(a, name) * scale
            torch.testing.assert_close(
                getattr(scaled, name), expected, rtol=1e-9, atol=1e-9 * scale
            )
        torch.testing.assert_close(
            spread_within(scaled), spread_within(a) * scale, rtol=1e-9, atol=0.0
        )
