"""skdict.metrics: the part of a reconstruction's error that is linear in the data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from sklearn.preprocessing import StandardScaler

from skdict import ICFL
from skdict.datasets import make_planted_dictionary
from skdict.metrics import decompose_error, explained_variance

COLUMNS = [
    "reconstruction",
    "error_fraction",
    "linear_fraction",
    "nonlinear_fraction",
    "norm_r2",
    "gain",
    "linear_gain",
    "nonlinear_gain",
]
any_float = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def reconstructions(draw, elements):
    shape = draw(st.tuples(st.integers(4, 12), st.integers(1, 3)))
    return [draw(hnp.arrays(np.float64, shape, elements=elements)) for _ in range(3)]


def loop(X, X_hat, splits):
    """Shares and R^2 by one standardised ridge regression for each fold."""
    errors = X - X_hat
    norms = (errors**2).sum(axis=1)
    rest = norm_rest = 0.0
    for train, test in splits:
        scaler = StandardScaler().fit(X[train])
        A, B = scaler.transform(X[train]), scaler.transform(X[test])
        fitted = Ridge(alpha=1.0).fit(A, errors[train])
        rest += ((errors[test] - fitted.predict(B).reshape(B.shape)) ** 2).sum()
        fitted = Ridge(alpha=1.0).fit(A, norms[train])
        norm_rest += ((norms[test] - fitted.predict(B)) ** 2).sum()
    return {
        "error_fraction": norms.sum() / ((X - X.mean(axis=0)) ** 2).sum(),
        "linear_fraction": 1 - rest / norms.sum(),
        "nonlinear_fraction": rest / norms.sum(),
        "norm_r2": 1 - norm_rest / ((norms - norms.mean()) ** 2).sum(),
    }


@pytest.mark.parametrize("shape", [(40, 3), (25, 1), (30, 40)])
def test_against_a_loop(shape, rng):
    X, noise = rng.normal(size=(2, *shape)) + 3.0
    X_hat = 0.7 * X + noise
    for cv in (5, 3, KFold(4, shuffle=True, random_state=0)):
        report = decompose_error(X, X_hat, cv=cv)
        assert list(report.columns) == COLUMNS
        splits = (KFold(cv) if isinstance(cv, int) else cv).split(X)
        for column, expected in loop(X, X_hat, splits).items():
            assert_allclose(report.loc[0, column], expected, rtol=1e-9)
        assert report.loc[0, "gain"] == 0.0
        assert report.loc[0, "reconstruction"] == "plain"
        assert report.loc[0, "linear_gain"] == report.loc[0, "nonlinear_gain"] == 0.0


@settings(deadline=None, max_examples=25)
@given(reconstructions(any_float))
def test_finite_for_any_finite_input(arrays):
    X, X_hat, X_refit = arrays
    report = decompose_error(X, X_hat, X_refit=X_refit, cv=2)
    shares = report[["linear_fraction", "nonlinear_fraction", "norm_r2"]]
    assert not shares.isna().any(axis=None)
    for linear, nonlinear, _ in shares.itertuples(index=False):
        # Both 0 where exact. Extrapolation over a few rows can be off by any factor.
        assert linear == 1.0 - nonlinear or linear == nonlinear == 0.0
    assert not report.filter(like="gain").isna().any(axis=None)
    exact = decompose_error(X, X, cv=2).iloc[0, 1:]
    assert (exact == 0).all()


def test_parts_are_told_apart(rng):
    X = rng.normal(size=(4000, 6))
    # A linear error, an offset, and one that no linear map sees.
    linear = X @ (0.2 * rng.normal(size=(6, 6)))
    for error, expected in {
        "linear": (linear, 1.0),
        "offset": (np.full_like(X, 0.3), 1.0),
        "noise": (rng.normal(size=X.shape), 0.0),
        "even": (np.square(X) - 1.0, 0.0),
    }.values():
        share = decompose_error(X, X - error).loc[0, "linear_fraction"]
        assert_allclose(share, expected, atol=0.02)


def test_norm_that_is_linear_in_the_row(rng):
    X = rng.uniform(1.0, 2.0, size=(500, 4))
    directions = rng.normal(size=X.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    X_hat = X - np.sqrt(X[:, :1]) * directions
    report = decompose_error(X, X_hat)
    assert report.loc[0, "norm_r2"] > 0.999
    assert report.loc[0, "linear_fraction"] < 0.1
    # Errors of one length have no norm to predict.
    assert decompose_error(X, X - 1.0).loc[0, "norm_r2"] == 0.0


def test_what_a_refit_gains(rng):
    X, noise = rng.normal(size=(2, 1000, 5))
    X_hat = 0.8 * X + 0.1 * noise
    report = decompose_error(X, X_hat, X_refit=X + 0.1 * noise)
    assert report["reconstruction"].tolist() == ["plain", "refit"]
    assert_allclose(report["error_fraction"], [0.05, 0.01], rtol=0.1)
    assert_allclose(report["gain"], [0.0, 0.8], atol=0.02)
    # The shrinkage was all of it, and it is linear.
    assert_allclose(report["linear_gain"], [0.0, 0.8], atol=0.02)
    assert_allclose(report["nonlinear_gain"], 0.0, atol=0.01)
    total = report["linear_gain"] + report["nonlinear_gain"]
    assert_allclose(total, report["gain"])


def test_refit_of_icfl():
    data = make_planted_dictionary(800, 12, n_components=24, n_active=3, random_state=0)
    icfl = ICFL(n_components=24, k=3, atoms_per_step=1, max_iter=10, random_state=0)
    codes = icfl.fit(data.data[:400]).transform(data.data[400:])
    refit = icfl.set_params(refit=True).transform(data.data[400:])
    X, X_hat, X_refit = (
        data.data[400:],
        icfl.inverse_transform(codes),
        icfl.inverse_transform(refit),
    )
    report = decompose_error(X, X_hat, X_refit=X_refit)
    for row, reconstruction in enumerate((X_hat, X_refit)):
        assert_allclose(
            report.loc[row, "error_fraction"],
            1 - explained_variance(X, reconstruction),
            rtol=1e-4,
        )
    assert report.loc[1, "gain"] > 0.0


def test_groups_are_kept_together(rng):
    # Each group has its own linear error: seen inside a group, unknown outside.
    groups = np.repeat(np.arange(10), 60)
    X = rng.normal(size=(600, 3))
    X[:, 0] = 5.0 * rng.normal(size=10)[groups] + 0.01 * X[:, 0]
    error = np.zeros_like(X)
    error[:, 1] = rng.normal(size=10)[groups]
    y_dummies = np.eye(10)[groups]
    X = np.hstack((X, y_dummies))
    X_hat = X - np.hstack((error, np.zeros_like(y_dummies)))
    shuffled = KFold(5, shuffle=True, random_state=0)
    leaky = decompose_error(X, X_hat, cv=shuffled).loc[0, "linear_fraction"]
    honest = decompose_error(X, X_hat, groups=groups).loc[0, "linear_fraction"]
    assert leaky > 0.95
    assert honest < 0.3
    explicit = decompose_error(X, X_hat, cv=GroupKFold(5), groups=groups)
    assert explicit.loc[0, "linear_fraction"] == honest
    with config_context(enable_metadata_routing=True):
        routed = decompose_error(X, X_hat, groups=groups).loc[0, "linear_fraction"]
    assert routed == honest


def test_estimator(rng):
    X, noise = rng.normal(size=(2, 40, 30))
    estimator = LinearRegression()
    plain = decompose_error(X, 0.5 * X + noise, estimator=estimator)
    ridge = decompose_error(X, 0.5 * X + noise, estimator=Ridge(alpha=100.0))
    assert plain.loc[0, "linear_fraction"] < 0.0 < ridge.loc[0, "linear_fraction"] + 0.1
    assert not hasattr(estimator, "coef_")


def test_scale_does_not_matter(rng):
    X, noise = rng.normal(size=(2, 60, 3))
    X_hat = 0.7 * X + 0.3 * noise
    expected = decompose_error(X, X_hat)
    for scale in (2.0**-600, 2.0**700):
        scaled = decompose_error(scale * X, scale * X_hat)
        pd.testing.assert_frame_equal(scaled, expected, rtol=1e-9)


def test_input_forms(rng):
    X, noise = rng.normal(size=(2, 60, 3)).astype(np.float32)
    X_hat = X + noise
    X.flags.writeable = X_hat.flags.writeable = False
    before = X.copy()
    expected = decompose_error(X.astype(float), X_hat.astype(float))
    pd.testing.assert_frame_equal(decompose_error(X, X_hat), expected)
    frame = decompose_error(pd.DataFrame(X), pd.DataFrame(X_hat).astype(object))
    pd.testing.assert_frame_equal(frame, expected)
    assert (before == X).all()


def test_errors(rng):
    X = rng.normal(size=(10, 2))
    bad = X.copy()
    bad[3:5] = np.nan
    with pytest.raises(ValueError, match=r"X and X_refit .* \(10, 2\) and \(9, 2\)"):
        decompose_error(X, X, X_refit=X[1:])
    with pytest.raises(ValueError, match=r"X_hat holds NaN .* 2 of 10 rows.* row 3"):
        decompose_error(X, bad)
    with pytest.raises(ValueError, match=r"^X holds NaN"):
        decompose_error(bad, X)
    with pytest.raises(ValueError, match="test each row exactly once"):
        decompose_error(X, X - 1.0, cv=ShuffleSplit(2, random_state=0))
    with pytest.raises(ValueError, match="10 rows, but groups has length 9"):
        decompose_error(X, X - 1.0, groups=np.arange(9))
    with pytest.raises(ValueError, match="0 sample"):
        decompose_error(X[:0], X[:0])
    with pytest.raises(ValueError, match="numeric values"):
        decompose_error(np.full((10, 2), "a"), X)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        decompose_error(X, X, estimator=StandardScaler())
