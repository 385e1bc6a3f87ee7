"""Codes with features taken out or changed."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from skdict.concepts import ablate, steer

rng = np.random.default_rng(0)
CODES = np.where(rng.random((30, 8)) < 0.4, rng.normal(size=(30, 8)), 0.0)
MASK = np.arange(8) % 3 == 1
CONTAINERS = {
    "array": np.asarray,
    "float32": lambda codes: codes.astype(np.float32),
    "csr_matrix": sp.csr_matrix,
    "csr_array": sp.csr_array,
}


def dense(codes):
    return codes.toarray() if sp.issparse(codes) else np.asarray(codes)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    "features", [[1, 4, 7], [-1, 1, 4], MASK, MASK.tolist()], ids=range(4)
)
def test_ablate_makes_columns_zero_and_nothing_else(container, features):
    codes = CONTAINERS[container](CODES)
    before = codes.copy()
    ablated = ablate(codes, features)
    np.testing.assert_array_equal(dense(ablated), dense(codes) * ~MASK)
    np.testing.assert_array_equal(dense(codes), dense(before))
    assert type(ablated) is type(codes)
    assert ablated.dtype == codes.dtype
    if sp.issparse(codes):
        assert ablated.nnz == np.count_nonzero(CODES * ~MASK)
        ablated.check_format()


def test_a_mask_may_be_an_array_of_objects():
    np.testing.assert_array_equal(
        ablate([[1.0, 2.0]], np.array([True, False], dtype=object)), [[0.0, 2.0]]
    )


def test_ablate_takes_one_feature_and_none():
    np.testing.assert_array_equal(ablate(CODES, 2), ablate(CODES, [2]))
    np.testing.assert_array_equal(ablate(CODES, []), CODES)
    assert not np.shares_memory(ablate(CODES, []), CODES)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([8], "names feature 8, but the codes have 8 features"),
        ([-9], "names feature -9"),
        ([0.5], "whole numbers, or a boolean mask, got float64"),
        (["a"], "whole numbers"),
        ([1, -7], "names feature 1 twice"),
        (MASK[:5], "mask of length 5, but the codes have 8"),
        ([[1, 2]], r"shape \(1, 2\)"),
    ],
)
def test_features_that_do_not_exist(features, message):
    with pytest.raises(ValueError, match=message):
        ablate(CODES, features)


def test_codes_that_are_not_finite():
    with pytest.raises(ValueError, match="codes holds NaN or infinity in 1 of 2 rows"):
        ablate([[1.0, np.nan], [0.0, 1.0]], [0])


STEER = {
    "add": lambda columns, amount: columns + amount,
    "set": lambda columns, amount: 0 * columns + amount,
    "scale": lambda columns, amount: columns * amount,
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("amount", [1.5, [1.0, -2.0, 0.0]], ids=["one", "each"])
@pytest.mark.parametrize("mode", STEER)
def test_steer_changes_columns_and_nothing_else(mode, amount, container):
    codes = CONTAINERS[container](CODES)
    before = codes.copy()
    features = [6, 1, 4]  # in no order
    steered = steer(codes, features, amount, mode=mode)
    expected = dense(codes).copy()
    expected[:, features] = STEER[mode](expected[:, features], np.float32(amount))
    np.testing.assert_array_equal(dense(steered), expected)
    np.testing.assert_array_equal(dense(codes), dense(before))
    assert type(steered) is type(codes)
    assert steered.dtype == codes.dtype
    if sp.issparse(codes):
        assert steered.nnz == np.count_nonzero(expected)
        steered.check_format()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 7), unique=True), st.integers(0, 2**32 - 1))
def test_steering_there_and_back(features, seed):
    amounts = np.random.default_rng(seed).integers(1, 9, len(features))
    codes = sp.csr_array(np.round(CODES, 1))
    there = steer(codes, features, amounts)
    np.testing.assert_allclose(dense(steer(there, features, -amounts)), dense(codes))
    zero = steer(codes, features, 0.0, mode="scale")
    np.testing.assert_array_equal(dense(zero), dense(ablate(codes, features)))


def test_whole_numbers_become_floats():
    steered = steer(np.eye(3, dtype=int), 0, 0.5)
    assert steered.dtype == np.float32
    np.testing.assert_array_equal(steered[:, 0], [1.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        ([1.0, 2.0, 3.0], r"each of the 2 features, got an array of shape \(3,\)"),
        (np.inf, r"in the range \(-inf, inf\)"),
        ([1.0, np.nan], "finite numbers only"),
        (["a", "b"], "finite numbers only"),
    ],
)
def test_amounts_that_do_not_fit(amount, message):
    with pytest.raises(ValueError, match=message):
        steer(CODES, [1, 2], amount)


@pytest.mark.parametrize("container", ["float32", "csr_array"])
def test_steered_codes_that_overflow(container):
    codes = CONTAINERS[container](np.full((3, 2), 3e38, dtype=np.float32))
    with pytest.raises(ValueError, match="overflow float32 in 3 of 3 rows"):
        steer(codes, 1, 3e38)
    with pytest.raises(ValueError, match="overflow"):
        steer(codes, 1, 10.0, mode="scale")
