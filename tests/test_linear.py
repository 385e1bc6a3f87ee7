"""Linear encoders with a floor, against dense formulas in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdict.models.autoencoder import nth_largest
from skdict.ops import DenseCode, RaggedCode, linear
from skdict.ops.linear import above, batch_topk_encode, linear_encode, strongest
from skdict.ops.topk import topk_encode


def latents(seed, n=30, d=6, m=40):
    generator = torch.Generator().manual_seed(seed)
    x, encoder = (
        torch.randn(k, d, generator=generator, dtype=torch.float64).requires_grad_()
        for k in (n, m)
    )
    bias = torch.randn(m, generator=generator, dtype=torch.float64).requires_grad_()
    return x, encoder, bias


@pytest.mark.parametrize(("sparse", "kind"), [(0.0, DenseCode), (1.0, RaggedCode)])
@given(seed=st.integers(0, 99), floor=st.floats(-1, 3))
def test_linear_encode_and_its_gradients(sparse, kind, seed, floor):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_SPARSE", sparse)
        inputs = latents(seed)
        code = linear_encode(*inputs, floor)
    x, encoder, bias = inputs
    dense = x @ encoder.T + bias
    is_above = (dense > floor).double()
    assert isinstance(code, kind) or not is_above.any()
    kept = code.with_values(code.values * (code.values > floor))
    torch.testing.assert_close(kept.to_dense(40), dense * is_above)
    # sin is any function of the values.
    grads = torch.autograd.grad(kept.values.sin().sum(), inputs)
    expected = torch.autograd.grad((dense.sin() * is_above).sum(), inputs)
    for grad, oracle in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, oracle)


def test_decode_of_a_ragged_code_and_its_gradients():
    x, encoder, bias = latents(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_SPARSE", 1.0)
        code = linear_encode(x, encoder, bias, 0.5)
    values = code.values.detach().requires_grad_()
    atoms = encoder.detach().clone().requires_grad_()
    code = code.with_values(values)
    for start, stop in [(0, 40), (5, 17)]:
        loss = code.decode_range(atoms, start, stop).square().sum()
        dense = code.to_dense(40)[:, start:stop] @ atoms[start:stop]
        torch.testing.assert_close(loss, dense.square().sum())
        got = torch.autograd.grad(loss, (values, atoms))
        want = torch.autograd.grad(dense.square().sum(), (values, atoms))
        for grad, oracle in zip(got, want, strict=True):
            torch.testing.assert_close(grad, oracle)


@given(
    seed=st.integers(0, 99),
    k=st.floats(0.1, 12),
    shift=st.sampled_from([-8.0, -2.0, 0.0, 3.0]),
    sparse=st.sampled_from([0.0, 1 / 16, 1.0]),
)
def test_batch_topk_keeps_the_largest_of_the_batch(seed, k, shift, sparse):
    x, encoder, bias = (tensor.detach() for tensor in latents(seed, n=300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_SPARSE", sparse)
        code = batch_topk_encode(x, encoder, bias + shift, k)
    dense = (x @ encoder.T + bias + shift).relu().flatten()
    n = round(k * 300)
    best = dense.topk(min(n, len(dense))).values
    expected = torch.where(dense >= best[-1], dense, 0.0) if n else dense * 0
    torch.testing.assert_close(code.to_dense(40).flatten(), expected)
    assert sum(code.entries()[0]) == min(n, int((dense > 0).sum()))


def test_a_floor_that_is_too_high_is_noticed(monkeypatch):
    # The rows that are looked at are the active ones: they promise too much.
    x = torch.zeros(1280, 4, dtype=torch.float64)
    x[::10] = 100.0
    x[1::10] = 1.0
    monkeypatch.setattr(linear, "_SAMPLE", 128)
    code = batch_topk_encode(
        x, torch.eye(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64), 0.8
    )
    assert int(code.entries()[0].sum()) == 1024


def test_strongest_never_keeps_what_is_not_positive():
    code = DenseCode(torch.tensor([[1.0, -1.0, 0.0], [0.0, 2.0, -3.0]]))
    assert strongest(code, 5).to_dense(3).tolist() == [[1, 0, 0], [0, 2, 0]]
    assert strongest(code, 1).to_dense(3).tolist() == [[0, 0, 0], [0, 2, 0]]


@given(
    numbers=st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=30, unique=True),
    parts=st.integers(1, 4),
    data=st.data(),
)
def test_nth_largest_lies_below_as_many_as_are_asked_for(numbers, parts, data):
    n = data.draw(st.integers(0, len(numbers)))
    tensor = torch.tensor(numbers, dtype=torch.float64)
    level = nth_largest(tensor.tensor_split(parts), n)
    assert (tensor > level).sum() == n
    assert np.isfinite(float(level))


CHOOSERS = {
    "topk": lambda x, w, b, half: topk_encode(x, w, b, 5, half=half),
    "absolute": lambda x, w, b, half: topk_encode(x, w, b, 5, "absolute", half=half),
    "floor": lambda x, w, b, half: linear_encode(x, w, b, 14.0, half=half),
    "batch": lambda x, w, b, half: batch_topk_encode(x, w, b, 5, half=half),
}


@pytest.mark.parametrize("chooser", CHOOSERS)
def test_half_products_choose_and_exact_products_give_the_values(chooser):
    x, encoder, bias = (t.detach().float() for t in latents(0, n=400, d=32, m=96))
    inputs = [t.requires_grad_() for t in (x, encoder, bias)]
    half = CHOOSERS[chooser](*inputs, True)
    codes = half.to_dense(96)
    dense = torch.addmm(bias, x, encoder.T)
    fired = codes != 0
    torch.testing.assert_close(codes, dense * fired, rtol=1e-5, atol=1e-5)
    # What only one of them chose is nearly equal to the least that the other did. In a
    # batch, the last choice is among exact values.
    exact = CHOOSERS[chooser](*inputs, False).to_dense(96)
    either, both = fired | (exact != 0), fired & (exact != 0)
    agreement = both.sum() / either.sum()
    assert agreement == 1 if chooser == "batch" else 0.97 < agreement < 1
    grads = torch.autograd.grad(half.values.sin().sum(), inputs)
    expected = torch.autograd.grad((dense.sin() * fired).sum(), inputs)
    for grad, oracle in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, oracle, rtol=1e-4, atol=1e-4)


def test_half_products_leave_float64_alone():
    inputs = latents(0)
    for chooser in CHOOSERS.values():
        half, exact = (chooser(*inputs, flag).to_dense(40) for flag in (True, False))
        torch.testing.assert_close(half, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [DenseCode, RaggedCode.from_dense])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_entries_above_a_level_are_positive_and_not_below_it(make, size):
    values = size * torch.tensor([[0.2, -0.3, 0.0, 0.5], [0.4, 0.3, -0.1, 0.0]])
    for level, expected in {
        0.3 * size: [[0, 0, 0, 0.5], [0.4, 0.3, 0, 0]],
        -1.0: [[0.2, 0, 0, 0.5], [0.4, 0.3, 0, 0]],
        0.0: [[0.2, 0, 0, 0.5], [0.4, 0.3, 0, 0]],
    }.items():
        kept = above(make(values), torch.tensor(level)).to_dense(4)
        torch.testing.assert_close(kept, size * torch.tensor(expected))
    most = strongest(make(values), 3).to_dense(4)
    torch.testing.assert_close(
        most, size * torch.tensor([[0, 0, 0, 0.5], [0.4, 0.3, 0, 0]])
    )
    all_of_them = strongest(make(values), 8).to_dense(4)
    torch.testing.assert_close(all_of_them, values.relu())
