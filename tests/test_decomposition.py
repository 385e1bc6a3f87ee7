"""Tests of the dictionary estimators ICFL and TopKSAE."""

import contextlib
import itertools
import pickle
import warnings

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import algorithm_1
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import NotFittedError

from skdict import ICFL, KSVD, Codebook, TopKSAE
from skdict.datasets import make_planted_dictionary
from skdict.decomposition import _base
from skdict.decomposition._base import FixedSparsity, MeanSparsity
from skdict.decomposition._registry import DICTIONARIES
from skdict.metrics import (
    explained_variance,
    feature_density,
    match_dictionaries,
    mutual_coherence,
)
from skdict.models import Dictionary, TopKAutoencoder, topk
from skdict.training import DictionaryNet

PLANTED = make_planted_dictionary(1500, 16, n_components=24, n_active=2, random_state=0)
X = PLANTED.data
X64 = X.astype(np.float64)
FEW = X64[:60, :8]

CLASSES = [entry.estimator for entry in DICTIONARIES]
dictionaries = pytest.mark.parametrize("cls", CLASSES)
fixed_sparsity = pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if issubclass(cls, FixedSparsity)]
)
same_code_in_training = pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if not issubclass(cls, MeanSparsity)]
)
VARIANTS = {
    "ICFL": ICFL(random_state=0),
    "ICFL, refit": ICFL(refit=True, atoms_per_step=1, random_state=0),
    "ICFL, absolute": ICFL(selection="absolute", atoms_per_step=2, random_state=0),
    "TopKSAE": TopKSAE(random_state=0),
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def make(variant, **params):
    return clone(VARIANTS[variant]).set_params(**params)


def planted(cls, **params):
    # Those that do not end early need not go on for long here.
    shorter = {} if cls().tol else {"max_iter": 25}
    return cls(24, 2, **({"random_state": 0} | shorter | params))


def steps_per_epoch(cls):
    """Steps of an epoch over `X` with the default batches."""
    return 1 if cls is KSVD else 6


def frozen(cls, init, **params):
    """Fitted, but with atoms that did not move from `init` in their one pass."""
    parameters = {"max_iter": 1, "learning_rate": 1e-300, "random_state": 0} | params
    parameters["validation_fraction"] = None
    if issubclass(cls, TopKSAE):
        parameters["auxiliary_weight"] = 0
    return cls(init=init, **parameters)


def same_fit(a, b):
    assert_array_equal(a.components_, b.components_, strict=True)
    assert_array_equal(a.pre_bias_, b.pre_bias_, strict=True)
    assert_array_equal(a.feature_density_, b.feature_density_, strict=True)


def close_atoms(a, b, rtol):
    assert_allclose(a.components_, b.components_, rtol=0, atol=rtol)


def dense(codes):
    return codes.toarray() if sp.issparse(codes) else codes


def recovered(model, data):
    """Share of the planted atoms that some learnt atom matches."""
    cosines = data.components @ model.components_.T
    return (cosines.max(axis=1) > 0.9).mean()


def assert_sound(model, rows):
    """Everything that the model says of finite rows is finite and well formed."""
    codes = dense(model.transform(rows))
    if isinstance(model, FixedSparsity):
        k = max(1, rows.shape[1] // 10) if model.k is None else model.k
        assert ((codes != 0).sum(axis=1) <= k).all()
    for name, array in {
        "codes": codes,
        "reconstruction": model.inverse_transform(codes),
        "score": model.score(rows),
        "history": [r["explained_variance"] for r in model.history_],
        **{name: value for name, value in vars(model).items() if name[-1] == "_"},
    }.items():
        if name not in ("history_", "feature_names_in_"):
            assert np.isfinite(array).all(), name
    norms = np.linalg.norm(model.components_.astype(np.float64), axis=1)
    if isinstance(model, Codebook):
        assert norms.all()
    else:
        assert_allclose(norms, 1, atol=1e-6)


# What is learnt


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_icfl_recovers_planted_atoms(seed):
    data = make_planted_dictionary(
        20_000, 64, n_components=128, n_active=5, noise=0.1, random_state=seed
    )
    model = ICFL(n_components=128, k=5, random_state=seed).fit(data.data)
    assert recovered(model, data) >= 0.98


@pytest.mark.slow
def test_topk_sae_recovers_most_planted_atoms():
    data = make_planted_dictionary(random_state=0)
    model = TopKSAE(n_components=128, k=5, random_state=0).fit(data.data)
    assert recovered(model, data) >= 0.8


@pytest.mark.parametrize(("cls", "share"), [(ICFL, 0.9), (TopKSAE, 0.7)])
def test_small_planted_dictionary(cls, share):
    model = planted(cls).fit(X)
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
    model = make(variant, max_iter=3, k=3).fit(X64)
    X_hat = model.inverse_transform(model.transform(X64))
    assert model.score(X64) == pytest.approx(explained_variance(X64, X_hat), rel=1e-12)
    other = X64[:40] + 1
    X_hat = model.inverse_transform(model.transform(other))
    assert model.score(other) == pytest.approx(explained_variance(other, X_hat))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@variants
def test_constant_rows(variant, dtype, value):
    # 0.1 has no exact mean: sums of it round.
    rows = np.full((50, 3), value, dtype=dtype)
    model = make(variant, max_iter=2).fit(rows)
    assert_array_equal(model.pre_bias_, rows[0], strict=True)
    assert model.transform(rows).nnz == 0
    assert model.score(rows) == 1
    assert model.score(rows[:1]) == 1
    assert model.score(rows + 1) == explained_variance(
        rows + 1, model.inverse_transform(model.transform(rows + 1))
    )
    assert_sound(model, rows)


# Codes


@variants
def test_sparse_and_dense_codes_agree(variant):
    model = make(variant, max_iter=2, k=3).fit(X)
    codes = model.transform(X)
    assert codes.format == "csr"
    assert codes.shape == (1500, 128)
    array = model.set_params(sparse_output=False).transform(X)
    assert_array_equal(codes.toarray(), array, strict=True)
    same = make(variant, max_iter=2, k=3, sparse_output=False).fit_transform(X)
    assert_array_equal(same, array, strict=True)


@variants
def test_more_non_zeros_than_components_warn(variant):
    for options in ({"n_components": 4}, {"n_components": None, "init": X[:4]}):
        model = make(variant, max_iter=1, **options)
        for fit in ("fit", "partial_fit"):
            with pytest.warns(UserWarning, match="k=5 is larger .* 4 comp") as caught:
                more = getattr(clone(model).set_params(k=5), fit)(X[:50])
            assert caught[0].filename == __file__
            equal = getattr(clone(model).set_params(k=4), fit)(X[:50])
            codes = more.transform(X[:50]).toarray()
            assert_array_equal(codes, equal.transform(X[:50]).toarray())
    # The default has no one to be warned.
    make(variant, n_components=2, k=None, max_iter=1).fit(np.tile(X[:50], 3))


@pytest.mark.parametrize("k", [1, 3, 7, 128, 1000])
@pytest.mark.filterwarnings("ignore:k=")
@variants
def test_csr_codes_are_canonical(variant, k):
    model = make(variant, max_iter=1, k=k).fit(X[:50])
    codes = model.transform(X[:50])
    per_row = np.diff(codes.indptr)
    assert per_row.max() <= min(k, 128)
    assert per_row.max() > 0
    assert (codes.data != 0).all()
    steps = np.diff(codes.indices)
    steps[codes.indptr[1:-1][codes.indptr[1:-1] < codes.nnz] - 1] = 1
    assert (steps > 0).all()
    if variant == "TopKSAE":
        assert (codes.data > 0).all()


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
    model = make(variant, max_iter=2, k=2).fit(rows)
    for parameter in model._model.fitted.values():
        assert getattr(model, parameter.attribute).dtype == kept
    codes = model.transform(rows)
    assert codes.dtype == kept
    assert model.inverse_transform(codes).dtype == kept
    other = np.float64 if kept == np.float32 else np.float32
    codes = model.transform(rows.astype(other))
    assert codes.dtype == other
    assert model.inverse_transform(codes).dtype == other


@variants
def test_atoms_have_unit_norm(variant):
    model = make(variant, max_iter=3).fit(X64)
    assert_allclose(np.linalg.norm(model.components_, axis=1), 1, rtol=1e-12)


@variants
def test_inverse_transform_is_linear_in_the_codes(variant):
    model = make(variant, max_iter=1, k=4).fit(FEW)
    codes = model.transform(FEW)
    expected = codes.toarray() @ model.components_ + model.pre_bias_
    kinds = [
        codes,
        codes.tocsc(),
        codes.tocoo(),
        sp.csr_array(codes),
        codes.toarray(),
        np.asfortranarray(codes.toarray()),
    ]
    for kind in kinds:
        X_hat = model.inverse_transform(kind)
        assert isinstance(X_hat, np.ndarray)
        assert_allclose(X_hat, expected, rtol=1e-12, atol=1e-12)
    single = model.inverse_transform(codes.astype(np.float32))
    assert single.dtype == np.float32
    assert_allclose(single, expected, atol=1e-4)


@pytest.mark.parametrize(
    "params",
    [
        {"atoms_per_step": 1},
        {"atoms_per_step": 3},
        {"atoms_per_step": 10},
        {"atoms_per_step": 1, "selection": "absolute"},
        {"atoms_per_step": 2, "selection": "absolute", "refit": True},
        {"atoms_per_step": 3, "refit": True},
    ],
    ids=str,
)
def test_icfl_encodes_as_algorithm_1(params):
    # With one atom per step this is matching pursuit.
    model = ICFL(20, 7, max_iter=2, random_state=0, **params).fit(FEW)
    pairs = [
        algorithm_1(x - model.pre_bias_, model.components_, 7, **params) for x in FEW
    ]
    expected, leads = zip(*pairs, strict=True)
    assert min(leads) > 1e-9  # nothing hangs on rounding
    assert_allclose(model.transform(FEW).toarray(), expected, atol=1e-9)


@pytest.mark.parametrize(
    "params",
    [
        {"atoms_per_step": 1, "selection": "absolute", "refit": "every_step"},
        {"atoms_per_step": 3, "refit": True},
        {"k": 11, "atoms_per_step": 2},
    ],
    ids=str,
)
def test_with_encoder_keeps_the_atoms(params):
    model = ICFL(20, 7, max_iter=2, random_state=0).fit(FEW)
    other = model.with_encoder(**params)
    assert other.components_ is model.components_
    assert (model.k, model.refit) == (7, False)  # the first one stays as it is
    expected = ICFL(init=model.components_, max_iter=0, **({"k": 7} | params)).fit(FEW)
    assert_allclose(
        other.transform(FEW).toarray(), expected.transform(FEW).toarray(), atol=1e-9
    )
    with pytest.raises(ValueError, match="'atoms_per_step' parameter"):
        model.with_encoder(atoms_per_step=0)
    with pytest.warns(UserWarning, match="k=21 is larger than the 20 components"):
        model.with_encoder(k=21)
    with pytest.raises(NotFittedError):
        ICFL().with_encoder()


def test_omp_of_fitted_atoms_is_that_of_scikit_learn():
    model = ICFL(20, 4, max_iter=2, random_state=0).fit(FEW)
    omp = model.with_encoder(atoms_per_step=1, selection="absolute", refit="every_step")
    expected = sparse_encode(
        FEW - model.pre_bias_, model.components_, algorithm="omp", n_nonzero_coefs=4
    )
    assert_allclose(omp.transform(FEW).toarray(), expected, atol=1e-9)


def test_refit_lowers_the_error():
    model = ICFL(24, 6, atoms_per_step=1, max_iter=3, random_state=0).fit(X)
    assert model.set_params(refit=True).score(X) > model.set_params(refit=False).score(
        X
    )


def test_topk_sae_encodes_as_its_equation():
    model = TopKSAE(20, 3, max_iter=5, random_state=0).fit(FEW)
    activations = (FEW - model.pre_bias_) @ model.encoder_components_.T
    activations = np.maximum(activations + model.encoder_bias_, 0)
    kth = np.sort(activations, axis=1)[:, -3, None]
    expected = np.where(activations >= kth, activations, 0)
    assert_allclose(model.transform(FEW).toarray(), expected, atol=1e-12)


@variants
def test_rows_do_not_depend_on_each_other(variant):
    model = make(variant, max_iter=1, k=4).fit(FEW)
    together = model.transform(FEW).toarray()
    alone = [model.transform(row[None]).toarray()[0] for row in FEW]
    assert_allclose(together, alone, atol=1e-12)


def test_batches_of_inference_are_joined_in_order(monkeypatch):
    model = planted(ICFL, max_iter=2).fit(X64)
    whole, score = model.transform(X64), model.score(X64)
    monkeypatch.setattr("skdict.decomposition._base._INFERENCE_ROWS", 7)
    pieces = model.transform(X64)
    assert_allclose(pieces.toarray(), whole.toarray(), atol=1e-12)
    assert model.score(X64) == pytest.approx(score)


# What is kept of the training


@dictionaries
def test_density_counts_the_last_pass(cls):
    model = frozen(cls, PLANTED.components, k=2).fit(X64)
    assert_array_equal(
        model.feature_density_, feature_density(model.transform(X64)), strict=True
    )
    assert_array_equal(model.dead_features_, model.feature_density_ == 0, strict=True)
    assert model.history_[0]["dead_fraction"] == model.dead_features_.mean()
    moved = planted(cls, max_iter=3).fit(X64)
    mean_active = moved.feature_density_.sum()
    assert 0 < mean_active <= (2.001 if issubclass(cls, FixedSparsity) else 24)


def test_unused_atoms_are_dead():
    # All rows on a half line: two atoms point away from all of them.
    rows = np.linspace(1, 2, 50)[:, None] * [[1.0, 0.0]]
    init = [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]]
    model = frozen(ICFL, init, k=1).fit(rows)
    assert_array_equal(model.dead_features_, [False, True, True, False])


def test_latents_that_relu_sets_to_zero_did_not_fire():
    # All four latents are among the k = 4 largest, but two are negative.
    rows = np.random.default_rng(0).normal(size=(200, 2))
    init = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    model = frozen(TopKSAE, init, k=4).fit(rows)
    assert model.feature_density_.sum() == pytest.approx(2)
    assert model.transform(rows).nnz == 400
    one_sided = np.abs(rows) + 10
    model = frozen(TopKSAE, init, k=4)
    model.partial_fit(rows)
    model.partial_fit(one_sided)
    assert_array_equal(model.feature_density_, [1, 0, 1, 0])
    assert_array_equal(model.dead_features_, [False, True, False, True])


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
    model = make(variant, max_iter=4, tol=None, batch_size=400)
    model.set_params(validation_fraction=None).fit(X64)
    assert len(model.history_) == model.n_iter_ == 4
    assert model.n_steps_ == 4 * 4
    assert [record["epoch"] for record in model.history_] == [1, 2, 3, 4]
    assert all(record.keys() == RECORD for record in model.history_)
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    assert all(record["seconds"] > 0 for record in model.history_)
    pickle.dumps(model.history_)
    assert {type(value) for r in model.history_ for value in r.values()} == {int, float}


@same_code_in_training
def test_history_holds_the_errors_of_the_pass(cls):
    init = X64[:24] - X64.mean(0)
    model = frozen(cls, init, k=2).fit(X64)
    X_hat = model.inverse_transform(model.transform(X64))
    (record,) = model.history_
    assert record["loss"] == pytest.approx(((X64 - X_hat) ** 2).sum(1).mean())
    assert record["explained_variance"] == pytest.approx(model.score(X64))


@dictionaries
def test_batch_size(cls):
    def steps(rows, **params):
        return planted(cls, validation_fraction=None, **params).fit(rows).n_steps_

    assert steps(X[:50], max_iter=1, batch_size=1) == 50
    assert steps(X[:50], max_iter=1, batch_size=7) == 8
    assert steps(X[:50], max_iter=1, batch_size=10**9) == 1
    assert steps(X[:50], max_iter=1) == 1
    assert steps(X, max_iter=2, tol=None) == 2 * steps_per_epoch(cls)


@dictionaries
def test_early_stopping(cls):
    # A tolerance that nothing passes: the first pass sets the mark, two are flat,
    # and the rate takes two more to fall to zero.
    model = planted(cls, tol=1e6, n_iter_no_change=2, max_iter=50).fit(X)
    assert model.n_iter_ == 5
    rates = [record["learning_rate"] for record in model.history_]
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[0] > rates[1] > rates[2] > rates[3]
    assert planted(cls, tol=1e-2, max_iter=500).fit(X).n_iter_ < 250
    assert planted(cls, tol=None, max_iter=17).fit(X).n_iter_ == 17
    model = planted(cls, tol=1e6, n_iter_no_change=20, max_iter=7).fit(X)
    assert model.n_iter_ == 7


def test_refit_forgets_the_last_fit():
    model = planted(ICFL, max_iter=2).fit(X).fit(X)
    same_fit(model, planted(ICFL, max_iter=2).fit(X))
    assert len(model.history_) == 2


@fixed_sparsity
def test_warm_start(cls):
    model = planted(cls, warm_start=True).fit(X)
    score, n_steps, loss = model.score(X), model.n_steps_, model.history_[-1]["loss"]
    atoms = model.components_.copy()
    model.set_params(init="random").fit(X)
    assert model.score(X) > score - 0.01
    assert model.n_steps_ < n_steps
    assert match_dictionaries(atoms, model.components_)[1].mean() > 0.9
    cold = planted(cls).fit(X)
    assert model.history_[0]["loss"] < 0.8 * cold.history_[0]["loss"]
    assert model.history_[0]["loss"] == pytest.approx(loss, rel=0.3)


@dictionaries
def test_warm_start_needs_the_same_shape(cls):
    model = planted(cls, warm_start=True, max_iter=1).fit(X)
    before = model.transform(X)
    with pytest.raises(ValueError, match=r"8 features, but .* expecting 16"):
        model.fit(X[:, :8])
    assert_array_equal(model.transform(X).toarray(), before.toarray())
    with pytest.raises(ValueError, match=r"shape \(24, 16\).* is \(7, 16\)"):
        model.set_params(n_components=7).fit(X)
    with pytest.raises(ValueError, match=r"shape \(24, 16\).* is \(7, 16\)"):
        model.partial_fit(X)
    assert_array_equal(model.transform(X).toarray(), before.toarray())


@dictionaries
def test_the_dtype_may_change_on_the_way(cls):
    for first, second in [(X, X64), (X64, X)]:
        model = planted(cls, max_iter=2, warm_start=True).fit(first)
        score = model.fit(second).score(second)
        assert model.components_.dtype == second.dtype
        model.partial_fit(first)
        model.partial_fit(second)
        assert model.components_.dtype == second.dtype
        assert model.score(second) > score - 0.1
        assert_sound(model, second)
        streamed = planted(cls).partial_fit(first).partial_fit(second)
        assert streamed.components_.dtype == second.dtype


# Streams


def stream(model, n_passes, rows=X):
    for _ in range(n_passes):
        for batch in np.array_split(rows, 6):
            model.partial_fit(batch)
    return model


def test_stream_comes_near_fit():
    streamed = stream(planted(ICFL), 30)
    assert streamed.score(X) > planted(ICFL).fit(X).score(X)
    assert recovered(streamed, PLANTED) > 0.9
    assert streamed.n_iter_ == len(streamed.history_) == 180
    assert [r["epoch"] for r in streamed.history_] == list(range(1, 181))


def test_stream_of_topk_sae_comes_near_fit():
    streamed = stream(planted(TopKSAE, learning_rate=1e-2), 40)
    assert streamed.score(X) > planted(TopKSAE).fit(X).score(X) - 0.05


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
def test_partial_fit_goes_on_after_fit(cls):
    model = planted(cls).fit(X)
    score, n_iter, n_steps = model.score(X), model.n_iter_, model.n_steps_
    atoms = model.components_.copy()
    model.partial_fit(X)
    assert model.n_iter_ == len(model.history_) == n_iter + 1
    assert model.n_steps_ == n_steps + steps_per_epoch(cls)
    assert model.score(X) > score - 0.02
    assert match_dictionaries(atoms, model.components_)[1].mean() > 0.9
    assert not np.array_equal(atoms, model.components_)


@dictionaries
@pytest.mark.parametrize("factor", [1e-20, 1.0, 1e20])
def test_stream_whose_first_batch_is_constant(cls, factor):
    rows = X * np.float32(factor)
    model = planted(cls, init="random").partial_fit(np.zeros_like(rows[:50]))
    stream(model, 3, rows)
    # A code vector cannot be made longer by its coefficient, and learns slowly.
    assert model.score(rows) > (0 if cls is Codebook else 0.2)
    assert_sound(model, rows)


@dictionaries
def test_stream_that_leaves_the_range_of_its_dtype_is_refused(cls):
    model = planted(cls).partial_fit(X * np.float32(1e-25))
    before = model.components_.copy()
    told = pytest.warns(UserWarning, match="times as far")
    with told, pytest.raises(ValueError, match="diverged"):
        model.partial_fit(X * np.float32(1e25))
    assert_array_equal(model.components_, before)
    assert_sound(model, X * np.float32(1e-25))


# Where atoms start


@dictionaries
def test_init_array(cls):
    init = 3 * X64[:5] / np.arange(1, 6)[:, None]
    model = frozen(cls, init, k=2).fit(X)
    expected = init / np.linalg.norm(init, axis=1, keepdims=True)
    norms = np.linalg.norm(model.components_, axis=1, keepdims=True)
    assert_allclose(model.components_ / norms, expected, atol=1e-6)
    assert_allclose(norms, norms[0, 0] if cls is Codebook else 1, atol=1e-5)
    assert model.components_.dtype == np.float32
    same_fit(model, frozen(cls, init.tolist(), k=2).fit(X))
    again = frozen(cls, np.asfortranarray(init), k=2, n_components=5).fit(X)
    close_atoms(model, again, 1e-6)
    assert_array_equal(init, 3 * X64[:5] / np.arange(1, 6)[:, None])


@dictionaries
@pytest.mark.parametrize("magnitude", [1e-300, 1e300])
def test_length_of_init_does_not_matter(cls, magnitude):
    model = frozen(cls, X64[:5] * magnitude, k=2).fit(X)
    assert_allclose(
        model.components_, frozen(cls, X64[:5], k=2).fit(X).components_, atol=1e-6
    )


@dictionaries
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"init": X[:5], "n_components": 6}, r"init has shape \(5, 16\).*\(6, 16\)"),
        ({"init": X[:5, :3]}, r"init has shape \(5, 3\).*\(5, 16\)"),
        ({"init": X[0]}, "Expected 2D array"),
        ({"init": np.zeros((0, 16))}, "0 sample"),
        ({"init": np.eye(3, 16) * [[1], [0], [0]]}, "2 of the 3 .* first is atom 1"),
        ({"init": np.full((2, 16), np.nan)}, "init contains NaN"),
        ({"init": np.full((2, 16), np.inf)}, "init contains infinity"),
        ({"init": "pca"}, "'init' parameter"),
    ],
    ids=["atoms", "features", "1d", "empty", "zero", "nan", "inf", "unknown"],
)
def test_bad_init(cls, params, message):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(cls(**params), method)(X)


