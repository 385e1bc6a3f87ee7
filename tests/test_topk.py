"""The TopK activation against automatic differentiation through dense codes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdict.ops import topk
from skdict.ops.topk import decode_strongest, topk_encode


def parameters(n=6, m=9, d=4, seed=0, dtype=torch.float64):
    """Rows, encoder and bias."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (n, d), (m, d), (m,)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def dense_topk(x, encoder, bias, k):
    """Dense codes, differentiable by torch itself."""
    z = torch.relu(x @ encoder.T + bias)
    kept = torch.zeros_like(z).scatter_(1, z.topk(k, dim=1).indices, 1.0)
    return z * kept


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 6),
    m=st.integers(1, 12),
    d=st.integers(1, 6),
    data=st.data(),
)
def test_codes_and_gradients_are_those_of_the_dense_codes(seed, n, m, d, data):
    k = data.draw(st.integers(1, m), "k")
    inputs = [tensor.requires_grad_() for tensor in parameters(n, m, d, seed)]
    z = topk_encode(*inputs, k).to_dense(m)
    expected = dense_topk(*inputs, k)
    torch.testing.assert_close(z, expected)
    weights = parameters(n, m, m, seed + 1)[0]
    # Not linear, so that the incoming gradient depends on the code.
    gradients = torch.autograd.grad((weights * z**2).sum(), inputs)
    expected_gradients = torch.autograd.grad((weights * expected**2).sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_gradcheck(k):
    inputs = [tensor.requires_grad_() for tensor in parameters()]
    assert torch.autograd.gradcheck(
        lambda *inputs: topk_encode(*inputs, k).to_dense(9), inputs
    )


@pytest.mark.parametrize("learns", range(3))
def test_only_what_learns_gets_a_gradient(learns):
    inputs = parameters()
    inputs[learns].requires_grad_()
    topk_encode(*inputs, 3).values.sum().backward()
    assert [tensor.grad is not None for tensor in inputs] == [
        i == learns for i in range(3)
    ]


def test_latent_that_relu_zeroes_has_not_fired():
    encoder = torch.eye(3)
    bias = torch.zeros(3, requires_grad=True)
    x = torch.tensor([[2.0, -1.0, -3.0], [-1.0, -1.0, 0.0]])
    code = topk_encode(x, encoder, bias, k=2)
    assert code.values.shape == (2, 2)
    assert code.to_dense(3).tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    code.values.sum().backward()
    assert bias.grad.tolist() == [1.0, 0.0, 0.0]
    assert (code.values != 0).sum() == 1


def test_ties_keep_k_latents():
    encoder = torch.ones(5, 2)
    code = topk_encode(torch.ones(3, 2), encoder, torch.zeros(5), k=2)
    assert (code.values == 2).all()
    assert all(len(row.unique()) == 2 for row in code.indices)


def test_chunks_do_not_matter(monkeypatch):
    inputs = parameters(n=20)
    expected = topk_encode(*inputs, 3).to_dense(9)
    monkeypatch.setattr(topk, "rows_per_chunk", lambda x, m: 3)
    torch.testing.assert_close(topk_encode(*inputs, 3).to_dense(9), expected)


def test_inputs_stay_as_they_are():
    inputs = parameters()
    before = [tensor.clone() for tensor in inputs]
    topk_encode(*inputs, 3)
    decode_strongest(*inputs, inputs[1], 3)
    assert all(map(torch.equal, inputs, before))


def test_decode_strongest_has_no_relu():
    x, encoder, _ = parameters()
    bias = torch.full((9,), -100.0, dtype=torch.float64)  # none is positive
    decoder = parameters(m=9, seed=1)[1]
    inputs = [tensor.requires_grad_() for tensor in (x, encoder, bias, decoder)]
    x_hat = decode_strongest(*inputs, 3)
    z = x @ encoder.T + bias
    kept = torch.zeros_like(z).scatter_(1, z.topk(3, dim=1).indices, 1.0)
    torch.testing.assert_close(x_hat, (z * kept) @ decoder)
    assert torch.autograd.gradcheck(lambda *a: decode_strongest(*a, 3), inputs)
