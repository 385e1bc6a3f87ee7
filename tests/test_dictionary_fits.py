"""What a fit learns, and what it keeps of its training."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from oracles import (
    CLASSES,
    FEW,
    PLANTED,
    X64,
    X,
    fitted,
    fixed_sparsity,
    frozen,
    make_variant,
    planted,
    recovered,
    same_fit,
    variants,
)
from sklearn.base import clone

from skdict import ICFL, SAE, JumpReLUSAE, TopKSAE
from skdict.datasets import make_planted_dictionary
from skdict.decomposition._base import MeanSparsity
from skdict.metrics import explained_variance

# What is learnt


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_icfl_recovers_planted_atoms(seed):
    data = make_planted_dictionary(
        20_000, 64, n_components=128, n_active=5, noise=0.1, random_state=seed
    )
    model = ICFL(n_components=128, k=5, random_state=seed).fit(data.data)
    assert recovered(model, data) >= 0.98


@pytest.mark.slow
def test_topk_sae_recovers_most_planted_atoms():
    data = make_planted_dictionary(6000, random_state=0)
    model = TopKSAE(n_components=128, k=5, random_state=0).fit(data.data)
    assert recovered(model, data) >= 0.8


@pytest.mark.parametrize(("cls", "share"), [(ICFL, 0.9), (TopKSAE, 0.7)])
def test_small_planted_dictionary(cls, share):
    model = fitted(cls)
    assert recovered(model, PLANTED) >= share
    assert model.score(X) > 0.85


@fixed_sparsity
def test_defaults(cls):
    rows = np.random.default_rng(0).normal(size=(50, 23))
    model = cls(max_iter=1).fit(rows)
    assert model.components_.shape == (8 * 23, 23)
    assert np.diff(model.transform(rows).indptr).max() == 2
    assert cls(max_iter=1).fit(rows[:, :5]).transform(rows[:, :5]).nnz == 50


@variants
def test_score_is_the_explained_variance_of_the_reconstruction(variant):
    model = make_variant(variant, max_iter=3, k=3).fit(X64)
    X_hat = model.inverse_transform(model.transform(X64))
    assert model.score(X64) == pytest.approx(explained_variance(X64, X_hat), rel=1e-12)
    other = X64[:40] + 1
    X_hat = model.inverse_transform(model.transform(other))
    assert model.score(other) == pytest.approx(explained_variance(other, X_hat))


@variants
def test_atoms_have_unit_norm(variant):
    model = make_variant(variant, max_iter=3).fit(X64)
    assert_allclose(np.linalg.norm(model.components_, axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int16, np.float32),
        (np.int64, np.float32),
        (bool, np.float32),
    ],
)
@variants
def test_dtypes(variant, given, kept):
    rows = (10 * X[:100]).astype(given)
    model = make_variant(variant, max_iter=2, k=2).fit(rows)
    for parameter in model._model.fitted.values():
        assert getattr(model, parameter.attribute).dtype == kept
    codes = model.transform(rows)
    assert codes.dtype == kept
    assert model.inverse_transform(codes).dtype == kept
    other = np.float64 if kept == np.float32 else np.float32
    codes = model.transform(rows.astype(other))
    assert codes.dtype == other
    assert model.inverse_transform(codes).dtype == other


def mean_distance(model, rows):
    """Distance of the pre-bias from the rows' mean, in units of their spread."""
    spread = np.sqrt(np.square(rows - rows.mean(0)).sum(1).mean())
    return np.linalg.norm(model.pre_bias_ - rows.mean(0)) / spread


# Sums of correlated atoms: where the pre-bias learned, it drifted.
DRIFTING = np.float32(np.random.default_rng(0).gamma(0.3, size=(600, 20)))