def test_init_samples_are_rows():
    model = frozen(ICFL, "samples", n_components=10, k=2).fit(FEW)
    centred = FEW - FEW.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert_allclose((model.components_ @ centred.T).max(axis=1), 1, rtol=1e-12)
    model = frozen(ICFL, "random", n_components=10, k=2).fit(FEW)
    assert (model.components_ @ centred.T).max() < 0.99


# Chance


@dictionaries
def test_same_seed_same_result_to_the_bit(cls):
    def fit(seed):
        # Batches smaller than the data, or the order of the rows plays no part.
        return planted(cls, random_state=seed, max_iter=3, batch_size=100).fit(X)

    same_fit(fit(3), fit(3))
    same_fit(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))
    assert not np.array_equal(fit(3).components_, fit(4).components_)
    assert not np.array_equal(fit(None).components_, fit(None).components_)


def test_seed_shuffles_and_redraws():
    init = X64[:24]

    def fit(seed, **params):
        return ICFL(init=init, random_state=seed, max_iter=2, **params).fit(X64)

    order = {"batch_size": 100, "reset_similarity": 1.0}
    assert not np.array_equal(fit(0, **order).components_, fit(1, **order).components_)
    init = np.repeat(X64[:12], 2, axis=0)
    resets = {"batch_size": 1500, "reset_every": 1}
    assert_allclose(
        fit(0, reset_similarity=1.0, batch_size=1500).components_,
        fit(1, reset_similarity=1.0, batch_size=1500).components_,
        atol=1e-9,
    )
    a, b = fit(0, **resets), fit(1, **resets)
    assert abs(a.components_ - b.components_).max() > 0.1


