"""ControlPCAWhitener: exactness, streaming, few controls, routing and bad input."""

import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedGroupKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import (
    check_array_api_input_and_values,
    check_array_api_mixed_inputs,
    check_array_api_same_namespace,
    estimator_checks_generator,
)

from skdict import ControlCenterScaler, ControlPCAWhitener
from skdict.preprocessing import _rows, _whitening

METHODS = ["pca", "zca"]
SHRINKAGES = [None, 0.0, 0.3, 1.0, "auto"]


def sample(n=200, d=6, seed=0, offset=5.0, dtype=np.float64):
    """Correlated rows, shifted and spread where they are not controls."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + offset
    control = rng.random(n) < 0.6
    control[: d + 2] = True
    X[~control] = 2 * X[~control] + 1
    return X.astype(dtype), control


def fitted(X, control=None, **params):
    if control is None:
        control = np.ones(len(X), dtype=bool)
    return ControlPCAWhitener(**params).fit(X, control=control)


def with_few_controls(X, control=None, **params):
    with pytest.warns(UserWarning, match="fewer than 2 per feature"):
        return fitted(X, control, **params)


def assert_same_whitening(a, b, X, rtol=1e-8):
    assert a.rank_ == b.rank_
    assert a.n_components_ == b.n_components_
    assert a.n_control_samples_ == b.n_control_samples_
    np.testing.assert_allclose(a.mean_, b.mean_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(a.explained_variance_, b.explained_variance_, rtol=rtol)
    np.testing.assert_allclose(np.abs(a.components_ @ b.components_.T).max(1), 1.0)
    np.testing.assert_allclose(
        np.abs(a.transform(X)), np.abs(b.transform(X)), rtol=rtol, atol=1e3 * rtol
    )


# ---------------------------------------------------------------------------------
# What whitening is


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    d=st.integers(1, 8),
    method=st.sampled_from(METHODS),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_controls_come_out_white(seed, d, method, offset):
    X, control = sample(d=d, seed=seed, offset=offset)
    Z = fitted(X, control, method=method).transform(X)[control]
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.cov(Z.T).reshape(d, d), np.eye(d), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
def test_float32_is_white_to_1e_4(method, offset, condition):
    rng = np.random.default_rng(0)
    d = 20
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    X = rng.normal(size=(2000, d)) * np.geomspace(condition, 1, d) @ Q + offset
    X = X.astype(np.float32)
    whitener = fitted(X, method=method)
    Z = whitener.transform(X)
    assert Z.dtype == np.float32
    Z = Z.astype(np.float64)
    assert np.abs(Z.mean(axis=0)).max() < 1e-4
    assert np.abs(np.cov(Z.T) - np.eye(d)).max() < 1e-4
    assert np.abs(whitener.inverse_transform(Z.astype(np.float32)) - X).max() <= (
        2e-6 * np.abs(X).max()
    )


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6))
def test_equals_pca_up_to_sign(seed, k):
    X, control = sample(seed=seed)
    ours = fitted(X, control, n_components=k)
    pca = PCA(n_components=k, whiten=True, svd_solver="full").fit(X[control])
    expected = pca.explained_variance_
    np.testing.assert_allclose(ours.explained_variance_, expected, rtol=1e-7)
    Z, expected = ours.transform(X), pca.transform(X)
    np.testing.assert_allclose(np.abs(Z), np.abs(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_float_n_components_is_a_share_of_the_control_variance(share):
    X, control = sample(d=10)
    pca = PCA(n_components=share, svd_solver="full").fit(X[control])
    whitener = fitted(X, control, n_components=share)
    assert whitener.n_components_ == pca.n_components_
    assert whitener.rank_ == 10
    # of the variance seen, whatever the shrinkage
    shrunk = fitted(X, control, n_components=share, shrinkage=0.5)
    assert shrunk.n_components_ == pca.n_components_


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    exponent=st.integers(-60, 60),
    shift=st.floats(-10, 10),
    method=st.sampled_from(METHODS),
    shrinkage=st.sampled_from(SHRINKAGES),
)
def test_translation_and_scale_of_the_input_do_not_matter(
    seed, exponent, shift, method, shrinkage
):
    X, control = sample(seed=seed)
    params = {"method": method, "shrinkage": shrinkage}
    Z = fitted(X, control, **params).transform(X)
    moved = (X + shift) * 2.0**exponent
    Z_moved = fitted(moved, control, **params).transform(moved)
    if method == "pca" and shrinkage == 1.0:
        return  # all axes are equivalent, and only zca is unique
    np.testing.assert_allclose(np.abs(Z_moved), np.abs(Z), rtol=1e-6, atol=1e-6)


def test_zca_is_symmetric_and_stays_close_to_the_input():
    X, control = sample()
    whitener = fitted(X, control, method="zca")
    W = whitener.transform(np.eye(6) + whitener.mean_)
    np.testing.assert_allclose(W, W.T, atol=1e-12)
    assert (np.linalg.eigvalsh(W) > 0).all()
    pca = fitted(X, control)
    rotated = pca.transform(X) @ pca.components_
    np.testing.assert_allclose(whitener.transform(X), rotated, atol=1e-9)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 6),
    method=st.sampled_from(METHODS),
    shrinkage=st.sampled_from(SHRINKAGES),
)
def test_inverse_is_exact_or_the_projection(seed, k, method, shrinkage):
    X, control = sample(seed=seed)
    whitener = fitted(X, control, n_components=k, method=method, shrinkage=shrinkage)
    back = whitener.inverse_transform(whitener.transform(X))
    V, mean = whitener.components_, whitener.mean_
    np.testing.assert_allclose(V @ V.T, np.eye(k), atol=1e-10)
    np.testing.assert_allclose(back, mean + (X - mean) @ V.T @ V, atol=1e-7)
    if k == 6:
        np.testing.assert_allclose(back, X, atol=1e-7)


# ---------------------------------------------------------------------------------
# Shrinkage and few controls


@pytest.mark.parametrize("n_controls", [7, 30, 500])
def test_auto_shrinkage_is_that_of_lda(n_controls):
    X, _ = sample(n=n_controls, d=10)
    X = X**3
    lda = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage="auto", store_covariance=True
    )
    # two classes with the same rows, so that the pooled covariance is theirs
    lda.fit(np.r_[X, X], np.repeat([0, 1], n_controls))
    expected = lda.covariance_ * n_controls / (n_controls - 1)
    ours = fitted(X, shrinkage="auto")
    C = (ours.components_.T * ours.explained_variance_) @ ours.components_
    np.testing.assert_allclose(C, expected, rtol=1e-6, atol=1e-9 * expected.max())
    assert ours.n_components_ == ours.rank_ == 10


@pytest.mark.parametrize("s", [0.2, 1.0])
def test_float_shrinkage_moves_towards_the_mean_variance(s):
    X, control = sample()
    ours = fitted(X, control, shrinkage=s)
    C = np.cov(X[control].T)
    expected = (1 - s) * C + s * np.trace(C) / 6 * np.eye(6)
    C = (ours.components_.T * ours.explained_variance_) @ ours.components_
    np.testing.assert_allclose(C, expected, rtol=1e-8, atol=1e-8)


def test_no_shrinkage_equals_a_shrinkage_of_zero():
    X, control = sample()
    a, b = fitted(X, control), fitted(X, control, shrinkage=0.0)
    np.testing.assert_array_equal(a.transform(X), b.transform(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_controls", [15, 50, 100])
def test_held_out_rows_do_not_explode(n_controls, dtype):
    rng = np.random.default_rng(0)
    d = 40
    X = rng.normal(size=(4000, d)) * np.geomspace(3, 0.03, d) @ rng.normal(size=(d, d))
    X = X.astype(dtype)
    control = np.arange(len(X)) < n_controls
    shrunk = fitted(X, control, shrinkage="auto")
    assert shrunk.transform(X[~control]).std(axis=0).max() < 3
    if n_controls < 2 * d:
        plain = with_few_controls(X, control)
    else:
        plain = fitted(X, control)
    assert plain.n_components_ == plain.rank_ == min(n_controls - 1, d)
    assert plain.transform(X[~control]).std(axis=0).max() < 100
    pca = PCA(whiten=True, svd_solver="full").fit(X[control])
    if n_controls < d:
        assert pca.transform(X[~control]).std(axis=0).max() > 1e4


@pytest.mark.parametrize(
    ("n_controls", "params", "warns"),
    [
        (11, {}, True),
        (12, {}, False),
        (11, {"shrinkage": "auto"}, False),
        (11, {"shrinkage": 0.1}, False),
        (11, {"n_components": 3}, False),
        (11, {"n_components": 6}, True),
        (4, {}, True),
    ],
)
def test_too_few_controls_per_dimension_warn(n_controls, params, warns):
    X, _ = sample(n=100)
    control = np.arange(100) < n_controls
    if warns:
        with_few_controls(X, control, **params)
    else:
        fitted(X, control, **params)


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_degenerate_features_stay_finite(method, shrinkage, dtype):
    X, control = sample(n=100, d=3, offset=0.0)
    X = np.c_[X, X[:, :2], np.full(100, 7.0), np.zeros(100), X[:, :1] - X[:, 1:2]]
    X = X.astype(dtype)
    whitener = fitted(X, control, method=method, shrinkage=shrinkage)
    if shrinkage in (None, 0.0):
        assert whitener.rank_ == 3
    others = X[~control] + dtype(1)
    Z = whitener.transform(others)
    assert np.isfinite(Z).all()
    assert np.abs(Z).max() < 100
    assert np.isfinite(whitener.inverse_transform(Z)).all()
    back = whitener.inverse_transform(whitener.transform(X))
    np.testing.assert_allclose(back[control], X[control], atol=0.05)


def test_auto_shrinkage_leaves_out_what_is_constant_on_the_controls():
    X, control = sample(d=5)
    X[control, 2] = 1.0
    whitener = fitted(X, control, shrinkage="auto")
    assert whitener.rank_ == 4
    np.testing.assert_allclose(whitener.components_[:, 2], 0, atol=1e-12)
    # a fixed shrinkage gives it a variance, and so keeps it
    assert fitted(X, control, shrinkage=0.1).rank_ == 5


# ---------------------------------------------------------------------------------
# Streaming


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, 199), min_size=1, max_size=6, unique=True).map(sorted),
    shrinkage=st.sampled_from([None, 0.3, "auto"]),
    method=st.sampled_from(METHODS),
)
def test_any_split_into_batches_equals_one_fit(seed, cuts, shrinkage, method):
    X, control = sample(seed=seed)
    params = {"shrinkage": shrinkage, "method": method}
    streamed = ControlPCAWhitener(**params)
    for rows, mask in zip(np.split(X, cuts), np.split(control, cuts), strict=True):
        streamed.partial_fit(rows, control=mask)
    assert_same_whitening(streamed, fitted(X, control, **params), X)


def test_fit_starts_again_and_partial_fit_goes_on():
    X, control = sample()
    A, B = X[:100], X[100:]
    whitener = fitted(X * 3 + 1, control).fit(A, control=control[:100])
    assert_same_whitening(whitener, fitted(A, control[:100]), X)
    whitener = pickle.loads(pickle.dumps(whitener))
    whitener.partial_fit(B, control=control[100:])
    assert_same_whitening(whitener, fitted(X, control), X)


def test_batches_without_controls_are_passed_over():
    X, control = sample()
    order = np.argsort(~control)  # controls in the middle
    order = np.r_[order[150:], order[:150]]
    X, control = X[order], control[order]
    whitener = ControlPCAWhitener()
    assert not control[:50].any()
    whitener.partial_fit(X[:50], control=control[:50])
    assert whitener.n_control_samples_ == 0
    with pytest.raises(ValueError, match="No control row in any batch"):
        whitener.transform(X)
    whitener.partial_fit(X[50:51], control=control[50:51])
    with pytest.raises(ValueError, match="at least 2 control rows"):
        whitener.transform(X)
    whitener.partial_fit(X[51:], control=control[51:])
    assert_same_whitening(whitener, fitted(X, control), X)


def test_few_controls_so_far_are_told_at_transform():
    X, _ = sample(n=20)
    control = np.ones(20, dtype=bool)
    whitener = ControlPCAWhitener().partial_fit(X[:8], control=control[:8])
    with pytest.warns(UserWarning, match="8 control rows for 6 features"):
        whitener.transform(X)
    whitener.partial_fit(X[8:], control=control[8:]).transform(X)
    whitener = ControlPCAWhitener(n_components=5).partial_fit(
        X[:4], control=control[:4]
    )
    with pytest.raises(ValueError, match="Too few controls for the asked components"):
        whitener.transform(X)
    whitener.partial_fit(X[4:], control=control[4:])
    assert whitener.transform(X).shape == (20, 5)


def test_partial_fit_checks_features_and_order_of_moments():
    X, control = sample()
    whitener = ControlPCAWhitener().partial_fit(X, control=control)
    with pytest.raises(ValueError, match="X has 5 features"):
        whitener.partial_fit(X[:, :5], control=control)
    whitener.set_params(shrinkage="auto")
    with pytest.raises(ValueError, match="set shrinkage before"):
        whitener.partial_fit(X, control=control)
    auto = ControlPCAWhitener(shrinkage="auto").partial_fit(
        X[:90], control=control[:90]
    )
    auto.set_params(shrinkage=None).partial_fit(X[90:], control=control[90:])
    assert_same_whitening(auto, fitted(X, control), X)


def test_large_offsets_stream_exactly():
    X, control = sample(n=1000, offset=1e6)
    whitener = ControlPCAWhitener()
    for rows in np.array_split(np.argsort(X[:, 0]), 9):
        whitener.partial_fit(X[rows], control=control[rows])
    assert_same_whitening(whitener, fitted(X, control), X, rtol=1e-7)


def test_the_coarsest_batch_sets_the_numerical_rank():
    X, control = sample(offset=0.0)
    X[:, 5] = X[:, 0] + X[:, 1]
    whitener = ControlPCAWhitener()
    whitener.partial_fit(X[:100].astype(np.float16), control=control[:100])
    assert whitener.rank_ == 5
    whitener.partial_fit(X[100:], control=control[100:])
    assert whitener.rank_ == 5


def test_rank_stays_below_the_number_of_controls(monkeypatch):
    def all_axes(variances, axes, rounding):
        return torch.ones(len(variances), dtype=torch.bool)

    monkeypatch.setattr(_whitening, "supported_axes", all_axes)
    X, _ = sample(n=4)
    assert with_few_controls(X).rank_ == 3


def test_blocks_do_not_change_the_result(monkeypatch):
    X, control = sample()
    whole = fitted(X, control, shrinkage="auto")
    Z = whole.transform(X)
    monkeypatch.setattr(_whitening, "_READ_ENTRIES", 60)
    monkeypatch.setattr(_rows, "_BLOCK_ENTRIES", 42)
    blocks = fitted(X, control, shrinkage="auto")
    assert_same_whitening(blocks, whole, X)
    np.testing.assert_allclose(whole.transform(X), Z, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------
# Who is a control


def test_mask_or_label_pick_the_same_controls():
    X, control = sample()
    y = np.where(control, "DMSO", "drug")
    expected = fitted(X[control]).transform(X)
    masks = [control, control.astype(int), control.astype(float), list(control)]
    masks += [pd.Series(control), pd.Series(control, dtype="boolean")]
    masks += [torch.from_numpy(control)]
    for mask in masks:
        np.testing.assert_allclose(fitted(X, mask).transform(X), expected, atol=1e-9)
    by_label = ControlPCAWhitener(control_label="DMSO")
    for labels in (y, list(y), pd.Series(y), pd.Series(y, dtype="category")):
        Z = by_label.fit(X, labels).transform(X)
        np.testing.assert_allclose(Z, expected, atol=1e-9)
    # the mask wins
    Z = by_label.fit(X, y[::-1], control=control).transform(X)
    np.testing.assert_allclose(Z, expected, atol=1e-9)
    for label, labels in [(0, 1 - control), (True, control), (2.5, 2.5 * control)]:
        Z = ControlPCAWhitener(control_label=label).fit(X, labels).transform(X)
        np.testing.assert_allclose(Z, expected, atol=1e-9)


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_without_any_control_all_rows_are_used_and_it_warns(method):
    X, _ = sample()
    whitener = ControlPCAWhitener()
    with pytest.warns(UserWarning, match="all rows are used") as record:
        getattr(whitener, method)(X)
    assert len(record) == 1
    if method != "fit_transform":
        assert record[0].filename == __file__
    assert_same_whitening(whitener, fitted(X), X)


@pytest.mark.parametrize(
    ("control", "message"),
    [
        (np.ones(199, dtype=bool), "200 rows, but control has length 199"),
        (np.arange(50), "Indices of rows are not accepted"),
        (np.ones((200, 2), dtype=bool), r"1d array .* shape \(200, 2\)"),
        (True, "a list or an array with one label for each row, got bool"),
        (np.arange(200), "198 of 200 entries are neither, .* 2 at row 2"),
        (np.r_[np.ones(199), np.nan], "1 of 200 entries .* missing at row 199"),
        (np.r_[1, np.full(199, -1)], "199 of 200 .* -1 at row 1"),
        ([False, *["True"] * 199], "199 of 200 .* 'True' at row 1"),
        (pd.Series([True] * 199 + [None], dtype="boolean"), "missing at row 199"),
    ],
)
def test_what_is_no_mask_raises(control, message):
    X, _ = sample()
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(ControlPCAWhitener(), method)(X, control=control)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([b"DMSO", b"drug"]),
        np.array(["DMSO", "drug"]),
        np.array([3, 4]),
        np.array([True, False]),
        np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"),
        pd.to_datetime(["2020-01-01", "2020-01-02"]),
        np.array([1, 2], dtype="m8[s]"),
    ],
    ids=["bytes", "str", "int", "bool", "date", "Timestamp", "time span"],
)
def test_what_a_label_may_be_picks_the_controls(labels):
    """One of the labels, as they come out of y."""
    X, control = sample()
    y = labels[np.where(control, 0, 1)]
    for estimator in (ControlPCAWhitener, ControlCenterScaler):
        step = estimator(control_label=labels[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No batch is given")
            assert step.fit(X, y).n_control_samples_ == control.sum()
            step.set_params(control_label=labels[1]).fit(X, pd.Series(y))
        assert step.n_control_samples_ == (~control).sum()


def test_no_control_row_names_the_remedy():
    X, _ = sample()
    y = np.repeat(["a", "b"], 100)
    with pytest.raises(ValueError, match=r"None of the 200 rows.*StratifiedGroupKFold"):
        ControlPCAWhitener().fit(X, control=np.zeros(200, dtype=bool))
    with pytest.raises(ValueError, match=r"None of the 200 rows.*StratifiedGroupKFold"):
        ControlPCAWhitener(control_label="DMSO").fit(X, y)
    with pytest.raises(ValueError, match="None of the 200 rows"):
        ControlPCAWhitener(control_label=1).fit(X, y)


def test_labels_must_be_there_and_fit():
    X, _ = sample()
    whitener = ControlPCAWhitener(control_label="a")
    with pytest.raises(ValueError, match="neither y nor a control mask"):
        whitener.fit(X)
    with pytest.raises(ValueError, match="200 rows, but y has length 199"):
        whitener.fit(X, ["a"] * 199)


# ---------------------------------------------------------------------------------
# Metadata routing


@pytest.mark.parametrize("routing", [False, True])
def test_a_pipeline_passes_the_mask(routing):
    X, control = sample()
    y = control.astype(int)
    pipe = make_pipeline(ControlPCAWhitener(), RidgeClassifier())
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            pipe.fit(X, y, control=control)
        else:
            pipe.fit(X, y, controlpcawhitener__control=control)
    assert_same_whitening(pipe[0], fitted(X, control), X)


def test_the_mask_is_requested_by_default():
    requests = ControlPCAWhitener().get_metadata_routing()
    for method in ("fit", "partial_fit"):
        assert getattr(requests, method).requests == {"control": True}


@pytest.mark.usefixtures("forked_jobs")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search_cuts_the_mask_to_each_fold(n_jobs):
    X, control = sample(n=120)
    groups = np.arange(120) // 10
    y = np.arange(120) % 2
    X[~control] += 50  # no fold may whiten with these rows
    pipe = make_pipeline(ControlPCAWhitener(), RidgeClassifier())
    grid = {"controlpcawhitener__method": METHODS}
    params = {"control": control, "groups": groups}
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(pipe, grid, cv=GroupKFold(3), n_jobs=n_jobs)
        search.fit(X, y, **params)
        nested = cross_validate(
            GridSearchCV(pipe, grid, cv=GroupKFold(2)),
            X,
            y,
            params=params,
            cv=StratifiedGroupKFold(3).split(X, control, groups),
            return_estimator=True,
            return_indices=True,
            error_score="raise",
            n_jobs=n_jobs,
        )
    best = search.best_estimator_[0]
    np.testing.assert_allclose(best.mean_, X[control].mean(axis=0))
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    for estimator, train in zip(
        nested["estimator"], nested["indices"]["train"], strict=True
    ):
        mean = X[train][control[train]].mean(axis=0)
        np.testing.assert_allclose(estimator.best_estimator_[0].mean_, mean)


def test_grid_search_without_routing_passes_the_mask_as_a_fit_parameter():
    X, control = sample(n=120)
    pipe = make_pipeline(ControlPCAWhitener(), RidgeClassifier())
    grid = {"controlpcawhitener__n_components": [2, 4]}
    search = GridSearchCV(pipe, grid, cv=GroupKFold(3))
    y = np.arange(120) % 2
    search.fit(X, y, groups=np.arange(120) // 10, controlpcawhitener__control=control)
    mean = search.best_estimator_[0].mean_
    np.testing.assert_allclose(mean, X[control].mean(axis=0))


def test_a_fold_without_controls_names_the_remedy():
    X, _ = sample(n=60)
    control = np.arange(60) < 20
    y = np.arange(60) % 2
    pipe = make_pipeline(ControlPCAWhitener(), RidgeClassifier())
    folds = [(np.arange(20, 60), np.arange(20))]
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(ValueError, match="StratifiedGroupKFold"),
    ):
        cross_validate(
            pipe, X, y, params={"control": control}, cv=folds, error_score="raise"
        )


# ---------------------------------------------------------------------------------
# Bad input, and input that only looks bad


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_rows_are_counted_and_named(bad):
    X, control = sample()
    whitener = fitted(X, control)
    X[[17, 60], 2] = bad
    message = r"NaN or infinity in 2 of 200 rows.* row 17"
    for call in (
        partial(ControlPCAWhitener().fit, control=control),
        partial(clone(whitener).partial_fit, control=control),
        whitener.transform,
        whitener.inverse_transform,
    ):
        with pytest.raises(ValueError, match=message):
            call(X)


def test_too_few_controls_for_the_asked_components():
    X, _ = sample()
    control = np.arange(200) < 4
    with pytest.raises(ValueError, match=r"n_components=5.*4 control rows span 3"):
        fitted(X, control, n_components=5)
    with pytest.raises(ValueError, match=r"n_components=7.*span 6.*in 6 features"):
        fitted(X, n_components=7)
    assert fitted(X, control, n_components=5, shrinkage="auto").n_components_ == 5
    with pytest.raises(ValueError, match="n_samples = 1"):
        fitted(X, np.arange(200) < 1)
    with pytest.raises(ValueError, match="all equal"):
        fitted(np.full((20, 3), 0.1))


@pytest.mark.parametrize("name", ["n_components", "shrinkage"])
@pytest.mark.parametrize("value", [True, False, np.True_])
def test_parameters_that_are_numbers_are_no_booleans(name, value):
    X, control = sample()
    with pytest.raises(ValueError, match=f"'{name}'.* Got"):
        fitted(X, control, **{name: value})


def test_a_failed_fit_leaves_the_old_whitening():
    X, control = sample()
    whitener = fitted(X, control)
    Z = whitener.transform(X)
    with pytest.raises(ValueError, match="all equal"):
        whitener.fit(np.ones((20, 6)), control=np.ones(20))
    np.testing.assert_array_equal(whitener.transform(X), Z)


def test_unfitted_and_wrong_width():
    X, control = sample()
    with pytest.raises(NotFittedError):
        ControlPCAWhitener().transform(X)
    with pytest.raises(NotFittedError):
        ControlPCAWhitener().inverse_transform(X)
    whitener = fitted(X, control, n_components=3)
    with pytest.raises(ValueError, match="X has 5 features"):
        whitener.transform(X[:, :5])
    with pytest.raises(ValueError, match=r"X has 6 columns.*the 3 that"):
        whitener.inverse_transform(X)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        fitted(X[:0], control[:0])


@pytest.mark.parametrize("shrinkage", [None, "auto"])
def test_overflow_is_told(shrinkage):
    X, control = sample()
    X[:, 1] *= 1e200
    with pytest.raises(ValueError, match=r"overflow float64 in 1 of 6.*feature 1"):
        fitted(X, control, shrinkage=shrinkage)


def test_overflow_in_transform_is_told():
    X, control = sample(dtype=np.float32)
    whitener = fitted(X * np.float32(1e-20), control)
    X[3] = 3e38
    with pytest.raises(ValueError, match=r"overflows float32 in 1 of 200.*row 3"):
        whitener.transform(X * np.float32([[1e-20]] * 3 + [[1]] + [[1e-20]] * 196))
    Z = np.full((2, 6), 3e38, dtype=np.float32)
    with pytest.raises(ValueError, match=r"overflows float32 in 2 of 2.*row 0"):
        fitted(X[5:], control[5:]).inverse_transform(Z)


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(
    "exponent", [-324, -310, -200, -170, -162, -150, -141, 155, 300]
)
def test_no_scale_of_the_controls_passes_with_wrong_digits(exponent, shrinkage, few):
    X = np.random.default_rng(0).normal(size=(4 if few else 60, 12)) + 3
    scale = 2.0 ** int(exponent / np.log10(2))
    match = "underflow float64.*Scale X up" if exponent < 0 else "overflow float64"
    with pytest.raises(ValueError, match=match):
        fitted(X * scale, shrinkage=shrinkage)


@pytest.mark.filterwarnings("ignore:.*control rows for 12 features")
@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("exponent", [-138, -100, -80, -72, -66, 70, 80, 149])
def test_a_power_of_two_changes_nothing_or_is_told(exponent, shrinkage, few):
    X = np.random.default_rng(0).normal(size=(4 if few else 60, 12)) + 3
    scale = 2.0 ** int(exponent / np.log10(2))
    if shrinkage == "auto" and not few and not -70 <= exponent <= 76:
        with pytest.raises(ValueError, match=r"fourth powers (under|over)flow float64"):
            fitted(X * scale, shrinkage=shrinkage)
        return
    whitener, expected = (fitted(Y, shrinkage=shrinkage) for Y in (X * scale, X))
    assert whitener.rank_ == expected.rank_
    np.testing.assert_allclose(
        whitener.explained_variance_ / scale / scale, expected.explained_variance_
    )
    Z = whitener.transform(X * scale)
    np.testing.assert_allclose(Z, expected.transform(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        whitener.inverse_transform(Z), X * scale, rtol=1e-9, atol=1e-9 * scale
    )


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30, 1e37])
def test_float32_at_its_limits_is_whitened(scale):
    X, control = sample(offset=0.0)
    expected = fitted(X, control).transform(X)
    tiny = (X * scale).astype(np.float32)
    Z = fitted(tiny, control).transform(tiny)
    np.testing.assert_allclose(np.abs(Z), np.abs(expected), atol=2e-3)


@pytest.mark.parametrize("shrinkage", [None, "auto"])
@pytest.mark.parametrize("layout", ["memmap", "fortran", "reversed", "float16", "list"])
def test_layouts_and_dtypes(layout, shrinkage, tmp_path):
    X, control = sample(dtype=np.float32)
    if layout == "float16":
        X = X.astype(np.float16).astype(np.float32)
    expected = fitted(X, control, shrinkage=shrinkage).transform(X)
    if layout == "memmap":
        np.save(tmp_path / "X.npy", X)
        given_ = np.load(tmp_path / "X.npy", mmap_mode="r")
    elif layout == "fortran":
        given_ = np.asfortranarray(X)
        given_.flags.writeable = False
    elif layout == "reversed":
        given_ = X[::-1].copy()[::-1]
    elif layout == "float16":
        given_ = X.astype(np.float16)
    else:
        given_ = list(X)
    for mask in (control, np.ones(200, dtype=bool)):
        whitener = fitted(given_, mask, shrinkage=shrinkage)
        Z = whitener.transform(given_)
        if mask is control:
            np.testing.assert_allclose(Z, expected, rtol=1e-3, atol=1e-4)
        assert Z.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_dtype_of_the_output_follows_the_input(method, dtype):
    X, control = sample()
    whitener = fitted(X, control, method=method)
    Z = whitener.transform(X.astype(dtype))
    assert Z.dtype == dtype
    assert whitener.inverse_transform(Z).dtype == dtype
    np.testing.assert_allclose(Z, whitener.transform(X), rtol=1e-3, atol=1e-4)


def test_input_is_left_alone():
    X, control = sample()
    kept = X.copy()
    whitener = fitted(X, control, shrinkage="auto")
    whitener.inverse_transform(whitener.transform(X))
    np.testing.assert_array_equal(X, kept)


# ---------------------------------------------------------------------------------
# scikit-learn's conventions


@pytest.mark.parametrize(
    "params", [{}, {"method": "zca"}, {"shrinkage": "auto"}, {"shrinkage": 0.5}]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(params):
    n_checks = 0
    for estimator, check in estimator_checks_generator(ControlPCAWhitener(**params)):
        # Those of the array API run below, on what is installed here.
        if "array_api" not in getattr(check, "func", check).__name__:
            check(estimator)
            n_checks += 1
    assert n_checks >= 46


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(method, library):
    X, control = sample()
    whitener = ControlPCAWhitener(n_components=4, method=method)
    Z = whitener.set_output(transform=library).fit(X, control=control).transform(X)
    assert type(Z).__module__.startswith(library)
    names = [f"controlpcawhitener{i}" for i in range(4 if method == "pca" else 6)]
    assert list(Z.columns) == names == list(whitener.get_feature_names_out())


def test_feature_names():
    X, control = sample()
    frame = pd.DataFrame(X, columns=list("abcdef"))
    whitener = fitted(frame, control)
    assert list(whitener.feature_names_in_) == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        whitener.transform(frame[list("bacdef")])


def test_state_is_numpy_and_survives_a_pickle():
    X, control = sample()
    whitener = fitted(X, control, shrinkage="auto")
    assert not any(isinstance(v, torch.Tensor) for v in vars(whitener).values())
    assert not any(isinstance(v, torch.Tensor) for v in whitener._moments.values())
    copy = pickle.loads(pickle.dumps(whitener))
    np.testing.assert_array_equal(copy.transform(X), whitener.transform(X))


# ---------------------------------------------------------------------------------
# Array API


@pytest.mark.parametrize("shrinkage", [None, "auto"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("namespace", "device", "dtype"),
    [
        ("numpy", None, None),
        ("torch", "cpu", "float32"),
        ("torch", "cpu", "float64"),
        ("array_api_strict", "CPU_DEVICE", "float64"),
        ("array_api_strict", "device1", "float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:Neither a control mask:UserWarning")
def test_array_api(namespace, device, dtype, method, shrinkage):
    check_array_api_input_and_values(
        "ControlPCAWhitener",
        ControlPCAWhitener(method=method, shrinkage=shrinkage),
        namespace,
        device_name=device,
        dtype_name=dtype,
    )


@pytest.mark.filterwarnings("ignore:Neither a control mask:UserWarning")
def test_array_api_mixed_and_same_namespace():
    strict = sklearn.utils.estimator_checks.NamespaceAndDevice(
        "array_api_strict", "device1"
    )
    cpu = sklearn.utils.estimator_checks.NamespaceAndDevice("torch", "cpu")
    name, estimator = "ControlPCAWhitener", ControlPCAWhitener()
    check_array_api_mixed_inputs(
        name, estimator, other_ns_and_device=strict, X_ns_and_device=cpu
    )
    check_array_api_same_namespace(name, estimator, "array_api_strict")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_torch_in_torch_out_with_a_mask_and_streaming(dtype):
    X, control = sample()
    X = torch.from_numpy(X).to(dtype)
    expected = fitted(X.double().numpy(), control).transform(X.double().numpy())
    with sklearn.config_context(array_api_dispatch=True):
        whitener = ControlPCAWhitener()
        for rows in (slice(0, 80), slice(80, None)):
            whitener.partial_fit(X[rows], control=torch.from_numpy(control[rows]))
        Z = whitener.transform(X)
        assert isinstance(Z, torch.Tensor)
        assert isinstance(whitener.components_, torch.Tensor)
        assert Z.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        back = whitener.inverse_transform(Z)
        assert isinstance(back, torch.Tensor)
        copy = pickle.loads(pickle.dumps(whitener))
        torch.testing.assert_close(copy.transform(X), Z, rtol=0, atol=0)
        by_label = ControlPCAWhitener(control_label="a")
        by_label.fit(X, np.where(control, "a", "b"))
        torch.testing.assert_close(by_label.transform(X), Z, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(Z.numpy(), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(back.numpy(), X.double().numpy(), atol=1e-3)


# ---------------------------------------------------------------------------------
# Few controls in many dimensions


def few_controls(seed, n, d, dtype=np.float64):
    """Rows of which the first n are controls, one feature being constant on them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n + 5, d)) * rng.uniform(0.5, 2, size=d) + rng.normal(size=d)
    X[:n, d // 2] = 0.5
    return X.astype(dtype), np.arange(n + 5) < n


@pytest.fixture
def dense():
    """Fit from the covariance, however few the controls."""

    def fit(X, control, **params):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_whitening, "_FEW", -1.0)
            return fitted(X, control, **params)

    return fit


