"""Codes with features taken out or changed."""

import numpy as np
import pytest
import scipy.sparse as sp

from skdict.concepts import ablate

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