@dictionaries
def test_global_random_state_is_left_alone(cls):
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    model = planted(cls, max_iter=2).fit(X)
    model.partial_fit(X)
    model.score(X)
    assert_array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


@dictionaries
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_torch_may_be_told_not_to_keep_gradients(cls, mode):
    # As in scripts that extract embeddings and learn a dictionary in one go.
    expected = planted(cls, max_iter=2).fit(X)
    with mode():
        model = planted(cls, max_iter=2).fit(X)
        same_fit(model, expected)
        streamed = planted(cls).partial_fit(X).partial_fit(X)
        rows = torch.tensor(X)
        with config_context(array_api_dispatch=True):
            inside = planted(cls, max_iter=2, sparse_output=False).fit(rows)
            inside.partial_fit(rows)
    same_fit(streamed, planted(cls).partial_fit(X).partial_fit(X))
    with config_context(array_api_dispatch=True):
        # Rows that were made inside.
        outside = planted(cls, max_iter=2, sparse_output=False).fit(rows)
        outside.partial_fit(rows)
        assert torch.equal(outside.components_, inside.components_)


@pytest.mark.parametrize("init", ["samples", "random", X[:24]], ids=type)
def test_default_device_of_torch_does_not_matter(init):
    expected = planted(ICFL, max_iter=2, device="cpu", init=init).fit(X)
    sae = planted(TopKSAE, max_iter=2, device="cpu", init=init).fit(X)
    codes, score = sae.transform(X), sae.score(X)
    # A device that holds no data: whatever lands there by default is lost.
    with torch.device("meta"):
        model = planted(ICFL, max_iter=2, device="cpu", init=init).fit(X)
        same_fit(model, expected)
        model.partial_fit(X).partial_fit(X)
        assert_array_equal(sae.transform(X).toarray(), codes.toarray())
        assert sae.score(X) == score
    same_fit(model, expected.partial_fit(X).partial_fit(X))


