"""Streams: fits by `partial_fit`."""

import contextlib
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    CLASSES,
    KINDS,
    PLANTED,
    X,
    assert_sound,
    dictionaries,
    fitted,
    planted,
    recovered,
    same_fit,
    steps_per_epoch,
)

from skdict import ICFL, Codebook, TopKSAE
from skdict.metrics import match_dictionaries


def stream(model, n_passes, rows=X):
    for _ in range(n_passes):
        for batch in np.array_split(rows, 6):
            model.partial_fit(batch)
    return model


def test_stream_comes_near_fit():
    streamed = stream(planted(ICFL), 30)
    assert streamed.score(X) > fitted(ICFL).score(X)
    assert recovered(streamed, PLANTED) > 0.9
    assert streamed.n_iter_ == len(streamed.history_) == 180
    assert [r["epoch"] for r in streamed.history_] == list(range(1, 181))


def test_stream_of_topk_sae_comes_near_fit():
    streamed = stream(planted(TopKSAE, learning_rate=1e-2), 25)
    assert streamed.score(X) > fitted(TopKSAE).score(X) - 0.05


@dictionaries
def test_partial_fit_goes_on_after_fit(cls):
    model = fitted(cls, max_iter=10)
    score, n_iter, n_steps = model.score(X), model.n_iter_, model.n_steps_
    atoms = model.components_.copy()
    model.partial_fit(X)
    assert model.n_iter_ == len(model.history_) == n_iter + 1
    assert model.n_steps_ == n_steps + steps_per_epoch(cls)
    assert model.score(X) > score - 0.02
    assert match_dictionaries(atoms, model.components_)[1].mean() > 0.9
    assert not np.array_equal(atoms, model.components_)


# What a stream remembers


@dictionaries
def test_stream_goes_on_to_the_bit_after_pickling(cls):
    # Several batches a call: their order is drawn.
    model = planted(cls, batch_size=50)
    batches = np.array_split(X, 6)
    for batch in batches[:3]:
        model.partial_fit(batch)
    copied = pickle.loads(pickle.dumps(model))
    early = pickle.loads(pickle.dumps(model))
    forgetful = pickle.loads(pickle.dumps(model))
    forgetful._training_state = None
    for batch in batches[3:]:
        model.partial_fit(batch)
        copied.partial_fit(batch)
        forgetful.partial_fit(batch)
    same_fit(model, copied)
    assert copied.n_steps_ == model.n_steps_
    # The next call neither shuffles nor redraws as the last one did.
    states = [m._training_state["generator"] for m in (early, model)]
    assert not np.array_equal(*states)
    assert not np.array_equal(forgetful.components_, model.components_)


@dictionaries
def test_stream_does_not_depend_on_how_often_random_state_is_drawn(cls):
    a = stream(planted(cls), 1)
    b = stream(planted(cls, random_state=np.random.RandomState(0)), 1)
    same_fit(a, b)


def test_stream_remembers_for_how_long_latents_have_been_silent():
    def streamed(weight):
        model = TopKSAE(300, 2, dead_after=2.5, auxiliary_weight=weight, random_state=0)
        return stream(model, 1)

    assert not np.array_equal(streamed(1 / 32).components_, streamed(0).components_)


def test_stream_remembers_how_often_atoms_fired_since_the_reset():
    model, fired = planted(ICFL), np.zeros(24)
    for batch in np.array_split(X, 6):
        fired += model.partial_fit(batch).feature_density_ * len(batch)
    counts = model._training_state["model"]["fired_since_reset"]
    assert_allclose(counts, fired, rtol=1e-5)


def test_callers_see_resets_in_a_stream():
    model = planted(ICFL, reset_similarity=0.0, reset_every=9)
    stream(model, 3)
    at = [r["epoch"] for r in model.history_ if r["resets"]]
    assert at == [9, 18]


# Odd batches


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_a_single_row_does_not_wreck_what_many_have_taught(how, scale):
    model = planted(TopKSAE, max_iter=15, warm_start=how == "warm_start")
    before = model.fit(scale * X).score(scale * X)
    if how == "partial_fit":
        model.partial_fit(scale * X[:1])
    else:
        model.set_params(max_iter=1).fit(scale * X[:1])
    assert model.score(scale * X) > before - 0.2


@dictionaries
def test_a_stream_of_single_rows_has_a_scale(cls):
    def score(scale):
        model = planted(cls)
        for row in scale * X[:20]:
            model.partial_fit(row[None])
        return model.score(scale * X)

    assert score(1e-4) == pytest.approx(score(1.0), abs=0.02)


@pytest.mark.parametrize(
    ("factor", "cls"),
    [(1.0, cls) for cls in CLASSES]
    + [(factor, cls) for factor in (1e-20, 1e20) for cls in (*KINDS, Codebook)],
)
def test_stream_whose_first_batch_is_constant(factor, cls):
    rows = X * np.float32(factor)
    model = planted(cls, init="random").partial_fit(np.zeros_like(rows[:50]))
    stream(model, 3, rows)
    # A code vector cannot be made longer by its coefficient, and learns slowly.
    assert model.score(rows) > (0 if cls is Codebook else 0.2)
    assert_sound(model, rows)


@pytest.mark.parametrize(
    # The pre-bias of TopKSAE is no mean: tiny rows lie away from it, too.
    ("cls", "factor"),
    [(ICFL, 1e4), (ICFL, 1e-4), (TopKSAE, 1e4)],
)
def test_a_stream_in_other_units_is_told(cls, factor):
    rows = X - X.mean(0)
    model = planted(cls).partial_fit(rows)
    model.partial_fit(10 * rows)  # within reason
    told = pytest.warns(UserWarning, match=r"times as far from pre_bias_")
    with told, contextlib.suppress(ValueError):  # some diverge
        model.partial_fit(factor * rows)


@dictionaries
def test_stream_that_leaves_the_range_of_its_dtype_is_refused(cls):
    model = planted(cls).partial_fit(X * np.float32(1e-25))
    before = model.components_.copy()
    told = pytest.warns(UserWarning, match="times as far")
    with told, pytest.raises(ValueError, match="diverged"):
        model.partial_fit(X * np.float32(1e25))
    assert_array_equal(model.components_, before)
    assert_sound(model, X * np.float32(1e-25))
