"""Blocks of rows, unit rows and exact scaling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skdict._utils.arrays import (
    blocks,
    power_of_two,
    row_blocks,
    scale_down,
    unit_rows,
)

sizes = st.integers(0, 50)


@given(sizes, sizes, sizes)
def test_blocks_cover_everything_once_and_are_as_large_as_allowed(n, each, at_most):
    found = [np.arange(n)[block] for block in blocks(n, each, at_most)]
    np.testing.assert_array_equal(np.concatenate([[], *found]), np.arange(n))
    for i, block in enumerate(found):
        assert len(block) == 1 or len(block) * each <= at_most
        if i < len(found) - 1:
            assert (len(block) + 1) * max(each, 1) > at_most


def test_blocks_of_rows():
    found = list(row_blocks(np.zeros((5, 3)), 6))
    assert found == [slice(0, 2), slice(2, 4), slice(4, 5)]


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_unit_rows_of_any_finite_numbers(A):
    unit, nonzero = unit_rows(A)
    np.testing.assert_array_equal(nonzero, (A != 0).any(axis=1))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), nonzero, atol=1e-12)
    assert (unit[~nonzero] == 0).all()
    assert (np.sign(unit) * np.sign(A) >= 0).all()


def test_unit_rows_of_small_integers():
    unit, _ = unit_rows([[3, 4], [0, -2]])
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, -1.0]])


@pytest.mark.parametrize("largest", [5e-324, 1.0, 1.5, 1.7e308])
def test_scaling_down_is_exact(largest):
    values = np.array([largest, -largest / 2, 0.0])
    scaled, exponent = scale_down(values)
    assert 0.25 <= np.abs(scaled).max() < 0.5
    np.testing.assert_array_equal(np.ldexp(scaled, exponent), values)


@pytest.mark.parametrize("largest", [2.0**-1000, 0.3, 1.0, 1.5, 2.0**1019])
def test_a_power_of_two_brings_the_largest_below_one(largest):
    scale = power_of_two(largest)
    assert np.frexp(scale)[0] == 0.5
    assert 0.5 <= scale * largest < 1


@pytest.mark.parametrize("largest", [0.0, 5e-324, 1e-310, 1.7e308])
def test_a_power_of_two_stays_in_range(largest):
    scale = power_of_two(largest)
    assert np.frexp(scale)[0] == 0.5
    assert 2.0**-1020 <= scale <= 2.0**1020
    assert scale * largest < 16
