"""The geometric median against SciPy's minimiser."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from skdict.ops.centre import geometric_median


def sum_of_distances(median, x):
    return np.linalg.norm(x - median, axis=1).sum()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    d=st.integers(1, 5),
    repeats=st.integers(1, 3),
    offset=st.sampled_from([0.0, 10.0]),
)
def test_is_the_minimiser(seed, n, d, repeats, offset):
    rng = np.random.default_rng(seed)
    x = offset + np.repeat(rng.normal(size=(n, d)), repeats, axis=0)
    median = geometric_median(torch.tensor(x)).numpy()
    starts = [x.mean(axis=0), median, *x]
    best = min(sum_of_distances(start, x) for start in starts)
    best = min(
        best,
        *(
            optimize.minimize(sum_of_distances, start, (x,), "Nelder-Mead").fun
            for start in starts[:2]
        ),
    )
    assert sum_of_distances(median, x) <= best * (1 + 1e-3) + 1e-5


def test_is_the_median_in_one_dimension():
    x = torch.tensor([[0.0], [0.1], [0.3], [2.0], [5.0]], dtype=torch.float64)
    torch.testing.assert_close(
        geometric_median(x, max_iter=1000), x[2], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_where_rows_coincide(dtype):
    same = torch.full((7, 3), 0.3, dtype=dtype)
    torch.testing.assert_close(geometric_median(same), same[0])
    # The mean is a row, so the first iterate coincides with it.
    x = torch.tensor([[0.0], [0.0], [0.0], [4.0], [1.0]], dtype=dtype)
    median = geometric_median(x)
    assert median.dtype == dtype
    torch.testing.assert_close(median, torch.zeros(1, dtype=dtype), rtol=0, atol=1e-3)


def test_outliers_hardly_move_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    spoiled = np.concatenate([x, np.full((20, 4), 1e4)])
    moved = geometric_median(torch.tensor(spoiled)) - geometric_median(torch.tensor(x))
    assert moved.norm() < 0.5
    assert np.linalg.norm(spoiled.mean(axis=0)) > 1000


def test_moves_and_scales_with_the_rows():
    x = torch.tensor(np.random.default_rng(1).normal(size=(50, 3)))
    median = geometric_median(x)
    torch.testing.assert_close(geometric_median(x + 5), median + 5, rtol=0, atol=1e-4)
    torch.testing.assert_close(geometric_median(-2 * x), -2 * median, rtol=0, atol=1e-4)


def test_stops_when_the_step_is_short_and_after_max_iter():
    x = torch.tensor(np.random.default_rng(2).normal(size=(50, 3)))
    torch.testing.assert_close(geometric_median(x, max_iter=0), x.mean(0))
    once = geometric_median(x, max_iter=1)
    assert not torch.equal(once, x.mean(0))
    assert torch.equal(geometric_median(x, tol=10.0), once)


def test_rows_stay_as_they_are():
    x = torch.tensor(np.random.default_rng(3).normal(size=(50, 3)))
    before = x.clone()
    geometric_median(x)
    assert torch.equal(x, before)
