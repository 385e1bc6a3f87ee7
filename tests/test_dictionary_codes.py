"""Codes of the dictionaries: the equations, their form, and the encoders."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import FEW, X64, X, algorithm_1, make_variant, planted, variants
from sklearn.base import clone
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import NotFittedError

from skdict import ICFL, TopKSAE
from skdict.metrics import explained_variance

# The form


@variants
def test_sparse_and_dense_codes_agree(variant):
    model = make_variant(variant, max_iter=2, k=3).fit(X)
    codes = model.transform(X)
    assert codes.format == "csr"
    assert codes.shape == (1500, 128)
    array = model.set_params(sparse_output=False).transform(X)
    assert_array_equal(codes.toarray(), array, strict=True)
    same = make_variant(variant, max_iter=2, k=3, sparse_output=False).fit_transform(X)
    assert_array_equal(same, array, strict=True)


@variants
def test_more_non_zeros_than_components_warn(variant):
    for options in ({"n_components": 4}, {"n_components": None, "init": X[:4]}):
        model = make_variant(variant, max_iter=1, **options)
        for fit in ("fit", "partial_fit"):
            with pytest.warns(UserWarning, match="k=5 is larger .* 4 comp") as caught:
                more = getattr(clone(model).set_params(k=5), fit)(X[:50])
            assert caught[0].filename == __file__
            equal = getattr(clone(model).set_params(k=4), fit)(X[:50])
            codes = more.transform(X[:50]).toarray()
            assert_array_equal(codes, equal.transform(X[:50]).toarray())
    # The default has no one to be warned.
    make_variant(variant, n_components=2, k=None, max_iter=1).fit(np.tile(X[:50], 3))


@pytest.mark.parametrize("k", [1, 3, 7, 128, 1000])
@pytest.mark.filterwarnings("ignore:k=")
@variants
def test_csr_codes_are_canonical(variant, k):
    model = make_variant(variant, max_iter=1, k=k).fit(X[:50])
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


@variants
def test_inverse_transform_is_linear_in_the_codes(variant):
    model = make_variant(variant, max_iter=1, k=4).fit(FEW)
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


@variants
def test_rows_do_not_depend_on_each_other(variant):
    model = make_variant(variant, max_iter=1, k=4).fit(FEW)
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


@variants
def test_a_row_at_the_pre_bias_has_an_all_zero_code(variant):
    model = make_variant(variant, n_components=20, k=3, max_iter=3).fit(FEW)
    if variant == "TopKSAE":
        model.encoder_bias_ = -np.abs(model.encoder_bias_)
    codes = model.transform(np.vstack([model.pre_bias_, FEW[0]]))
    assert codes[[0]].nnz == 0
    assert codes[[1]].nnz > 0
    assert_array_equal(model.inverse_transform(codes)[0], model.pre_bias_)


# The equations


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
@pytest.mark.parametrize("span_distance", [0.0, 0.2])
def test_icfl_encodes_as_algorithm_1(params, span_distance):
    # With one atom per step this is matching pursuit.
    params = params | {"span_distance": span_distance}
    model = ICFL(20, 7, max_iter=2, random_state=0, **params).fit(FEW)
    pairs = [
        algorithm_1(x - model.pre_bias_, model.components_, 7, **params) for x in FEW
    ]
    expected, leads = zip(*pairs, strict=True)
    assert min(leads) > 1e-9  # nothing hangs on rounding
    assert_allclose(model.transform(FEW).toarray(), expected, atol=1e-9)


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


def test_topk_sae_encodes_as_its_equation():
    model = TopKSAE(20, 3, max_iter=5, random_state=0).fit(FEW)
    activations = (FEW - model.pre_bias_) @ model.encoder_components_.T
    activations = np.maximum(activations + model.encoder_bias_, 0)
    kth = np.sort(activations, axis=1)[:, -3, None]
    expected = np.where(activations >= kth, activations, 0)
    assert_allclose(model.transform(FEW).toarray(), expected, atol=1e-12)


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


@pytest.mark.parametrize(
    "params",
    [
        {"atoms_per_step": 1, "selection": "absolute", "refit": "every_step"},
        {"atoms_per_step": 3, "refit": True},
        {"k": 11, "atoms_per_step": 2},
        {"span_distance": 0.9},
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
