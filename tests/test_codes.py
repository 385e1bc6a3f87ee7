"""Codes of every kind against the dense matrices that they stand for."""

import itertools
import warnings

import numpy as np
import processes
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skdict.ops import (
    DenseCode,
    RaggedCode,
    SlotCode,
    batched_omp,
    products,
    slots,
)
from skdict.ops.slots import active_products

N, S, M, D = 5, 3, 7, 4


@st.composite
def codes(draw, dtype=None, repeated=True):
    """Codes with empty slots, their number of atoms, and the same as a matrix."""
    n, s = draw(st.integers(0, 6)), draw(st.integers(1, 5))
    m = draw(st.integers(1 if repeated else s, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if repeated:
        indices = rng.integers(m, size=(n, s))
    else:
        indices = rng.permuted(np.tile(np.arange(m), (n, 1)), axis=1)[:, :s]
    values = rng.normal(size=(n, s)) * rng.integers(2, size=(n, s))
    dtype = dtype or draw(st.sampled_from([np.float32, np.float64]))
    values = values.astype(dtype)
    dense = np.zeros((n, m), dtype)
    np.add.at(dense, (np.arange(n)[:, None], indices), values)
    code = SlotCode(torch.tensor(indices).reshape(n, s), torch.tensor(values))
    return code, m, torch.tensor(dense)


def code(seed=0, dtype=torch.float64):
    """Without repeated atoms."""
    generator = torch.Generator().manual_seed(seed)
    indices = torch.rand(N, M, generator=generator).argsort(1)[:, :S]
    values = torch.randn(N, S, generator=generator, dtype=dtype)
    return SlotCode(indices, values)


@pytest.fixture(params=["native", "portable"])
def kernels(request, monkeypatch):
    """With torch's CSR products where it has them, and without."""
    if request.param == "portable":
        monkeypatch.setattr(slots, "has_csr_kernels", lambda device_type: False)


def matrix(*shape, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


@settings(max_examples=60)
@given(codes())
def test_equals_the_dense_matrix(case):
    code, m, dense = case
    n, dtype = len(code.values), code.values.dtype
    W, x = matrix(m, D).to(dtype), matrix(n, D).to(dtype)
    torch.testing.assert_close(code.to_dense(m), dense)
    torch.testing.assert_close(code.decode(W), dense @ W)
    torch.testing.assert_close(code.correlate(x, m), dense.T @ x)


@settings(max_examples=60)
@given(codes())
def test_coalesce_adds_repeated_atoms_and_sorts(case):
    code, m, dense = case
    before = code.indices.clone(), code.values.clone()
    merged = code.coalesce()
    torch.testing.assert_close(merged.to_dense(m), dense)
    assert merged.values.shape == code.values.shape
    assert merged.values.dtype == code.values.dtype
    for row, indices, values in zip(
        code.indices, merged.indices, merged.values, strict=True
    ):
        n_atoms = len(row.unique())
        assert torch.equal(indices[:n_atoms], row.unique())
        assert (values[n_atoms:] == 0).all()
    assert torch.equal(code.indices, before[0])
    assert torch.equal(code.values, before[1])


@settings(max_examples=60)
@given(codes(repeated=False))
def test_to_csr_is_canonical(case):
    code, m, dense = case
    csr = code.to_csr(m)
    assert (csr.data != 0).all()
    for start, stop in itertools.pairwise(csr.indptr):
        assert (np.diff(csr.indices[start:stop]) > 0).all()
    assert csr.dtype == dense.numpy().dtype
    assert csr.indices.dtype == csr.indptr.dtype == np.int32
    np.testing.assert_array_equal(csr.toarray(), dense.numpy(), strict=True)


def test_to_csr_of_a_code_with_a_gradient():
    csr = SlotCode(code().indices, code().values.requires_grad_()).to_csr(M)
    np.testing.assert_array_equal(csr.toarray(), code().to_dense(M).numpy())


def test_decode_has_the_gradients_of_the_dense_product():
    indices, values = code().indices, code().values
    W = matrix(M, D)
    assert torch.autograd.gradcheck(
        lambda values, W: SlotCode(indices, values).decode(W),
        (values.requires_grad_(), W.requires_grad_()),
    )


def test_gradient_of_repeated_atoms_and_empty_slots():
    indices = torch.tensor([[2, 2, 0], [1, 2, 2]])
    values = torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, -1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda values, W: SlotCode(indices, values).decode(W),
        (values.requires_grad_(), matrix(M, D).requires_grad_()),
    )


@pytest.mark.parametrize("learns", ["values", "dictionary"])
def test_only_what_learns_gets_a_gradient(learns):
    indices, values = code().indices, code().values
    W = matrix(M, D)
    (values if learns == "values" else W).requires_grad_()
    # The gradient of a plain sum is an expanded scalar, not a full matrix.
    SlotCode(indices, values).decode(W).sum().backward()
    expected = SlotCode(indices, values).to_dense(M).detach()
    if learns == "values":
        assert W.grad is None
        torch.testing.assert_close(values.grad, W.sum(1)[indices])
    else:
        assert values.grad is None
        torch.testing.assert_close(W.grad, expected.T @ torch.ones_like(matrix(N, D)))


@given(codes())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_subtract_from(kernels, drawn):
    code, m, dense = drawn
    W = matrix(m, D, dtype=code.values.dtype)
    out = matrix(len(dense), D, seed=3, dtype=code.values.dtype)
    expected = out - dense @ W
    before = out.data_ptr()
    code.subtract_from_(out, W)
    assert out.data_ptr() == before
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@given(codes())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_active_products_of_repeated_atoms(kernels, drawn):
    code, m, dense = drawn
    W = matrix(m, D, dtype=code.values.dtype)
    x = matrix(len(dense), D, seed=3, dtype=code.values.dtype)
    products = active_products(x, W, code.indices)
    expected = (x @ W.T).gather(1, code.indices)
    torch.testing.assert_close(products, expected, rtol=1e-5, atol=1e-5)


def test_no_warning_of_torch_reaches_the_user(tmp_path):
    """In a process of its own, because torch warns of CSR tensors once."""
    done = processes.run(encode_without_warnings, folder=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr


def encode_without_warnings():
    warnings.simplefilter("error")
    batched_omp(torch.eye(3), torch.eye(3), 2, form="gram")
    active_products(torch.eye(3), torch.eye(3), torch.zeros(3, 1, dtype=torch.int64))


@pytest.mark.parametrize("elements", [1, S * D * 2, 1 << 20])
def test_active_products(monkeypatch, kernels, elements):
    monkeypatch.setattr(products, "GATHER_ELEMENTS", elements)
    x, W, indices = matrix(N, D), matrix(M, D, seed=2), code().indices
    found = active_products(x, W, indices)
    torch.testing.assert_close(found, (x @ W.T).gather(1, indices))
    assert active_products(x[:0], W, indices[:0]).shape == (0, S)


def test_large_gather_takes_little_memory(monkeypatch):
    monkeypatch.setattr(slots, "has_csr_kernels", lambda device_type: False)
    parts = []
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: parts.append(a.numel()) or bmm(a, b))
    monkeypatch.setattr(products, "GATHER_ELEMENTS", 2 * S * D)
    active_products(matrix(N, D), matrix(M, D), code().indices)
    assert parts == [2 * S * D, 2 * S * D, S * D]


# What all kinds promise

KINDS = {
    "slots": lambda code, dense: code,
    "ragged": lambda code, dense: RaggedCode.from_dense(dense),
    "dense": lambda code, dense: DenseCode(dense),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(case=codes(repeated=False))
def test_every_kind_stands_for_its_matrix(kind, case):
    slot_code, m, dense = case
    code = KINDS[kind](slot_code, dense)
    W = matrix(m, D).to(dense.dtype)
    assert len(code) == len(dense)
    torch.testing.assert_close(code.to_dense(m), dense)
    torch.testing.assert_close(code.decode(W), dense @ W)
    for part in (slice(0, m // 2), slice(m // 2, m)):
        torch.testing.assert_close(
            code.decode_range(W, part.start, part.stop), dense[:, part] @ W[part]
        )
    fired = code.fire_counts(m)
    assert fired.dtype == torch.int64
    assert torch.equal(fired, (dense != 0).sum(0))
    if len(dense):
        torch.testing.assert_close(code.mean_squares(m), dense.square().mean(0))
    csr = code.to_csr(m)
    assert csr.has_canonical_format
    np.testing.assert_array_equal(csr.toarray(), dense.numpy(), strict=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_found(kind, value):
    slot_code = code()
    slot_code.values[3, 1] = value
    found = KINDS[kind](slot_code, slot_code.to_dense(M)).finite_rows()
    assert found.tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_every_kind_are_those_of_the_matrix(kind):
    dense = code().to_dense(M).requires_grad_()
    W = matrix(M, D).requires_grad_()
    weights = matrix(N, D, seed=3)
    expected = torch.autograd.grad(((dense @ W) * weights).sum(), [dense, W])
    if kind == "slots":
        indices = code().indices
        made = SlotCode(indices, dense.gather(1, indices))
    else:
        made = KINDS[kind](None, dense)
    found = torch.autograd.grad((made.decode(W) * weights).sum(), [dense, W])
    active = dense != 0
    torch.testing.assert_close(found[0][active], expected[0][active])
    torch.testing.assert_close(found[1], expected[1])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=codes())
def test_sums_by_csr_are_those_by_bags(monkeypatch, case):
    """The way of a CUDA device, on the CPU."""
    code, m, dense = case
    W, x = matrix(m, D).to(dense.dtype), matrix(len(dense), D).to(dense.dtype)
    ragged = RaggedCode.from_dense(dense)
    with monkeypatch.context() as patch:
        patch.setattr(products, "sums_by_csr", lambda device_type: True)
        for made in (code, ragged):
            torch.testing.assert_close(made.decode(W), dense @ W)
            torch.testing.assert_close(made.correlate(x, m), dense.T @ x)


@settings(max_examples=40)
@given(case=codes(), seed=st.integers(0, 99))
def test_kept_entries(case, seed):
    _, m, dense = case
    code = RaggedCode.from_dense(dense)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(len(code.indices), generator=generator) < 0.5
    kept = torch.zeros_like(dense)
    kept[code.rows()[chosen], code.indices[chosen]] = code.values[chosen]
    torch.testing.assert_close(code.keep(chosen).to_dense(m), kept)