def subspace(whitener, variance):
    """Projection on the axes of a variance."""
    axes = whitener.components_[np.isclose(whitener.explained_variance_, variance)]
    return axes.T @ axes


@pytest.mark.filterwarnings("ignore:.*fewer than 2 per feature")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    d=st.integers(4, 24),
    data=st.data(),
    shrinkage=st.sampled_from(SHRINKAGES),
    method=st.sampled_from(METHODS),
    dtype=st.sampled_from([np.float64, np.float32, np.float16]),
)
def test_few_controls_are_whitened_as_by_their_covariance(
    dense, seed, d, data, shrinkage, method, dtype
):
    n = data.draw(st.integers(2, d // 2))
    X, control = few_controls(seed, n, d, dtype)
    params = {"shrinkage": shrinkage, "method": method}
    expected = dense(X, control, **params)
    assert expected._moments["rows"] is None
    spectrum = expected.explained_variance_
    params["n_components"] = data.draw(
        st.sampled_from([None, 0.5, 0.9, 1, expected.rank_, (expected.rank_ + 1) // 2])
    )
    expected = dense(X, control, **params)
    few = fitted(X, control, **params)
    assert few._moments["scatter"] is None
    assert few.rank_ == expected.rank_
    assert few.n_components_ == expected.n_components_
    np.testing.assert_allclose(few.mean_, expected.mean_, rtol=1e-12, atol=1e-12)
    variances = expected.explained_variance_
    np.testing.assert_allclose(few.explained_variance_, variances, rtol=1e-9)
    gram = few.components_ @ few.components_.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-10)
    X = X.astype(np.float64)
    # Among axes of one variance any are right; if some are left out, so is any choice.
    spaces = {v: subspace(expected, v) for v in variances}
    if params["n_components"] in (None, expected.rank_):
        for variance, space in spaces.items():
            np.testing.assert_allclose(subspace(few, variance), space, atol=1e-6)
        if method == "zca":
            np.testing.assert_allclose(
                few.transform(X), expected.transform(X), rtol=1e-6, atol=1e-6
            )
    Z = few.transform(X)
    np.testing.assert_allclose(
        few.transform(few.inverse_transform(Z)), Z, rtol=1e-6, atol=1e-6
    )
    alone = np.array([np.isclose(spectrum, v).sum() == 1 for v in variances])
    if method == "pca":
        np.testing.assert_allclose(
            Z[:, alone], expected.transform(X)[:, alone], rtol=1e-5, atol=1e-5
        )


@pytest.mark.filterwarnings("ignore:.*fewer than 2 per feature")
@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 30),
    cuts=st.lists(st.integers(0, 30), max_size=4).map(sorted),
    shrinkage=st.sampled_from([None, 0.3, "auto"]),
)
def test_few_controls_stream_until_they_are_many(seed, n, cuts, shrinkage):
    X, control = few_controls(seed, n, 20)
    params = {"shrinkage": shrinkage, "method": "zca"}
    streamed = ControlPCAWhitener(**params)
    for rows, mask in zip(np.split(X, cuts), np.split(control, cuts), strict=True):
        if len(rows):
            streamed.partial_fit(rows, control=mask)
            streamed = pickle.loads(pickle.dumps(streamed))
    assert (streamed._moments["rows"] is None) == (n > 10)
    whole = fitted(X, control, **params)
    assert streamed.rank_ == whole.rank_
    np.testing.assert_allclose(
        streamed.transform(X), whole.transform(X), rtol=1e-6, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore:.*fewer than 2 per feature")
def test_controls_that_are_kept_are_copies():
    X, control = few_controls(0, 6, 20)
    whitener = fitted(X[:6], control[:6])
    kept = whitener._moments["rows"].copy()
    X += 1
    np.testing.assert_array_equal(whitener._moments["rows"], kept)


@pytest.mark.filterwarnings("ignore:.*fewer than 2 per feature")
@pytest.mark.parametrize("shrinkage", [None, 0.3, "auto"])
def test_few_controls_need_no_covariance(monkeypatch, shrinkage):
    """Neither a matrix of n_features^2 nor its eigenvectors, for a few axes."""

    def refuse(*args):
        raise AssertionError

    for name in ("batch_moments", "covariance", "principal_axes", "complement"):
        monkeypatch.setattr(_whitening, name, refuse)
    X, control = few_controls(0, 6, 40)
    whitener = fitted(X, control, n_components=4, shrinkage=shrinkage)
    assert whitener.rank_ == {None: 5, 0.3: 40, "auto": 39}[shrinkage]
    largest = max(a.size for a in vars(whitener).values() if hasattr(a, "size"))
    assert largest == 4 * 40


@pytest.mark.filterwarnings("ignore:.*fewer than 2 per feature")
@pytest.mark.parametrize("share", [3, 0.5, 0.999999999])
def test_axes_that_are_not_found_alone(monkeypatch, dense, share):
    monkeypatch.setattr(_whitening, "leading_shrunk_axes", lambda *args: None)
    X, control = few_controls(0, 6, 40)
    params = {"n_components": share, "shrinkage": "auto"}
    few, expected = fitted(X, control, **params), dense(X, control, **params)
    assert (few.rank_, few.n_components_) == (expected.rank_, expected.n_components_)
    np.testing.assert_allclose(few.explained_variance_, expected.explained_variance_)


@pytest.mark.parametrize("params", [{}, {"n_components": 3}])
def test_what_is_missing_is_told_without_solving_anew(monkeypatch, params):
    X, _ = few_controls(0, 6, 20)
    whitener = ControlPCAWhitener(**params).partial_fit(X[:1], control=[True])
    monkeypatch.setattr(_whitening, "rounding_variance", None)
    with pytest.raises(ValueError, match="n_samples = 1"):
        whitener.transform(X)


def test_a_label_that_no_row_has_is_named_beside_those_there_are():
    X = np.random.default_rng(0).normal(size=(14, 2))
    y = np.repeat(list("abcdefg"), 2)
    message = (
        r"label='DMSO' is not among the 7 labels in y: 'a', 'b', 'c', 'd', 'e', \.\.\."
    )
    with pytest.raises(ValueError, match=message):
        ControlPCAWhitener(control_label="DMSO").fit(X, y)