@pytest.mark.parametrize("how", ["fit", "partial_fit", "warm_start", "chunks"])
def test_pre_bias_of_icfl_stays_at_the_mean(how):
    model = ICFL(40, 4, tol=None, random_state=0)
    if how == "fit":
        long = clone(model).set_params(max_iter=60).fit(DRIFTING)
        assert long.score(DRIFTING) > model.fit(DRIFTING).score(DRIFTING) - 0.01
        model = long
    elif how == "warm_start":
        model.set_params(max_iter=5, warm_start=True)
        for _ in range(10):
            model.fit(DRIFTING)
    else:
        parts = [DRIFTING] if how == "partial_fit" else np.split(DRIFTING, [7, 200])
        for _ in range(40):
            for part in parts:
                model.partial_fit(part)
        assert model.n_samples_seen_ == 40 * len(DRIFTING)
    assert mean_distance(model, DRIFTING) < 1e-4


def test_warm_start_follows_the_mean_of_new_rows():
    model = ICFL(40, 4, max_iter=2, warm_start=True, random_state=0).fit(DRIFTING)
    model.fit(DRIFTING + 5)
    assert_allclose(model.pre_bias_, (DRIFTING + 5).mean(0), rtol=1e-5)


def test_more_epochs_do_not_make_topk_sae_worse():
    train, test = X[::2], X[1::2]
    scores = [
        TopKSAE(128, 6, max_iter=max_iter, random_state=0).fit(train).score(test)
        for max_iter in (30, 100, 300)
    ]
    assert min(scores[1:]) > scores[0] - 0.01


# What is kept of the training


RECORD = {
    "epoch",
    "loss",
    "explained_variance",
    "dead_fraction",
    "resets",
    "learning_rate",
    "seconds",
}


@variants
def test_history(variant):
    model = make_variant(variant, max_iter=4, tol=None, batch_size=400)
    model.set_params(validation_fraction=None).fit(X64)
    assert len(model.history_) == model.n_iter_ == 4
    assert model.n_steps_ == 4 * 4
    assert [record["epoch"] for record in model.history_] == [1, 2, 3, 4]
    assert all(record.keys() == RECORD for record in model.history_)
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    assert all(record["seconds"] > 0 for record in model.history_)
    pickle.dumps(model.history_)
    assert {type(value) for r in model.history_ for value in r.values()} == {int, float}


same_code_in_training = pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if not issubclass(cls, MeanSparsity)]
)


@same_code_in_training
def test_history_holds_the_errors_of_the_pass(cls):
    init = X64[:24] - X64.mean(0)
    model = frozen(cls, init, k=2)
    if cls is JumpReLUSAE:
        model.set_params(training_factor=1)
    if cls is SAE:
        model.set_params(k=None)  # with k, codes are scaled in the end
    X_hat = model.fit(X64).inverse_transform(model.transform(X64))
    (record,) = model.history_
    assert record["loss"] == pytest.approx(((X64 - X_hat) ** 2).sum(1).mean())
    assert record["explained_variance"] == pytest.approx(model.score(X64))


def test_callbacks_cannot_change_the_history():
    model = planted(TopKSAE, max_iter=2, callbacks=[dict.clear]).fit(X)
    assert all("explained_variance" in record for record in model.history_)


def test_refit_forgets_the_last_fit():
    model = planted(ICFL, max_iter=2).fit(X).fit(X)
    same_fit(model, planted(ICFL, max_iter=2).fit(X))
    assert len(model.history_) == 2


@variants
def test_fitted_attributes_are_small_numpy_arrays(variant):
    model = make_variant(variant, max_iter=1).fit(FEW)
    for name, value in vars(model).items():
        assert not isinstance(value, torch.Tensor | torch.nn.Module), name
        if isinstance(value, np.ndarray):
            assert value.base is None or value.base.nbytes == value.nbytes, name
    parameters = sum(
        getattr(model, parameter.attribute).nbytes
        for parameter in model._model.fitted.values()
    )
    assert len(pickle.dumps(model)) < parameters + 10_000
