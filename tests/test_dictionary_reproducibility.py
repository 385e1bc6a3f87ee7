"""Same rows, same dictionary: chance, torch's modes and the memory layout."""

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from oracles import CLASSES, KINDS, X64, X, dictionaries, kinds, planted, same_fit
from sklearn import config_context

from skdict import ICFL, TopKSAE

# Chance


@dictionaries
def test_same_seed_same_result_to_the_bit(cls):
    def fit(seed):
        # Batches smaller than the data, or the order of the rows plays no part.
        return planted(cls, random_state=seed, max_iter=2, batch_size=100).fit(X[:400])

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


# Modes of torch


@pytest.mark.parametrize(
    ("mode", "cls"),
    [(torch.inference_mode, cls) for cls in CLASSES]
    + [(torch.no_grad, cls) for cls in KINDS],
)
def test_torch_may_be_told_not_to_keep_gradients(mode, cls):
    # As in scripts that extract embeddings and learn a dictionary in one go.
    few = X[:400]
    expected = planted(cls, max_iter=2).fit(few)
    with mode():
        model = planted(cls, max_iter=2).fit(few)
        same_fit(model, expected)
        streamed = planted(cls).partial_fit(few).partial_fit(few)
        rows = torch.tensor(few)
        with config_context(array_api_dispatch=True):
            inside = planted(cls, max_iter=2, sparse_output=False).fit(rows)
            inside.partial_fit(rows)
    same_fit(streamed, planted(cls).partial_fit(few).partial_fit(few))
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


@kinds
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


# Memory


@kinds
def test_memory_layout_does_not_matter(cls, tmp_path):
    few = X[:400]
    expected = planted(cls, max_iter=3, batch_size=100).fit(few)
    np.save(tmp_path / "rows.npy", few)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    raw = np.memmap(tmp_path / "rows.raw", np.float32, "w+", shape=few.shape)
    raw[:] = few
    raw.flush()
    frozen_rows = few.copy()
    frozen_rows.flags.writeable = False
    layouts = [
        mapped,
        np.memmap(tmp_path / "rows.raw", np.float32, "r", shape=few.shape),
        np.asfortranarray(few),
        frozen_rows,
        np.repeat(few, 2, axis=0)[::2],
    ]
    for rows in layouts:
        model = planted(cls, max_iter=3, batch_size=100).fit(rows)
        same_fit(model, expected)
        assert_array_equal(model.transform(rows).data, expected.transform(few).data)
        assert model.score(rows) == pytest.approx(expected.score(few), rel=1e-12)
        model.partial_fit(rows)
    assert_array_equal(mapped, few)


@kinds
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