# What goes on beside the training


@dictionaries
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


@dictionaries
def test_interrupt_leaves_the_last_fit(cls):
    def interrupt(record):
        raise KeyboardInterrupt

    model = planted(cls, max_iter=2).fit(X)
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


@dictionaries
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
    total = 3 * steps_per_epoch(cls)
    assert f"{total}/{total}" in capsys.readouterr().err


# Equivariance


@pytest.mark.parametrize("factor", [1e-6, 0.3, 7.0, 1e6])
@variants
def test_scale_equivariance(variant, factor):
    parameters = {"n_components": 20, "k": 3, "max_iter": 5}
    model = make(variant, **parameters).fit(FEW)
    scaled = make(variant, **parameters).fit(factor * FEW)
    close_atoms(model, scaled, 1e-8)
    assert_allclose(scaled.pre_bias_ / factor, model.pre_bias_, rtol=0, atol=1e-9)
    assert_allclose(
        scaled.transform(factor * FEW).toarray() / factor,
        model.transform(FEW).toarray(),
        atol=1e-6,
    )
    assert scaled.score(factor * FEW) == pytest.approx(model.score(FEW))
    for a, b in zip(model.history_, scaled.history_, strict=True):
        assert b["loss"] / factor**2 == pytest.approx(a["loss"])
        assert b["explained_variance"] == pytest.approx(a["explained_variance"])


