"""Kernels and dictionaries on an accelerator against the CPU.

``SKDICT_DEVICE=cuda`` names the accelerator; the CPU stands in where there is none.
"""

import os
from copy import deepcopy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from oracles import CLASSES, algorithm_1
from sklearn import config_context
from sklearn.base import clone

from skdict import Transcoder
from skdict.datasets import make_planted_dictionary
from skdict.decomposition import fit_many
from skdict.ops import RaggedCode, SlotCode, batched_omp
from skdict.ops.least_squares import solve_normal_equations
from skdict.training import Checkpoint

DEVICE = os.environ.get("SKDICT_DEVICE", "cpu")
ROWS = make_planted_dictionary(900, 12, n_components=20, n_active=3, random_state=0)
X, NEW = ROWS.data[:600].astype(np.float32), ROWS.data[600:].astype(np.float32)
N, S, M, D = 40, 6, 30, 9


def on_device(*tensors):
    return tuple(tensor.to(DEVICE) for tensor in tensors)


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    indices = torch.rand(N, M, generator=generator).argsort(1)[:, :S]
    values = torch.randn(N, S, generator=generator, dtype=dtype)
    values[3] = 0
    W = torch.nn.functional.normalize(torch.randn(M, D, generator=generator)).to(dtype)
    x = torch.randn(N, D, generator=generator).to(dtype)
    return x, W, indices, values


@pytest.mark.parametrize("kind", ["slots", "ragged"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_and_gradients_of_codes(kind, dtype):
    x, W, indices, values = problem(dtype)
    dense = SlotCode(indices, values).to_dense(M)

    def code(indices, values):
        if kind == "slots":
            return SlotCode(indices, values)
        keep = values != 0
        counts = keep.sum(1).cumsum(0)
        offsets = torch.cat([counts.new_zeros(1), counts])
        return RaggedCode(offsets, indices[keep], values[keep])

    there = on_device(x, W, indices, values)
    made = code(*there[2:])
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    torch.testing.assert_close(made.decode(there[1]).cpu(), dense @ W, **close)
    torch.testing.assert_close(made.correlate(there[0], M).cpu(), dense.T @ x, **close)
    assert torch.equal(made.fire_counts(M).cpu(), (dense != 0).sum(0))
    torch.testing.assert_close(
        made.decode_range(there[1], 5, 20).cpu(), dense[:, 5:20] @ W[5:20], **close
    )
    leaves = [there[3].requires_grad_(), there[1].requires_grad_()]
    loss = (code(there[2], leaves[0]).decode(leaves[1]) * there[0]).sum()
    found = torch.autograd.grad(loss, leaves)
    expected = (x @ W.T).gather(1, indices)
    active = values != 0
    torch.testing.assert_close(found[0].cpu()[active], expected[active], **close)
    torch.testing.assert_close(found[1].cpu(), dense.T @ x, **close)


@pytest.mark.parametrize("form", ["gram", "residual"])
@pytest.mark.parametrize(
    "options", [{}, {"refit": True}, {"tol": 0.3}, {"span_distance": 0.6}]
)
def test_pursuit(form, options):
    x, W, *_ = problem()
    code = batched_omp(*on_device(x, W), 7, atoms_per_step=3, form=form, **options)
    expected = [
        algorithm_1(row, W.numpy(), 7, atoms_per_step=3, **options)[0]
        for row in x.numpy()
    ]
    assert_allclose(code.to_dense(M).cpu().numpy(), np.stack(expected), atol=1e-8)


def test_singular_least_squares():
    x, W, indices, _ = problem()
    atoms = W[indices]
    atoms[:, 1] = atoms[:, 0]
    atoms[:, 2] = 0
    gram, c = atoms @ atoms.mT, (atoms @ x[:, :, None])[:, :, 0]
    # Equal to the bit, as a pursuit gathers them.
    c[:, 1], gram[:, 1], gram[:, :, 1] = c[:, 0], gram[:, 0], gram[:, :, 0]
    z = solve_normal_equations(*on_device(gram, c)).cpu()
    assert_allclose(z[:, 0], z[:, 1], atol=0.05)  # up to rounding over the ridge
    assert (z[:, 2] == 0).all()
    rebuilt = (z[:, None] @ atoms)[:, 0]
    best = (torch.linalg.pinv(gram) @ c[:, :, None]).mT @ atoms
    assert_allclose(rebuilt, best[:, 0], atol=1e-6)


@pytest.mark.parametrize("cls", CLASSES)
def test_dictionary(cls, tmp_path):
    model = cls(20, 3, max_iter=3, batch_size=128, random_state=0, device=DEVICE)
    path = tmp_path / "checkpoint"
    model.set_params(callbacks=[Checkpoint(path)]).fit(X)
    codes = model.transform(NEW)
    assert np.isfinite(model.components_).all()
    assert model.history_[-1]["loss"] <= model.history_[0]["loss"]
    # The same atoms encode the same on the CPU.
    here = deepcopy(model).set_params(device="cpu", callbacks=None)
    there, cpu = codes.toarray(), here.transform(NEW).toarray()
    same_support = ((there != 0) == (cpu != 0)).all(axis=1)
    assert same_support.mean() > 0.98
    assert_allclose(there[same_support], cpu[same_support], rtol=1e-3, atol=1e-4)
    assert_allclose(
        model.inverse_transform(codes), here.inverse_transform(codes), atol=1e-4
    )
    # A finished checkpoint gives the same atoms, on whatever device.
    again = clone(model).fit(X)
    assert_allclose(again.components_, model.components_, atol=1e-6)
    model.set_params(callbacks=None).partial_fit(NEW)
    assert np.isfinite(model.components_).all()


def test_rows_that_are_on_the_device_already():
    rows = torch.from_numpy(X).to(DEVICE)
    model = CLASSES[0](20, 3, max_iter=2, random_state=0, device=DEVICE)
    expected = clone(model).fit(X)
    with config_context(array_api_dispatch=True):
        model.fit(rows)
    assert model.components_.device.type == torch.device(DEVICE).type
    assert_allclose(model.components_.cpu(), expected.components_, atol=1e-5)


def test_transcoder_and_many_at_once():
    model = Transcoder(20, 3, max_iter=3, random_state=0, device=DEVICE).fit(
        X, X[:, :4]
    )
    assert model.predict(NEW).shape == (len(NEW), 4)
    two = [
        cls(20, 3, max_iter=2, validation_fraction=None, random_state=0, device=DEVICE)
        for cls in CLASSES[:2]
    ]
    for fitted in fit_many(two, X, random_state=0):
        assert fitted.history_[-1]["loss"] < fitted.history_[0]["loss"]
