"""Variance that a factor explains inside strata, against least squares."""

import numpy as np
import pytest
from scipy import sparse

from skdict.stats.variance import VarianceInside


def explained(values, *factors):
    """Sum of squares that indicators of factors explain."""
    design = np.column_stack([f[:, None] == np.unique(f) for f in factors]).astype(
        float
    )
    fit = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return values @ values - ((values - fit) ** 2).sum()


@pytest.mark.parametrize("n_fired", [1, 2, 5])
def test_features_that_fire_in_few_samples(n_fired):
    strata = np.repeat([0, 1, 2], 2)
    ids = np.array([0, 1, 0, 1, 2, 0])
    codes = np.zeros((6, 1))
    codes[:n_fired, 0] = [7.0, 3.0, 1.0, 2.0, 5.0][:n_fired]
    inside = VarianceInside(sparse.csr_array(codes), strata)
    values = codes[:, 0]
    within = explained(values, strata)
    expected = (explained(values, strata, ids) - within) / (values @ values - within)
    eta, rank = inside.eta_squared(ids)
    assert rank == 2
    np.testing.assert_allclose(eta, expected)