@variants
def test_translation_equivariance(variant):
    shift = 100 * np.arange(8.0)
    parameters = {"n_components": 20, "k": 3, "max_iter": 5}
    model = make(variant, **parameters).fit(FEW)
    moved = make(variant, **parameters).fit(FEW + shift)
    close_atoms(model, moved, 1e-6)
    assert_allclose(moved.pre_bias_, model.pre_bias_ + shift, atol=1e-6)
    assert_allclose(
        moved.transform(FEW + shift).toarray(),
        model.transform(FEW).toarray(),
        atol=1e-5,
    )


@settings(max_examples=15)
@given(exponent=st.integers(-90, 90), variant=st.sampled_from(sorted(VARIANTS)))
def test_powers_of_two_scale_exactly(exponent, variant):
    rows, factor = FEW.astype(np.float32), np.float32(2.0**exponent)
    parameters = {"n_components": 10, "k": 3, "max_iter": 2}
    model = make(variant, **parameters).fit(rows)
    scaled = make(variant, **parameters).fit(factor * rows)
    assert_array_equal(scaled.components_, model.components_, strict=True)
    assert_array_equal(scaled.pre_bias_, factor * model.pre_bias_, strict=True)
    codes = model.transform(rows)
    assert_array_equal(
        scaled.transform(factor * rows).toarray(), factor * codes.toarray(), strict=True
    )
    # What is learnt at one magnitude also codes another.
    model.pre_bias_ = np.zeros_like(model.pre_bias_)
    if variant == "TopKSAE":
        model.encoder_bias_ = np.zeros_like(model.encoder_bias_)
    assert_array_equal(
        model.transform(factor * rows).toarray(),
        factor * model.transform(rows).toarray(),
        strict=True,
    )


# Redundant and dead atoms


def test_redundant_atoms_are_redrawn():
    init = np.repeat(X64[:12], 2, axis=0)
    parameters = {"init": init, "k": 2, "tol": None, "random_state": 0}
    model = ICFL(max_iter=5, reset_every=1, **parameters).fit(X64)
    assert model.history_[0]["resets"] >= 6
    assert mutual_coherence(model.components_) < 0.99
    kept = ICFL(max_iter=5, reset_every=10**6, **parameters).fit(X64)
    assert [record["resets"] for record in kept.history_] == [0] * 5
    off = ICFL(max_iter=5, reset_every=1, reset_similarity=1.0, **parameters)
    assert sum(r["resets"] for r in off.fit(X64).history_) <= 12


def test_resets_come_every_so_many_steps_but_the_last():
    # Six steps a pass, and every pair of atoms counts as redundant.
    parameters = {"reset_similarity": 0.0, "batch_size": 250, "tol": None}
    model = planted(ICFL, reset_every=9, max_iter=5, **parameters).fit(X)
    resets = [record["resets"] > 0 for record in model.history_]
    # After steps 9 and 18; 27 is among the last 9 of 30.
    assert resets == [False, True, True, False, False]


def test_callers_see_resets_in_a_stream():
    model = planted(ICFL, reset_similarity=0.0, reset_every=9)
    stream(model, 3)
    at = [r["epoch"] for r in model.history_ if r["resets"]]
    assert at == [9, 18]


def test_auxiliary_loss_revives_dead_latents():
    # Half of the latents are pushed where ReLU silences them for good.
    def revive(weight):
        model = planted(TopKSAE, max_iter=1).fit(X)
        model.encoder_bias_[::2] = -1.5
        model.set_params(warm_start=True, auxiliary_weight=weight, max_iter=60)
        return model.set_params(tol=None, learning_rate=0.02).fit(X)

    without, revived = revive(0), revive(1 / 32)
    assert without.dead_features_.mean() == 0.5
    assert revived.dead_features_.mean() < 0.2
    assert revived.score(X) > without.score(X) + 0.05


def test_auxiliary_loss_waits_for_dead_latents():
    def fit(**params):
        return TopKSAE(300, 2, max_iter=2, tol=None, random_state=0, **params).fit(X)

    off = fit(auxiliary_weight=0)
    same_fit(fit(dead_after=3.0), off)
    assert not np.array_equal(fit(dead_after=0.5).components_, off.components_)


# Bad input


