"""ControlCenterScaler: what it takes off, fallbacks, routing, streaming, bad input."""

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdict import ControlCenterScaler, ControlPCAWhitener, load, save
from skdict.preprocessing import _centring, _rows


def sample(n=240, d=4, seed=0, n_batches=3, dtype=np.float64, offset=3.0):
    """Rows whose mean and spread depend on their batch; half of them controls."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_batches
    control = rng.random(n) < 0.5
    control[: 12 * n_batches] = True
    X = rng.normal(size=(n, d)) * (1 + codes)[:, None] * rng.uniform(0.5, 2, d)
    X += offset * codes[:, None] + 2.0 * ~control[:, None]
    return X.astype(dtype), control, np.array(["c", "a", "b", "d", "e"])[codes]


def treated(n=360, seed=0):
    """A treatment that can be told only where the batch is taken off: X, y, ..."""
    rng = np.random.default_rng(seed)
    batch = rng.permutation(np.arange(n) % 3)
    y = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 4)) + 5.0 * batch[:, None]
    X[:, 0] += 2.5 * y
    return X, y, y == 0, np.array(["p1", "p2", "p3"])[batch]


def reference(X, control, batch, *, min_controls=10, with_scaling=True):
    """The same, row by row and in the words of the documentation."""
    X = np.asarray(X, dtype=np.float64)
    names = np.unique(batch)
    pooled_mean = X[control].mean(axis=0)
    squares, degrees = 0.0, 0
    for name in names:
        rows = X[control & (batch == name)]
        if len(rows):
            squares = squares + ((rows - rows.mean(axis=0)) ** 2).sum(axis=0)
            degrees += len(rows) - 1
    pooled_scale = np.sqrt(squares / degrees)
    Z = np.empty_like(X)
    for name in names:
        rows = X[control & (batch == name)]
        mean, scale = pooled_mean, pooled_scale
        if len(rows) >= min_controls:
            mean, scale = rows.mean(axis=0), rows.std(axis=0, ddof=1)
        Z[batch == name] = X[batch == name] - mean
        if with_scaling:
            Z[batch == name] /= scale
    return Z


# ---------------------------------------------------------------------------------
# What it does


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    n_batches=st.integers(1, 5),
    with_scaling=st.booleans(),
    offset=st.sampled_from([0.0, 3.0, 1e5]),
)
def test_equals_the_definition(seed, n_batches, with_scaling, offset):
    X, control, batch = sample(seed=seed, n_batches=n_batches, offset=offset)
    scaler = ControlCenterScaler(with_scaling=with_scaling)
    Z = scaler.fit_transform(X, control=control, batch=batch)
    expected = reference(X, control, batch, with_scaling=with_scaling)
    np.testing.assert_allclose(Z, expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(scaler.inverse_transform(Z, batch=batch), X, rtol=1e-10)
    np.testing.assert_array_equal(scaler.batches_, np.unique(batch))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_controls_of_each_batch_come_out_standardised(dtype, offset):
    X, control, batch = sample(dtype=dtype, offset=offset)
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    Z = scaler.transform(X, batch=batch)
    assert Z.dtype == dtype
    assert scaler.mean_.dtype == np.float64
    for name in "abc":
        rows = Z[control & (batch == name)].astype(np.float64)
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(rows.var(axis=0, ddof=1), 1, atol=1e-5)


def test_one_batch_of_controls_is_standard_scaler():
    X, _, batch = sample(n_batches=1)
    every = np.ones(len(X), dtype=bool)
    ours = ControlCenterScaler().fit_transform(X, control=every, batch=batch)
    n = len(X)
    expected = StandardScaler().fit_transform(X) * np.sqrt((n - 1) / n)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    shift=st.floats(-100, 100),
    exponent=st.integers(-20, 20),
)
def test_what_a_batch_adds_and_multiplies_by_does_not_matter(seed, shift, exponent):
    X, control, batch = sample(seed=seed)
    moved = X.copy()
    moved[batch == "b"] = moved[batch == "b"] * 2.0**exponent + shift * 2.0**exponent
    Z, Z_moved = (
        ControlCenterScaler().fit_transform(A, control=control, batch=batch)
        for A in (X, moved)
    )
    np.testing.assert_allclose(Z_moved, Z, rtol=1e-8, atol=1e-8)


def test_other_rows_do_not_matter():
    X, control, batch = sample()
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    changed = X.copy()
    changed[~control] *= 100
    other = ControlCenterScaler().fit(changed, control=control, batch=batch)
    np.testing.assert_array_equal(scaler.mean_, other.mean_)
    np.testing.assert_array_equal(scaler.scale_, other.scale_)


def test_attributes():
    X, control, batch = sample()
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    assert scaler.batches_.tolist() == ["a", "b", "c"]
    counts = [np.sum(control & (batch == name)) for name in "abc"]
    assert scaler.n_batch_control_samples_.tolist() == counts
    assert scaler.n_control_samples_ == control.sum()
    assert scaler.mean_.shape == scaler.scale_.shape == (3, 4)
    np.testing.assert_allclose(scaler.pooled_mean_, X[control].mean(axis=0))
    # The spread within batches, not the one that their distance adds to.
    assert (scaler.pooled_scale_ < X[control].std(axis=0)).all()


def test_without_scaling_the_scale_is_one():
    X, control, batch = sample()
    scaler = ControlCenterScaler(with_scaling=False)
    scaler.fit(X, control=control, batch=batch)
    assert (scaler.scale_ == 1).all()
    assert (scaler.pooled_scale_ == 1).all()


def test_comes_before_the_whitener():
    X, control, batch = sample(n=600)
    pipe = make_pipeline(ControlCenterScaler(), ControlPCAWhitener())
    Z = pipe.fit_transform(
        X,
        controlcenterscaler__control=control,
        controlcenterscaler__batch=batch,
        controlpcawhitener__control=control,
    )
    np.testing.assert_allclose(np.cov(Z[control].T), np.eye(4), atol=1e-9)
    for name in "abc":
        mean = Z[control & (batch == name)].mean(axis=0)
        np.testing.assert_allclose(mean, 0, atol=1e-9)


def test_blocks_do_not_change_the_result(monkeypatch):
    X, control, batch = sample()
    whole = ControlCenterScaler().fit(X, control=control, batch=batch)
    Z = whole.transform(X, batch=batch)
    monkeypatch.setattr(_centring, "_READ_ENTRIES", 28)
    monkeypatch.setattr(_rows, "_BLOCK_ENTRIES", 28)
    blocks = ControlCenterScaler().fit(X, control=control, batch=batch)
    np.testing.assert_allclose(blocks.mean_, whole.mean_, rtol=1e-12)
    np.testing.assert_allclose(blocks.scale_, whole.scale_, rtol=1e-12)
    np.testing.assert_array_equal(whole.transform(X, batch=batch), Z)


# ---------------------------------------------------------------------------------
# Where the controls of a batch do not tell


def test_few_controls_get_the_pooled_statistics():
    X, control, batch = sample()
    control[(batch == "a") & (np.cumsum(batch == "a") > 9)] = False
    control[batch == "b"] = False
    with pytest.warns(UserWarning, match=r"2 of 3 batches .*first is 'a' with 9\)"):
        scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    np.testing.assert_allclose(
        scaler.transform(X, batch=batch), reference(X, control, batch)
    )
    np.testing.assert_array_equal(scaler.mean_[0], scaler.pooled_mean_)
    np.testing.assert_array_equal(scaler.scale_[1], scaler.pooled_scale_)
    nine = ControlCenterScaler(min_controls=9)
    with pytest.warns(UserWarning, match="1 of 3 batches"):
        nine.fit(X, control=control, batch=batch)
    np.testing.assert_allclose(
        nine.transform(X, batch=batch), reference(X, control, batch, min_controls=9)
    )


def test_a_single_control_gives_a_mean_but_no_scale():
    X, control, batch = sample()
    control[(batch == "a") & (np.cumsum(batch == "a") > 1)] = False
    scaler = ControlCenterScaler(min_controls=1)
    scaler.fit(X, control=control, batch=batch)
    np.testing.assert_allclose(scaler.mean_[0], X[control & (batch == "a")][0])
    np.testing.assert_array_equal(scaler.scale_[0], scaler.pooled_scale_)


def test_one_control_in_all():
    X, _, batch = sample()
    control = np.arange(len(X)) == 7
    scaler = ControlCenterScaler(min_controls=1)
    with pytest.warns(UserWarning, match="2 of 3 batches"):
        Z = scaler.fit_transform(X, control=control, batch=batch)
    np.testing.assert_allclose(Z, X - X[7])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_constant_features(dtype):
    X, control, batch = sample()
    X[:, 0] = 0.1  # on all
    X[batch == "a", 1] = 1 / 3  # on one batch
    X[control, 2] = 7.0  # on the controls
    X = X.astype(dtype)
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    Z = scaler.transform(X, batch=batch)
    assert np.isfinite(Z).all()
    np.testing.assert_array_equal(scaler.scale_[:, 0], 1)
    np.testing.assert_allclose(Z[:, 0], 0, atol=1e-6)
    assert scaler.scale_[0, 1] == scaler.pooled_scale_[1] > 0.1
    np.testing.assert_array_equal(scaler.scale_[:, 2], 1)
    np.testing.assert_allclose(
        Z[~control, 2], X[~control, 2].astype(float) - 7, atol=1e-5
    )


def test_a_feature_that_varies_by_rounding_only_is_constant():
    X, control, batch = sample(dtype=np.float32)
    X[:, 0] = np.nextafter(np.float32(100), np.float32(200))
    X[::2, 0] = 100
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    np.testing.assert_array_equal(scaler.scale_[:, 0], 1)


def test_tiny_and_huge_features():
    X, control, batch = sample()
    scaler = ControlCenterScaler()
    Z = scaler.fit_transform(X, control=control, batch=batch)
    for exponents in ([-140, -30, 30, 140], [-308, -170, 170, 300]):
        scaled = X * 10.0 ** np.array(exponents)
        Z_scaled = scaler.fit_transform(scaled, control=control, batch=batch)
        np.testing.assert_allclose(Z_scaled, Z, rtol=1e-7, atol=1e-7)
        back = scaler.inverse_transform(Z_scaled, batch=batch)
        np.testing.assert_allclose(back, scaled, rtol=1e-7)
    with pytest.raises(ValueError, match="sums overflow float64 in 4 of 4 features"):
        scaler.fit(np.copysign(1.5e308, X), control=control, batch=batch)


def test_parameters_that_are_numbers_are_no_booleans():
    X, control, _ = sample()
    for params in ({"min_controls": True}, {"batch_column": True}):
        with pytest.raises(ValueError, match=f"{next(iter(params))}.* Got True"):
            ControlCenterScaler(**params).fit(X, control=control)


# ---------------------------------------------------------------------------------
# Batches that fit did not see


def test_unseen_pooled():
    X, control, batch = sample()
    seen = batch != "c"
    scaler = ControlCenterScaler()
    scaler.fit(X[seen], control=control[seen], batch=batch[seen])
    with pytest.warns(UserWarning, match=r"80 of 240 rows .*, 1 in .*'c' in row 0"):
        Z = scaler.transform(X, batch=batch)
    np.testing.assert_allclose(
        Z[~seen], (X[~seen] - scaler.pooled_mean_) / scaler.pooled_scale_
    )
    np.testing.assert_array_equal(Z[seen], scaler.transform(X[seen], batch=batch[seen]))
    with pytest.warns(UserWarning, match="pooled"):
        np.testing.assert_allclose(scaler.inverse_transform(Z, batch=batch), X)


def test_unseen_raise():
    X, control, batch = sample()
    seen = batch != "c"
    scaler = ControlCenterScaler(unseen="raise")
    scaler.fit(X[seen], control=control[seen], batch=batch[seen])
    scaler.transform(X[seen], batch=batch[seen])
    with pytest.raises(ValueError, match="80 of 240 rows"):
        scaler.transform(X, batch=batch)
    with pytest.raises(ValueError, match="No batch is given, but fit saw 2"):
        scaler.transform(X)


def test_unseen_own_equals_having_seen():
    X, control, batch = sample(n_batches=5)
    seen = np.isin(batch, ["a", "d"])
    scaler = ControlCenterScaler(unseen="own")
    scaler.fit(X[seen], control=control[seen], batch=batch[seen])
    Z = scaler.transform(X, batch=batch, control=control)
    np.testing.assert_allclose(Z, reference(X, control, batch), rtol=1e-9)
    assert scaler.batches_.tolist() == ["a", "d"]
    with pytest.raises(ValueError, match="needs batch and control in transform"):
        scaler.transform(X, batch=batch)
    with pytest.raises(ValueError, match="needs batch and control in transform"):
        scaler.transform(X)
    with pytest.raises(ValueError, match="144 of 240 rows"):
        scaler.inverse_transform(Z, batch=batch)
    # Seen batches need no control, and rows of theirs are not learnt from.
    np.testing.assert_array_equal(
        scaler.transform(X[seen][:3], batch=batch[seen][:3]), Z[seen][:3]
    )


def test_unseen_own_with_too_few_controls():
    X, control, batch = sample()
    seen = batch != "c"
    scaler = ControlCenterScaler(unseen="own")
    scaler.fit(X[seen], control=control[seen], batch=batch[seen])
    few = control & (seen | (np.cumsum(control & ~seen) <= 9))
    with pytest.warns(UserWarning, match="1 of 1 batches .*'c' with 9"):
        Z = scaler.transform(X, batch=batch, control=few)
    np.testing.assert_allclose(
        Z[~seen], (X[~seen] - scaler.pooled_mean_) / scaler.pooled_scale_
    )


def test_no_batch_in_transform_is_pooled_with_a_warning():
    X, control, batch = sample()
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    with pytest.warns(UserWarning, match="No batch is given, but fit saw 3"):
        Z = scaler.transform(X)
    np.testing.assert_allclose(Z, (X - scaler.pooled_mean_) / scaler.pooled_scale_)


def test_no_batch_at_all():
    X, control, _ = sample()
    with pytest.warns(UserWarning, match="taken for one batch"):
        scaler = ControlCenterScaler(unseen="raise").fit(X, control=control)
    Z = scaler.transform(X)
    np.testing.assert_allclose(Z[control].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(Z[control].var(axis=0, ddof=1), 1)
    assert scaler.batches_ is None
    assert scaler.n_batch_control_samples_ is None
    np.testing.assert_array_equal(scaler.mean_, [scaler.pooled_mean_])
    with pytest.raises(ValueError, match="240 of 240 rows are of batches"):
        scaler.transform(X, batch=np.ones(len(X)))


# ---------------------------------------------------------------------------------
# Streaming


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 240), max_size=4))
def test_partial_fit_equals_fit(seed, cuts):
    X, control, batch = sample(seed=seed, offset=1e3)
    edges = [0, *sorted(cuts), 240]
    streamed = ControlCenterScaler()
    for start, stop in pairwise(edges):
        if start < stop:
            part = slice(start, stop)
            streamed.partial_fit(X[part], control=control[part], batch=batch[part])
    whole = ControlCenterScaler().fit(X, control=control, batch=batch)
    np.testing.assert_array_equal(streamed.batches_, whole.batches_)
    np.testing.assert_array_equal(
        streamed.n_batch_control_samples_, whole.n_batch_control_samples_
    )
    np.testing.assert_allclose(streamed.mean_, whole.mean_, rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(streamed.scale_, whole.scale_, rtol=1e-9)
    np.testing.assert_allclose(streamed.pooled_scale_, whole.pooled_scale_, rtol=1e-9)


def test_partial_fit_after_fit_adds_a_batch():
    X, control, batch = sample()
    old = batch != "b"
    scaler = ControlCenterScaler()
    scaler.fit(X[old], control=control[old], batch=batch[old])
    scaler.partial_fit(X[~old], control=control[~old], batch=batch[~old])
    np.testing.assert_allclose(
        scaler.transform(X, batch=batch), reference(X, control, batch)
    )


def test_partial_fit_without_controls_waits():
    X, control, batch = sample()
    scaler = ControlCenterScaler()
    scaler.partial_fit(X[~control], control=control[~control], batch=batch[~control])
    with pytest.raises(ValueError, match="No control row in any"):
        scaler.transform(X, batch=batch)
    scaler.partial_fit(X[control], control=control[control], batch=batch[control])
    np.testing.assert_allclose(
        scaler.transform(X, batch=batch), reference(X, control, batch)
    )


def test_partial_fit_remembers_the_coarsest_input():
    X, control, batch = sample()
    X[:, 0] = np.where(np.arange(240) % 2, 100, np.nextafter(np.float32(100), 200))
    scaler = ControlCenterScaler()
    scaler.partial_fit(X.astype(np.float32), control=control, batch=batch)
    scaler.partial_fit(X, control=control, batch=batch)
    np.testing.assert_array_equal(scaler.scale_[:, 0], 1)


def test_partial_fit_warns_of_few_controls_in_transform_only():
    X, control, batch = sample()
    scaler = ControlCenterScaler(min_controls=1000)
    scaler.partial_fit(X, control=control, batch=batch)
    with pytest.warns(UserWarning, match="3 of 3 batches"):
        scaler.transform(X, batch=batch)


def test_partial_fit_with_and_without_batches():
    X, control, batch = sample()
    scaler = ControlCenterScaler().partial_fit(X, control=control, batch=batch)
    with (
        pytest.warns(UserWarning, match="one batch"),
        pytest.raises(ValueError, match="before were with"),
    ):
        scaler.partial_fit(X, control=control)
    with pytest.raises(ValueError, match=r"numbers now, such as 1, .*fit, such as 'a'"):
        scaler.partial_fit(X, control=control, batch=np.ones(len(X), dtype=int))


# ---------------------------------------------------------------------------------
# Pipelines and routing


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


def pipeline(**params):
    return make_pipeline(
        ControlCenterScaler(**params), ControlPCAWhitener(), LogisticRegression()
    )


def test_routing_reaches_fit_and_transform(routing):
    X, y, control, batch = treated()
    metadata = {"control": control, "batch": batch}
    pipe = pipeline().fit(X, y, **metadata)
    step = pipe[0]
    np.testing.assert_allclose(
        step.transform(X, batch=batch), reference(X, control, batch)
    )
    accuracy = pipe.score(X, y, batch=batch)
    assert accuracy > 0.75
    assert (pipe.predict(X, batch=batch) == y).mean() == accuracy


def test_routing_in_cross_validation(routing):
    X, y, control, batch = treated()
    params = {"control": control, "batch": batch}
    folds = list(StratifiedKFold(3).split(X, control))
    scores = cross_val_score(pipeline(), X, y, cv=folds, params=params)
    expected = []
    for train, test in folds:
        pipe = pipeline().fit(
            X[train], y[train], control=control[train], batch=batch[train]
        )
        expected.append(pipe.score(X[test], y[test], batch=batch[test]))
    np.testing.assert_array_equal(scores, expected)
    search = GridSearchCV(
        pipeline(), {"controlcenterscaler__with_scaling": [True, False]}, cv=folds
    ).fit(X, y, **params)
    assert search.best_score_ >= scores.mean()
    assert search.best_estimator_.score(X, y, batch=batch) > 0.75


def test_held_out_batches_are_centred_on_their_own_controls(routing):
    X, y, control, batch = treated()
    params = {"control": control, "batch": batch, "groups": batch}
    own = pipeline(unseen="own")
    assert cross_val_score(own, X, y, cv=GroupKFold(3), params=params).min() > 0.65
    with pytest.warns(UserWarning, match="batches that fit did not see"):
        pooled = cross_val_score(pipeline(), X, y, cv=GroupKFold(3), params=params)
    assert pooled.mean() < 0.55


def test_scorers_do_not_pass_the_batch_on(routing):
    """The gap of scikit-learn that the documentation speaks of; closed by a column."""
    X, y, control, batch = treated()
    with pytest.warns(UserWarning, match="No batch is given, but fit saw 3"):
        lost = cross_validate(
            pipeline(),
            X,
            y,
            cv=3,
            params={"control": control, "batch": batch},
            scoring="balanced_accuracy",
        )
    frame = pd.DataFrame(X, columns=list("abcd")).assign(plate=batch)
    kept = cross_validate(
        pipeline(batch_column="plate"),
        frame,
        y,
        cv=3,
        params={"control": control},
        scoring="balanced_accuracy",
    )
    assert lost["test_score"].mean() < 0.6 < 0.7 < kept["test_score"].mean()


def test_without_routing():
    X, y, control, batch = treated()
    params = {
        "controlcenterscaler__control": control,
        "controlcenterscaler__batch": batch,
        "controlpcawhitener__control": control,
    }
    pipe = pipeline().fit(X, y, **params)
    np.testing.assert_allclose(pipe[0].mean_[1], X[control & (batch == "p2")].mean(0))
    # In fit the training rows were centred by batch, so the whitener saw no batches.
    np.testing.assert_allclose(pipe[1].mean_, 0, atol=1e-10)
    with pytest.warns(UserWarning, match="set_config"):
        pipe.predict(X)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(plate=batch)
    del params["controlcenterscaler__batch"]
    by_column = pipeline(batch_column="plate").fit(frame, y, **params)
    assert by_column.score(frame, y) > 0.75
    scores = cross_val_score(
        pipeline(batch_column="plate"),
        frame,
        y,
        cv=GroupKFold(3),
        groups=np.arange(len(y)) % 30,
        params=params,
        scoring="balanced_accuracy",
    )
    assert scores.min() > 0.65


# ---------------------------------------------------------------------------------
# The batch as a column of X


@pytest.mark.parametrize("kind", ["pandas", "polars", "array", "list", "negative"])
def test_batch_column(kind):
    X, control, batch = sample()
    codes = np.unique(batch, return_inverse=True)[1]
    column = "plate"
    if kind == "pandas":
        table = pd.DataFrame(X, columns=list("wxyz"))
        table.insert(1, "plate", batch)
    elif kind == "polars":
        table = pl.DataFrame({"w": X[:, 0], "plate": batch}).with_columns(
            **{name: X[:, i] for i, name in enumerate("xyz", 1)}
        )
    else:
        table, column = np.insert(X, 1, codes, axis=1), 1
        if kind == "list":
            table = table.tolist()
        if kind == "negative":
            column = -4
    scaler = ControlCenterScaler(batch_column=column)
    Z = scaler.fit_transform(table, control=control)
    np.testing.assert_allclose(Z, reference(X, control, batch))
    assert scaler.n_features_in_ == 4
    if kind in ("pandas", "polars"):
        assert scaler.get_feature_names_out().tolist() == list("wxyz")
        out = scaler.set_output(transform=kind).transform(table)
        assert list(out.columns) == list("wxyz")
    np.testing.assert_allclose(
        scaler.inverse_transform(
            Z, batch=batch if kind in ("pandas", "polars") else codes
        ),
        X,
    )


def test_batch_column_of_strings_in_a_list_keeps_the_digits():
    X, control, batch = sample()
    X += 1e6
    table = [[*row, label] for row, label in zip(X.tolist(), batch, strict=True)]
    Z = ControlCenterScaler(batch_column=-1).fit_transform(table, control=control)
    expected = ControlCenterScaler().fit_transform(X, control=control, batch=batch)
    np.testing.assert_array_equal(Z, expected)


def test_batch_column_that_is_not_there():
    X, control, batch = sample()
    frame = pd.DataFrame(X, columns=list("wxyz"))
    for X_, column, match in [
        (frame, "plate", "no column 'plate'"),
        (X, "plate", "no named columns: it is a ndarray"),
        (X, 4, "X has 4 columns"),
        (X, -5, "X has 4 columns"),
        (X[:, 0], 0, "1D array"),
    ]:
        with pytest.raises(ValueError, match=match):
            ControlCenterScaler(batch_column=column).fit(X_, control=control)
    with pytest.raises(ValueError, match="given twice"):
        ControlCenterScaler(batch_column="w").fit(frame, control=control, batch=batch)


# ---------------------------------------------------------------------------------
# Labels of batches


@pytest.mark.parametrize(
    "labels",
    [
        np.array([3, 1, 2]),
        np.array([2.0, -1.0, 1e9]),
        np.array(["x", "yy", "z"], dtype=object),
        np.array([True, False, False]),
        np.array([10, 2, 3], dtype=object),
        np.array(["2020-01-01", "2021-01-01", "2019-01-01"], dtype="datetime64[D]"),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_of_any_sort(labels):
    X, control, batch = sample()
    batch = labels[np.unique(batch, return_inverse=True)[1]]
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    np.testing.assert_allclose(
        scaler.transform(X, batch=batch),
        reference(X, control, np.array([str(b) for b in batch])),
    )
    assert scaler.batches_.dtype != object


@pytest.mark.parametrize(
    "make",
    [
        list,
        pd.Series,
        pl.Series,
        pd.Categorical,
        lambda b: pd.Series(b, dtype="string"),
    ],
)
def test_labels_in_any_container(make):
    X, control, batch = sample()
    scaler = ControlCenterScaler().fit(X, control=control, batch=make(batch))
    np.testing.assert_allclose(
        scaler.transform(X, batch=make(batch)), reference(X, control, batch)
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda b: b[:-1], "240 rows, but batch has length 239"),
        (lambda b: np.where(b == "a", None, b), "holds 80 missing .* of 240, .* row 1"),
        (lambda b: np.where(b == "a", np.nan, 1.0), "holds 80 missing"),
        (lambda b: np.where(b == "a", 0.5, 1.0), "batch holds fractional"),
        (lambda b: np.where(b == "a", 1, b.astype(object)), "mixes .* int and str"),
        (lambda b: np.full(len(b), {}), "of type dict"),
    ],
)
def test_bad_labels(change, match):
    X, control, batch = sample()
    with pytest.raises(ValueError, match=match):
        ControlCenterScaler().fit(X, control=control, batch=change(batch))
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    with pytest.raises(ValueError, match=match):
        scaler.transform(X, batch=change(batch))


@pytest.mark.parametrize("later", [1, True, "a"])
def test_dates_are_no_other_labels(later):
    X = np.arange(12.0).reshape(6, 2)
    dates = np.repeat(np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), 3)
    control = np.ones(6, dtype=bool)
    scaler = ControlCenterScaler(min_controls=2).fit(X, control=control, batch=dates)
    with pytest.raises(ValueError, match="but dates in fit"):
        scaler.transform(X, batch=np.full(6, later))
    with pytest.raises(ValueError, match="but dates in fit"):
        scaler.partial_fit(X, control=control, batch=np.full(6, later))


def test_labels_of_another_sort_than_in_fit():
    X, control, batch = sample()
    codes = np.unique(batch, return_inverse=True)[1]
    scaler = ControlCenterScaler().fit(X, control=control, batch=codes)
    with pytest.raises(ValueError, match="strings now, such as 'c', but whole numbers"):
        scaler.transform(X, batch=batch)
    Z = scaler.transform(X, batch=codes.astype(float))
    np.testing.assert_allclose(Z, reference(X, control, batch))


# ---------------------------------------------------------------------------------
# Controls and rows


def test_control_label():
    X, control, batch = sample()
    y = np.where(control, "DMSO", "drug")
    scaler = ControlCenterScaler(control_label="DMSO").fit(X, y, batch=batch)
    np.testing.assert_allclose(
        scaler.transform(X, batch=batch), reference(X, control, batch)
    )


def test_no_controls():
    X, control, batch = sample()
    with pytest.raises(
        ValueError, match=r"None of the 240 rows .* StratifiedGroupKFold"
    ):
        ControlCenterScaler().fit(X, control=control & False, batch=batch)
    with pytest.warns(UserWarning, match="controlcenterscaler__control=mask"):
        every = ControlCenterScaler().fit(X, batch=batch)
    assert every.n_control_samples_ == len(X)


@pytest.mark.parametrize(
    ("control", "match"),
    [
        (np.ones(239, dtype=bool), "240 rows, but control has length 239"),
        (np.arange(240), "neither"),
        (np.full(240, "x"), "'x' at row 0"),
    ],
)
def test_bad_masks(control, match):
    X, good, batch = sample()
    with pytest.raises(ValueError, match=match):
        ControlCenterScaler().fit(X, control=control, batch=batch)
    scaler = ControlCenterScaler(unseen="own").fit(X, control=good, batch=batch)
    with pytest.raises(ValueError, match=match):
        scaler.transform(X, control=control, batch=np.full(240, "new"))


def test_bad_rows():
    X, control, batch = sample()
    scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    bad = X.copy()
    bad[5, 2] = np.nan
    for call in (
        lambda: scaler.transform(bad, batch=batch),
        lambda: scaler.inverse_transform(bad, batch=batch),
        lambda: ControlCenterScaler().fit(bad, control=control, batch=batch),
    ):
        with pytest.raises(ValueError, match=r"in 1 of 240 rows.* row 5"):
            call()
    with pytest.raises(ValueError, match="3 columns"):
        scaler.inverse_transform(X[:, :3], batch=batch)
    with pytest.raises(ValueError, match="overflows float32"):
        scaler.inverse_transform(np.full((1, 4), 3e38, np.float32), batch=["a"])
    with pytest.raises(NotFittedError):
        ControlCenterScaler().transform(X, batch=batch)


# ---------------------------------------------------------------------------------
# As an estimator


def test_save_and_load(tmp_path):
    X, control, batch = sample()
    frame = pd.DataFrame(X, columns=list("wxyz")).assign(plate=batch)
    pipe = make_pipeline(ControlCenterScaler(batch_column="plate"), StandardScaler())
    pipe.fit(frame, controlcenterscaler__control=control)
    save(pipe, tmp_path / "pipe.skops")
    restored = load(tmp_path / "pipe.skops")
    np.testing.assert_array_equal(restored.transform(frame), pipe.transform(frame))
    # Pickled and restored ones go on learning.
    for other in (restored[0], pickle.loads(pickle.dumps(pipe[0]))):
        new = frame.assign(plate="new")
        other.partial_fit(new, control=control)
        assert other.batches_.tolist() == ["a", "b", "c", "new"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_in_torch_out(dtype):
    X, control, batch = sample()
    expected = ControlCenterScaler().fit_transform(X, control=control, batch=batch)
    X = torch.from_numpy(X).to(dtype)
    with config_context(array_api_dispatch=True):
        scaler = ControlCenterScaler(unseen="own")
        Z = scaler.fit_transform(X, control=torch.from_numpy(control), batch=batch)
        assert isinstance(Z, torch.Tensor)
        assert isinstance(scaler.mean_, torch.Tensor)
        assert Z.dtype == dtype
        new = np.char.add(batch, "'")
        own = scaler.transform(X, control=control, batch=new)
        back = scaler.inverse_transform(Z, batch=batch)
    np.testing.assert_allclose(Z, expected, atol=1e-4)
    np.testing.assert_allclose(own, expected, atol=1e-4)
    np.testing.assert_allclose(back, X, atol=1e-4)


def test_clone_and_input_unchanged():
    X, control, batch = sample()
    before = X.copy()
    scaler = ControlCenterScaler(min_controls=3, unseen="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(scaler).fit_transform(X, control=control, batch=batch)
    np.testing.assert_array_equal(X, before)
    X.setflags(write=False)
    scaler.fit(np.asfortranarray(X), control=control, batch=batch)


def test_a_label_that_no_row_has_is_named_beside_those_there_are():
    X = np.random.default_rng(0).normal(size=(14, 2))
    y = np.repeat(list("abcdefg"), 2)
    message = (
        r"label='DMSO' is not among the 7 labels in y: 'a', 'b', 'c', 'd', 'e', \.\.\."
    )
    with pytest.raises(ValueError, match=message):
        ControlCenterScaler(control_label="DMSO").fit(X, y, batch=y)
