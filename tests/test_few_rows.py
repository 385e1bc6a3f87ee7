"""Few rows: all that their moments tell, without a matrix of n_features^2."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdict.ops import few_rows
from skdict.ops.few_rows import (
    FewRows,
    complement,
    intensity_of_rows,
    leading_shrunk_axes,
    merge_rows,
    principal_axes_of_rows,
)
from skdict.ops.moments import (
    batch_moments,
    covariance,
    ledoit_wolf_intensity,
    principal_axes,
    rounding_variance,
    shrink_off_diagonal,
)


@st.composite
def tables(draw):
    n = draw(st.integers(2, 10))
    d = draw(st.integers(n + 1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.gamma(2.0, size=(n, d)) * rng.uniform(0.5, 2.0, size=d)
    return torch.from_numpy(X + draw(st.sampled_from([0.0, 3.0, -1e3])))


@settings(max_examples=40)
@given(X=tables(), cut=st.integers(0, 10))
def test_the_moments_of_few_rows(X, cut):
    few = merge_rows(FewRows(X[:cut]), FewRows(X[cut:]))
    moments = batch_moments(X)
    assert few.n_samples == moments.n_samples
    for name in ("mean", "power", "scatter"):
        torch.testing.assert_close(
            getattr(few, name), getattr(moments, name), rtol=1e-9, atol=1e-9
        )
    torch.testing.assert_close(
        rounding_variance(few, 1e-7), rounding_variance(moments, 1e-7)
    )


def test_no_rows():
    few = FewRows(torch.empty(0, 3, dtype=torch.float64))
    assert few.n_samples == 0
    assert few.mean.tolist() == few.power.tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [0.1, 1e8, -1e-9, 123456.789])
def test_a_constant_feature_has_no_variance(value):
    few = FewRows(torch.full((7, 20), value, dtype=torch.float64))
    eps = torch.finfo(torch.float64).eps
    assert (few.power / 6 <= rounding_variance(few, eps)).all()


@settings(max_examples=40)
@given(X=tables())
def test_principal_axes_are_those_of_the_covariance(X):
    few, n = FewRows(X), len(X)
    variances, axes = principal_axes_of_rows(few)
    expected, expected_axes = principal_axes(covariance(batch_moments(X)))
    torch.testing.assert_close(variances[:-1], expected[: n - 1], rtol=1e-9, atol=1e-9)
    assert variances[-1] <= 1e-12 * variances[0]
    spread = (expected[: n - 1] - expected[1:n]).min() / expected[0]
    torch.testing.assert_close(
        axes[:-1], expected_axes[: n - 1], rtol=0, atol=float(1e-11 / spread)
    )


@settings(max_examples=40)
@given(X=tables())
def test_axes_and_their_complement_are_a_basis(X):
    _, axes = principal_axes_of_rows(FewRows(X))
    basis = torch.cat([axes, complement(axes)])
    assert basis.shape == (X.shape[1], X.shape[1])
    torch.testing.assert_close(
        basis @ basis.T, torch.eye(len(basis)).double(), rtol=0, atol=1e-12
    )


@settings(max_examples=40)
@given(X=tables(), data=st.data())
def test_shrinkage_is_that_of_the_covariance(X, data):
    few, moments = FewRows(X), batch_moments(X, fourth_order=True)
    varying = torch.arange(X.shape[1]) != data.draw(st.integers(0, X.shape[1]))
    intensity = ledoit_wolf_intensity(moments, varying)
    assert intensity_of_rows(few, varying) == pytest.approx(intensity, abs=1e-9)
    shrunk = shrink_off_diagonal(covariance(moments), 0.2)
    variances, _ = principal_axes(shrunk)
    k = data.draw(st.integers(1, len(X) - 1))
    leading, leading_axes = leading_shrunk_axes(few, 0.2, k)
    torch.testing.assert_close(leading, variances[:k], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        shrunk @ leading_axes.T, leading_axes.T * leading, rtol=0, atol=1e-8
    )


def test_axes_that_do_not_stand_out_are_not_found(monkeypatch):
    monkeypatch.setattr(few_rows, "_MAX_RESTARTS", 1)
    X = torch.randn(100, 300, dtype=torch.float64)
    assert leading_shrunk_axes(FewRows(X), 0.99, 40) is None