@dictionaries
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score"])
def test_rows_that_are_not_finite(cls, method):
    rows = X[:60].copy()
    rows[[4, 7], 2], rows[9, 0], rows[9, 3] = np.nan, np.inf, -np.inf
    model = planted(cls, max_iter=1)
    if method in ("transform", "score"):
        model.fit(X)
    with pytest.raises(ValueError, match=r"NaN or infinity in 3 of 60 rows, .*row 4"):
        getattr(model, method)(rows)


@dictionaries
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (X[:0], ValueError, "0 sample"),
        (X[:, :0], ValueError, "0 feature"),
        (X[0], ValueError, "Expected 2D array, got 1D"),
        (X[None], ValueError, "Found array with dim 3"),
        (sp.csr_matrix(X), TypeError, "Sparse data"),
        ([["a", "b"], ["c", "d"]], ValueError, "bytes/strings"),
        (X * 1j, ValueError, "Complex data not supported"),
        (None, ValueError, "Expected 2D array, got scalar"),
    ],
    ids=["empty", "no features", "1d", "3d", "sparse", "text", "complex", "none"],
)
def test_bad_rows(cls, rows, error, message):
    model = planted(cls, max_iter=1)
    for method in (model.fit, model.partial_fit):
        with pytest.raises(error, match=message):
            method(rows)
    model.fit(X)
    for method in (model.transform, model.score):
        with pytest.raises(error, match=f"{message}|0 feature|expecting 16"):
            method(rows)


@dictionaries
def test_number_of_features(cls):
    model = planted(cls, max_iter=1).fit(X)
    for method in (model.transform, model.score, model.partial_fit):
        with pytest.raises(ValueError, match=r"15 features, but .* expecting 16"):
            method(X[:, :15])


@dictionaries
def test_codes_of_the_wrong_kind(cls):
    model = planted(cls, max_iter=1).fit(X)
    codes = model.transform(X)
    for wrong in (codes[:, :23], codes.toarray()[:, :23]):
        with pytest.raises(ValueError, match=r"23 columns, but .* has 24 components"):
            model.inverse_transform(wrong)
    with pytest.raises(ValueError, match="0 sample"):
        model.inverse_transform(codes[:0])
    with pytest.raises(ValueError, match="Expected 2D array"):
        model.inverse_transform(codes.toarray()[0])
    codes.data[3] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        model.inverse_transform(codes)


@dictionaries
def test_not_fitted(cls):
    for method in ("transform", "inverse_transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(cls(), method)(X)


@pytest.mark.parametrize(
    "params",
    [
        {"k": 0},
        {"k": -1},
        {"k": "2"},
        {"n_components": 0},
        {"max_iter": -1},
        {"batch_size": 0},
        {"batch_size": "all"},
        {"learning_rate": 0.0},
        {"learning_rate": np.inf},
        {"learning_rate": np.nan},
        {"tol": -1.0},
        {"tol": np.nan},
        {"n_iter_no_change": 0},
        {"callbacks": print},
        {"verbose": -1},
        {"random_state": -1},
    ],
    ids=str,
)
@dictionaries
def test_bad_parameters(cls, params):
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
            getattr(cls(**params), method)(X)


@pytest.mark.parametrize(
    "model",
    [
        ICFL(atoms_per_step=0),
        ICFL(selection="negative"),
        ICFL(refit="each_step"),
        ICFL(reset_similarity=1.1),
        ICFL(reset_every=0),
        TopKSAE(auxiliary_weight=-1),
        TopKSAE(dead_after=0),
    ],
    ids=str,
)
def test_bad_parameters_of_one(model):
    with pytest.raises(ValueError, match="parameter of"):
        model.fit(X)


@dictionaries
@pytest.mark.parametrize(
    ("device", "message"), [("tpu9", "not a device"), ("meta", "holds no data")]
)
def test_bad_device(cls, device, message):
    with pytest.raises(ValueError, match=message):
        cls(device=device).fit(X)


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not KSVD])
def test_learning_rate_that_diverges_is_refused(cls):
    with pytest.raises(ValueError, match=r"diverged.*learning_rate"):
        planted(cls, learning_rate=1e30, max_iter=5).fit(X)


def test_a_large_learning_rate_leaves_icfl_better_than_the_mean_row():
    # Atoms return to unit norm, and the pre-bias is not learned.
    model = planted(ICFL, learning_rate=1e9, max_iter=5).fit(X)
    assert_sound(model, X)
    assert model.score(X) > 0


@dictionaries
@pytest.mark.parametrize(
    "rows",
    [
        np.sign(X) * np.finfo(np.float32).max,
        np.sign(X64) * np.finfo(np.float64).max,
    ],
    ids=["float32", "float64"],
)
def test_rows_at_the_end_of_the_range_are_refused(cls, rows):
    with pytest.raises(ValueError, match="Scale X down"):
        planted(cls, max_iter=1).fit(rows)
    model = planted(cls, max_iter=1).fit(X.astype(rows.dtype))
    for method in (model.transform, model.score):
        with pytest.raises(ValueError, match=r"overflows float.* in \d+ of 1500 rows"):
            method(rows)
    codes = np.full((2, 24), abs(rows).max())
    codes[1] = 0
    model.components_[:] = 1
    with pytest.raises(ValueError, match=r"overflows float.* in 1 of 2 rows"):
        model.inverse_transform(codes)


@dictionaries
def test_the_row_that_overflowed_is_counted_over_all_batches(cls, monkeypatch):
    monkeypatch.setattr(_base, "_INFERENCE_ROWS", 100)
    model, rows = planted(cls, max_iter=1).fit(X), X.copy()
    rows[1234] = np.sign(X[1234]) * np.finfo(np.float32).max
    for method in (model.transform, model.score):
        with pytest.raises(ValueError, match=r"1 of 1500 rows, .*row 1234\."):
            method(rows)


@dictionaries
def test_a_reconstruction_that_overflows_is_told(cls, monkeypatch):
    monkeypatch.setattr(_base, "_INFERENCE_ROWS", 100)
    decode, batches = Dictionary.decode, itertools.count()

    def overflow(self, code):
        x_hat = decode(self, code)
        if next(batches) == 12:
            x_hat[34] = np.inf
        return x_hat

    model = planted(cls, max_iter=1).fit(X)
    monkeypatch.setattr(Dictionary, "decode", overflow)
    with pytest.raises(ValueError, match=r"reconstruction overflows .*row 1234\."):
        model.score(X)


# Odd input that is no error


