"""Batches, early stopping, callbacks, and fits that end in an error."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from oracles import (
    CLASSES,
    X,
    assert_sound,
    dictionaries,
    fitted,
    kinds,
    planted,
    same_fit,
    steps_per_epoch,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skdict import ICFL, KSVD, SAE, TopKSAE, Transcoder

# Batches and epochs


@kinds
def test_batch_size(cls):
    def steps(rows, **params):
        return planted(cls, validation_fraction=None, **params).fit(rows).n_steps_

    assert steps(X[:50], max_iter=1, batch_size=1) == 50
    assert steps(X[:50], max_iter=1, batch_size=7) == 8
    assert steps(X[:50], max_iter=1, batch_size=10**9) == 1
    assert steps(X[:50], max_iter=1) == 1
    assert steps(X, max_iter=2, tol=None) == 2 * steps_per_epoch(cls)


@pytest.mark.parametrize(
    ("n_samples", "n_epochs", "of_sae", "of_icfl"),
    [
        (1000, 3, 256, 256),
        (54_000, 3, 256, 3375),
        (54_000, 20, 675, 3375),
        (54_000, 100, 3375, 3375),  # 16 batches an epoch are steps enough
        (10**6, 100, 4096, 4096),
        (54_000, 0, 3375, 3375),  # a stream
    ],
)
def test_few_epochs_have_smaller_batches(n_samples, n_epochs, of_sae, of_icfl):
    assert TopKSAE()._batch_size(n_samples, n_epochs) == of_sae
    for other in (ICFL(), SAE(), Transcoder(activation="relu")):
        assert other._batch_size(n_samples, n_epochs) == of_icfl
    assert TopKSAE(batch_size=7)._batch_size(n_samples, n_epochs) == 7


def test_a_fit_has_smaller_batches_than_a_stream():
    rows = np.random.default_rng(0).normal(size=(10_000, 2))
    sae = TopKSAE(4, 1, max_iter=1, validation_fraction=None)
    assert sae.fit(rows).n_steps_ == 40
    assert clone(sae).partial_fit(rows).n_steps_ == 16


def first_mark(cls):
    """Epoch of 50 with which others are first compared."""
    return 4 if cls is SAE else 1  # until the fifth, the penalty of SAE rises


@kinds
def test_early_stopping(cls):
    # A tolerance that nothing passes: the first pass sets the mark, two are flat,
    # and the rate takes two more to fall to zero.
    model = planted(cls, tol=1e6, n_iter_no_change=2, max_iter=50).fit(X)
    assert model.n_iter_ == first_mark(cls) + 2 + 2
    rates = [record["learning_rate"] for record in model.history_]
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    if cls is SAE:  # constant until it winds down
        assert rates == pytest.approx([model.learning_rate] * 6 + [4e-3, 0])
    else:
        assert rates[0] > rates[1] > rates[2] > rates[3]
    assert planted(cls, tol=1e-2, max_iter=500).fit(X).n_iter_ < 250
    assert planted(cls, tol=None, max_iter=17).fit(X).n_iter_ == 17
    model = planted(cls, tol=1e6, n_iter_no_change=20, max_iter=7).fit(X)
    assert model.n_iter_ == 7


@dictionaries
def test_held_out_rows_are_a_fraction_rounded_down(cls):
    model = cls(16, 2, max_iter=2, validation_fraction=0.3, random_state=0)
    assert "validation_explained_variance" in model.fit(X[:30]).history_[0]
    alone = clone(model).set_params(validation_fraction=None).fit(X[:16])
    same_fit(model.fit(X[:16]), alone)  # four rows would be too few
    assert "validation_explained_variance" not in model.history_[0]
    with pytest.raises(ValueError, match="validation_fraction"):
        cls(validation_fraction=1.0).fit(X[:30])


# What goes on beside the training


@kinds
def test_callbacks(cls):
    records = []
    model = planted(cls, max_iter=3, tol=None, callbacks=[records.append]).fit(X)
    assert records == model.history_
    stop = lambda record: record["epoch"] == 2  # noqa: E731
    model.set_params(callbacks=(records.append, stop)).fit(X)
    assert model.n_iter_ == 2
    assert len(records) == 5
    model.set_params(callbacks=[lambda record: np.True_]).fit(X)
    assert model.n_iter_ == 1
    for answer in (1, "yes", np.ones(2), False):
        model.set_params(callbacks=[lambda record, a=answer: a]).fit(X)
        assert model.n_iter_ == 3, answer
    model.set_params(callbacks=[records.append]).partial_fit(X)
    assert records[-1]["loss"] == model.history_[-1]["loss"]


@kinds
def test_progress_bar(cls, capsys):
    planted(cls, max_iter=2).fit(X)
    planted(cls).partial_fit(X)
    assert capsys.readouterr() == ("", "")
    planted(cls, max_iter=2, tol=None, verbose=1).fit(X)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{2 * steps_per_epoch(cls)}/{2 * steps_per_epoch(cls)}" in err
    assert "loss=" in err
    assert "ev=" in err
    assert "dead=" in err
    planted(cls, verbose=True, tol=1e6, n_iter_no_change=1, max_iter=50).fit(X)
    total = (first_mark(cls) + 1 + 1) * steps_per_epoch(cls)
    assert f"{total}/{total}" in capsys.readouterr().err


# Fits that fail


def interrupt(record):
    raise KeyboardInterrupt


@dictionaries
def test_interrupt_leaves_the_last_fit(cls):
    def interrupt(record):
        raise KeyboardInterrupt

    model = fitted(cls, max_iter=2)
    before = model.transform(X)
    model.set_params(callbacks=[interrupt])
    for method in (model.fit, model.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            method(X)
        assert_array_equal(model.transform(X).toarray(), before.toarray())
    fresh = planted(cls, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X)
    with pytest.raises(NotFittedError):
        fresh.transform(X)


@pytest.mark.parametrize(
    ("params", "rows", "error"),
    [
        ({}, np.full((5, 3), np.nan), ValueError),
        ({"callbacks": [interrupt]}, X, KeyboardInterrupt),
        ({"init": np.zeros((24, X.shape[1]))}, X, ValueError),
        ({"device": "nowhere"}, X, ValueError),
    ],
    ids=["rows", "Ctrl-C", "init", "device"],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@dictionaries
def test_a_refused_fit_leaves_the_old_model_whole(cls, method, params, rows, error):
    model = fitted(cls, max_iter=2)
    before, codes = dict(vars(model)), model.transform(X)
    if method == "partial_fit" and "init" in params:
        return  # counts for the first call only
    model.set_params(**params)
    with pytest.raises(error):
        getattr(model, method)(rows)
    model.set_params(**{name: before[name] for name in params})
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is before[name] for name in before)
    assert_array_equal(model.transform(X).toarray(), codes.toarray())


@dictionaries
def test_a_refused_first_fit_leaves_no_attributes(cls):
    model = planted(cls, callbacks=[interrupt])
    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert vars(model) == before


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not KSVD])
def test_learning_rate_that_diverges_is_refused(cls):
    with pytest.raises(ValueError, match=r"diverged.*learning_rate"):
        planted(cls, learning_rate=1e30, max_iter=5).fit(X)


@pytest.mark.parametrize("learning_rate", [30.0, 1e3, 1e6])
def test_a_learning_rate_that_diverges_is_named(learning_rate):
    model = TopKSAE(24, 2, learning_rate=learning_rate, tol=None, random_state=0)
    model.set_params(validation_fraction=None, max_iter=20)
    with pytest.raises(ValueError, match=f"diverged.*learning_rate={learning_rate}"):
        model.fit(X)


def test_a_large_learning_rate_leaves_icfl_better_than_the_mean_row():
    # Atoms return to unit norm, and the pre-bias is not learned.
    model = planted(ICFL, learning_rate=1e9, max_iter=5).fit(X)
    assert_sound(model, X)
    assert model.score(X) > 0
