"""Where atoms start: drawn, given, or left by an earlier fit."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    FEW,
    X64,
    X,
    assert_sound,
    close_atoms,
    dictionaries,
    fitted,
    frozen,
    kinds,
    planted,
    same_fit,
)

from skdict import ICFL, KSVD, Codebook, TopKSAE
from skdict.metrics import match_dictionaries

# init


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


def test_topk_sae_starts_at_the_magnitude_of_its_rows():
    model = TopKSAE(128, 8, max_iter=0, validation_fraction=None, random_state=0)
    assert model.fit(X).score(X) > 0.3
    # What was put in by hand stays as it is.
    given = TopKSAE(init=X[:128], k=8, max_iter=0, random_state=0).fit(X)
    assert_allclose(given.encoder_components_, given.components_, rtol=1e-6)


# Warm starts


@pytest.mark.parametrize("cls", [ICFL, TopKSAE, KSVD])
def test_warm_start(cls):
    model = fitted(cls).set_params(warm_start=True)
    score, n_steps, loss = model.score(X), model.n_steps_, model.history_[-1]["loss"]
    atoms = model.components_.copy()
    model.set_params(init="random").fit(X)
    assert model.score(X) > score - 0.01
    assert model.n_steps_ < n_steps
    assert match_dictionaries(atoms, model.components_)[1].mean() > 0.9
    cold = fitted(cls)
    assert model.history_[0]["loss"] < 0.8 * cold.history_[0]["loss"]
    assert model.history_[0]["loss"] == pytest.approx(loss, rel=0.3)


@dictionaries
def test_warm_start_needs_the_same_shape(cls):
    model = fitted(cls, max_iter=1).set_params(warm_start=True)
    before = model.transform(X)
    with pytest.raises(ValueError, match=r"8 features, but .* expecting 16"):
        model.fit(X[:, :8])
    assert_array_equal(model.transform(X).toarray(), before.toarray())
    with pytest.raises(ValueError, match=r"shape \(24, 16\).* is \(7, 16\)"):
        model.set_params(n_components=7).fit(X)
    with pytest.raises(ValueError, match=r"shape \(24, 16\).* is \(7, 16\)"):
        model.partial_fit(X)
    assert_array_equal(model.transform(X).toarray(), before.toarray())


@kinds
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