@variants
def test_a_row_at_the_pre_bias_has_an_all_zero_code(variant):
    model = make(variant, n_components=20, k=3, max_iter=3).fit(FEW)
    if variant == "TopKSAE":
        model.encoder_bias_ = -np.abs(model.encoder_bias_)
    codes = model.transform(np.vstack([model.pre_bias_, FEW[0]]))
    assert codes[[0]].nnz == 0
    assert codes[[1]].nnz > 0
    assert_array_equal(model.inverse_transform(codes)[0], model.pre_bias_)


def odd_rows():
    rng = np.random.default_rng(0)
    rows = FEW.astype(np.float32)
    return {
        "all zero": np.zeros((9, 4), np.float32),
        "some zero": np.vstack([rows, np.zeros((5, 8), np.float32)]),
        "duplicate": np.repeat(rows[:3], 20, axis=0),
        "constant features": np.c_[rows, np.full((60, 2), 3, np.float32)],
        "large constant feature": np.c_[rows, np.full((60, 1), 1e10, np.float32)],
        "huge constant feature": np.c_[
            rows * np.float32(1e-29), np.full((60, 1), 1e10, np.float32)
        ],
        "one row": rows[:1],
        "two rows": rows[:2],
        "one feature": rows[:, :1],
        "one number": rows[:1, :1],
        "fewer rows than components": rows[:5],
        "huge": rows * np.float32(1e30),
        "tiny": rows * np.float32(1e-30),
        "subnormal": rows * np.float32(1e-40),
        "smallest": np.sign(rows) * np.float32(1e-45),
        "huge float64": FEW * 1e300,
        "tiny float64": FEW * 1e-300,
        "subnormal float64": FEW * 1e-310,
        "float16": rows.astype(np.float16),
        "bool": rows > 0,
        "outlier": np.vstack([rows, np.full((1, 8), 1e30, np.float32)]),
        "parallel outlier": np.vstack([rows, rows[:1] * np.float32(1e30)]),
        "large offset": rows + np.float32(1e6),
        "Fortran": np.asfortranarray(rows),
        "reversed": rows[::-1, ::-1],
        "strided": np.repeat(rows, 2, axis=1)[:, ::2],
        "big endian": rows.astype(">f4"),
        "long double": rows.astype(np.longdouble),
        "mixed magnitudes": rows * 10.0 ** rng.integers(-150, 150, rows.shape),
        "list": rows.tolist(),
    }


@pytest.mark.parametrize("kind", odd_rows())
@variants
def test_odd_rows_are_no_error(variant, kind):
    rows = odd_rows()[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(variant, n_components=20, k=2, max_iter=3).fit(rows)
        assert_sound(model, np.asarray(rows))
        model = make(variant, n_components=20, k=2).partial_fit(rows)
        assert_sound(model.partial_fit(rows), np.asarray(rows))


@variants
def test_refit_and_codes_at_any_magnitude(variant):
    model = make(variant, n_components=20, k=6, max_iter=3).fit(FEW.astype(np.float32))
    model.pre_bias_[:] = 0
    if variant == "TopKSAE":
        model.encoder_bias_[:] = 0
    codes = model.transform(FEW.astype(np.float32)).toarray()
    for exponent in (-100, 100):
        factor = np.float32(2.0**exponent)
        scaled = model.transform(factor * FEW.astype(np.float32)).toarray()
        assert_array_equal(scaled, factor * codes)


@dictionaries
def test_memory_layout_does_not_matter(cls, tmp_path):
    expected = planted(cls, max_iter=3, batch_size=100).fit(X)
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    raw = np.memmap(tmp_path / "rows.raw", np.float32, "w+", shape=X.shape)
    raw[:] = X
    raw.flush()
    frozen_rows = X.copy()
    frozen_rows.flags.writeable = False
    layouts = [
        mapped,
        np.memmap(tmp_path / "rows.raw", np.float32, "r", shape=X.shape),
        np.asfortranarray(X),
        frozen_rows,
        np.repeat(X, 2, axis=0)[::2],
    ]
    for rows in layouts:
        model = planted(cls, max_iter=3, batch_size=100).fit(rows)
        same_fit(model, expected)
        assert_array_equal(model.transform(rows).data, expected.transform(X).data)
        assert model.score(rows) == pytest.approx(expected.score(X), rel=1e-12)
        model.partial_fit(rows)
    assert_array_equal(mapped, X)


@dictionaries
def test_estimator_loaded_as_a_read_only_memmap(cls, tmp_path):
    model = planted(cls, max_iter=2, warm_start=True).fit(X)
    model.partial_fit(X)
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert isinstance(mapped.components_, np.memmap)
    codes = model.transform(X)
    assert_array_equal(mapped.transform(X).toarray(), codes.toarray())
    assert_array_equal(
        mapped.inverse_transform(codes), model.inverse_transform(codes), strict=True
    )
    assert mapped.score(X) == model.score(X)
    same_fit(mapped.partial_fit(X), model.partial_fit(X))
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert mapped.fit(X).n_iter_ == 2


def test_duplicate_atoms_are_no_error():
    model = ICFL(init=np.repeat(FEW[:4], 5, axis=0), k=8, max_iter=3).fit(FEW)
    assert_sound(model, FEW)
    model.components_[:] = model.components_[0]
    for refit in (False, True):
        assert_sound(model.set_params(refit=refit), FEW)


@variants
def test_fitted_attributes_are_small_numpy_arrays(variant):
    model = make(variant, max_iter=1).fit(FEW)
    for name, value in vars(model).items():
        assert not isinstance(value, torch.Tensor | torch.nn.Module), name
        if isinstance(value, np.ndarray):
            assert value.base is None or value.base.nbytes == value.nbytes, name
    parameters = sum(
        getattr(model, parameter.attribute).nbytes
        for parameter in model._model.fitted.values()
    )
    assert len(pickle.dumps(model)) < parameters + 10_000


@st.composite
def finite_rows(draw):
    """Rows of any shape and magnitude, some of them degenerate."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    rows = rng.normal(size=(draw(st.integers(1, 30)), draw(st.integers(1, 7))))
    if draw(st.booleans()):
        rows[:, 0] = draw(st.sampled_from([0.0, 1.0, 1e6]))
    if draw(st.booleans()):
        rows[rng.random(len(rows)) < 0.5] = 0
    if draw(st.booleans()):
        rows[rng.random(len(rows)) < 0.5] = rows[0]
    if draw(st.booleans()):
        rows = np.round(rows)
    if draw(st.booleans()):
        rows[-1] *= draw(st.sampled_from([1e-15, 1e4, 1e15]))
    if draw(st.booleans()):
        rows += draw(st.sampled_from([1.0, 1e3, 1e7]))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    highest = {np.float16: 0, np.float32: 18, np.float64: 270}[dtype]
    lowest = {np.float16: 0, np.float32: -45, np.float64: -320}[dtype]
    rows = rows * 10.0 ** draw(st.integers(lowest, highest))
    with np.errstate(over="ignore"):
        return np.nan_to_num(rows.astype(dtype))


@settings(max_examples=120)
@given(
    rows=finite_rows(),
    variant=st.sampled_from(sorted(VARIANTS)),
    n_components=st.integers(1, 12),
    k=st.integers(1, 14),
    init=st.sampled_from(["random", "samples"]),
    batch_size=st.sampled_from(["auto", 1, 7]),
    streamed=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:k=")
def test_never_a_nan_out_of_finite_rows(
    rows, variant, n_components, k, init, batch_size, streamed
):
    model = make(
        variant,
        n_components=n_components,
        k=k,
        init=init,
        batch_size=batch_size,
        max_iter=2,
    )
    if streamed:
        model.partial_fit(rows).partial_fit(rows)
    else:
        model.fit(rows)
    assert_sound(model, rows)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    n_components=st.integers(1, 20),
    k=st.integers(1, 12),
    atoms_per_step=st.integers(1, 6),
    selection=st.sampled_from(["positive", "absolute"]),
    refit=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:k=")
def test_icfl_against_plain_loops(
    seed, n_components, k, atoms_per_step, selection, refit
):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(12, 9))
    options = {
        "atoms_per_step": min(atoms_per_step, n_components),
        "selection": selection,
        "refit": refit,
    }
    model = ICFL(n_components, k, max_iter=1, random_state=seed, **options).fit(rows)
    codes = model.transform(rows).toarray()
    pairs = [
        algorithm_1(row - model.pre_bias_, model.components_, k, **options)
        for row in rows
    ]
    expected, leads = zip(*pairs, strict=True)
    clear = np.flatnonzero(np.array(leads) > 1e-9)
    # Equal errors rather than equal codes: ten atoms in nine dimensions depend on
    # each other, and their coefficients are not unique.
    errors = [
        np.linalg.norm(rows[i] - model.pre_bias_ - z @ model.components_)
        for i in clear
        for z in (codes[i], expected[i])
    ]
    assert_allclose(errors[::2], errors[1::2], atol=1e-8)
    X_hat = model.inverse_transform(codes)
    assert model.score(rows) == pytest.approx(explained_variance(rows, X_hat))


def test_an_accelerator_is_asked_for_dead_latents_every_few_steps_only(monkeypatch):
    monkeypatch.setattr(TopKAutoencoder, "_is_on_cpu", False)
    monkeypatch.setattr(topk, "_LOOK_FOR_DEAD_EVERY", 3)
    model = TopKAutoencoder(torch.eye(8), 2, auxiliary_weight=1.0, dead_after=1)
    looked, dead = [], []
    maintain_ = model.maintain_

    def watch(objective, clock):
        before = model.dead
        result = maintain_(objective, clock)
        if model.dead is not before:
            looked.append(clock.n_steps)
            dead.append(len(model.dead))
        return result

    model.maintain_ = watch
    generator = torch.Generator().manual_seed(0)
    net = DictionaryNet(model, lr=1e-3, batch_size=4, generator=generator)
    net.start().train(torch.rand(32, 8), 1)
    assert looked == [3, 6]
    assert min(dead) > 0


# What must not depend on the length of training, on the caller or on a failed fit


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
        long = clone(model).set_params(max_iter=150).fit(DRIFTING)
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


def test_topk_sae_starts_at_the_magnitude_of_its_rows():
    model = TopKSAE(128, 8, max_iter=0, validation_fraction=None, random_state=0)
    assert model.fit(X).score(X) > 0.3
    # What was put in by hand stays as it is.
    given = TopKSAE(init=X[:128], k=8, max_iter=0, random_state=0).fit(X)
    assert_allclose(given.encoder_components_, given.components_, rtol=1e-6)


def test_more_epochs_do_not_make_topk_sae_worse():
    train, test = X[::2], X[1::2]
    scores = [
        TopKSAE(128, 6, max_iter=max_iter, random_state=0).fit(train).score(test)
        for max_iter in (30, 100, 300)
    ]
    assert min(scores[1:]) > scores[0] - 0.01


@dictionaries
def test_held_out_rows_are_a_fraction_rounded_down(cls):
    model = cls(16, 2, max_iter=2, validation_fraction=0.3, random_state=0)
    assert "validation_explained_variance" in model.fit(X[:30]).history_[0]
    alone = clone(model).set_params(validation_fraction=None).fit(X[:16])
    same_fit(model.fit(X[:16]), alone)  # four rows would be too few
    assert "validation_explained_variance" not in model.history_[0]
    with pytest.raises(ValueError, match="validation_fraction"):
        cls(validation_fraction=1.0).fit(X[:30])


@dictionaries
def test_autocast_of_the_caller_changes_nothing(cls):
    model = planted(cls, max_iter=2).fit(X)
    codes = model.transform(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = planted(cls, max_iter=2).fit(X)
        same_fit(inside, model)
        found = model.transform(X)
        assert model.score(X) == inside.score(X)
        assert_array_equal(
            model.inverse_transform(found), model.inverse_transform(codes)
        )
        assert torch.is_autocast_enabled("cpu")
    assert_array_equal(found.toarray(), codes.toarray())


def interrupt(record):
    raise KeyboardInterrupt


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
    model = planted(cls, max_iter=2).fit(X)
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


@pytest.mark.parametrize("learning_rate", [30.0, 1e3, 1e6])
def test_a_learning_rate_that_diverges_is_named(learning_rate):
    model = TopKSAE(24, 2, learning_rate=learning_rate, tol=None, random_state=0)
    model.set_params(validation_fraction=None, max_iter=20)
    with pytest.raises(ValueError, match=f"diverged.*learning_rate={learning_rate}"):
        model.fit(X)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_a_single_row_does_not_wreck_what_many_have_taught(how, scale):
    model = TopKSAE(24, 2, random_state=0, warm_start=how == "warm_start")
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
        for row in scale * X[:60]:
            model.partial_fit(row[None])
        return model.score(scale * X)

    assert score(1e-4) == pytest.approx(score(1.0), abs=0.02)


def test_callbacks_cannot_change_the_history():
    model = planted(TopKSAE, max_iter=2, callbacks=[dict.clear]).fit(X)
    assert all("explained_variance" in record for record in model.history_)
