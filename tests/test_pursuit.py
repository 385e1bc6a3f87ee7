"""Batched OMP against a plain loop of Algorithm 1, and against scikit-learn."""

import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import algorithm_1
from sklearn.linear_model import orthogonal_mp_gram

from skdict.ops import chunks, compiled, pursuit, slots
from skdict.ops.pursuit import batched_omp, choose_form, step_sizes

forms = pytest.mark.parametrize("form", ["gram", "residual", "compiled"])
refits = pytest.mark.parametrize("refit", [False, True, "every_step"])
seeds = st.integers(0, 2**32 - 1)


def gaussian(n, m, d, seed, dtype=torch.float64):
    """Rows and unit atoms: in general position, so that no two scores tie."""
    rng = np.random.default_rng(seed)
    atoms = rng.normal(size=(m, d))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    x = rng.normal(size=(n, d))
    return torch.tensor(x, dtype=dtype), torch.tensor(atoms, dtype=dtype)


def reference(x, W, *args, **kwargs):
    """Codes of all rows, and which of them do not hang on rounding."""
    pairs = [algorithm_1(row, W.numpy(), *args, **kwargs) for row in x.numpy()]
    codes, leads = map(np.stack, zip(*pairs, strict=True))
    return codes, leads > 1e-7


def residual(x, W, code):
    """Norms of the residuals, in float64."""
    return (x.double() - code.to_dense(len(W)).double() @ W.double()).norm(dim=1)


@settings(max_examples=120)
@given(
    seed=seeds,
    form=st.sampled_from(["gram", "residual", "compiled"]),
    selection=st.sampled_from(["positive", "absolute"]),
    refit=st.sampled_from([False, True, "every_step"]),
    tol=st.none() | st.floats(0.05, 0.95),
    span_distance=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    data=st.data(),
)
def test_equals_a_plain_loop_of_algorithm_1(
    seed, form, selection, refit, tol, span_distance, data
):
    d = data.draw(st.integers(2, 12), "d")
    m = data.draw(st.integers(1, 30), "M")
    # Least squares has one solution only while the support is not larger than d.
    atoms_per_step = data.draw(st.integers(1, max(1, d // 2)), "L")
    k = data.draw(st.integers(1, d // 2 if refit else m + 3), "k")
    x, W = gaussian(8, m, d, seed)
    code = batched_omp(
        x,
        W,
        k,
        atoms_per_step=atoms_per_step,
        selection=selection,
        span_distance=span_distance,
        refit=refit,
        tol=tol,
        form=form,
    )
    expected, sure = reference(
        x, W, k, atoms_per_step, selection, refit, tol, span_distance
    )
    assume(sure.any())
    np.testing.assert_allclose(
        code.to_dense(m).numpy()[sure],
        expected[sure],
        rtol=0,
        atol=1e-8 * abs(expected).max(),
    )


@forms
@pytest.mark.parametrize("tol", [None, 0.5])
def test_is_orthogonal_matching_pursuit_in_the_limit(form, tol):
    x, W = gaussian(30, 50, 20, seed=0)
    code = batched_omp(
        x,
        W,
        8 if tol is None else 20,
        atoms_per_step=1,
        selection="absolute",
        refit="every_step",
        tol=tol,
        form=form,
    )
    for row, z in zip(x, code.to_dense(50), strict=True):
        energy = float(row @ row)
        goal = {"n_nonzero_coefs": 8} if tol is None else {"tol": tol**2 * energy}
        expected = orthogonal_mp_gram(
            (W @ W.T).numpy(),
            (W @ row).numpy()[:, None],
            norms_squared=None if tol is None else [energy],
            **goal,
        )
        np.testing.assert_allclose(z, expected, rtol=0, atol=1e-10)


@settings(max_examples=60)
@given(
    seed=seeds,
    n=st.integers(0, 5),
    m=st.integers(1, 12),
    d=st.integers(1, 6),
    k=st.integers(1, 15),
    atoms_per_step=st.integers(1, 15),
    selection=st.sampled_from(["positive", "absolute"]),
    refit=st.sampled_from([False, True, "every_step"]),
    tol=st.sampled_from([None, 0.0, 0.5, 1.0]),
    form=st.sampled_from(["auto", "gram", "residual", "compiled"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_sizes_give_a_sparse_code_no_worse_than_zero(
    seed, n, m, d, k, atoms_per_step, selection, refit, tol, form, dtype
):
    x, W = gaussian(n, m, d, seed, dtype)
    code = batched_omp(
        x,
        W,
        k,
        atoms_per_step=atoms_per_step,
        selection=selection,
        refit=refit,
        tol=tol,
        form=form,
    )
    assert code.indices.shape == code.values.shape == (n, min(k, m))
    assert code.indices.dtype == torch.int64
    assert code.values.dtype == dtype
    assert code.values.isfinite().all()
    for indices, values in zip(code.indices, code.values, strict=True):
        active = indices[values != 0]
        assert (active.diff() > 0).all()
    assert (residual(x, W, code) <= x.norm(dim=1) * (1 + 1e-5)).all()


def test_steps_pick_k_atoms_in_all():
    assert list(step_sizes(12, 5)) == [5, 5, 2]
    assert list(step_sizes(10, 5)) == [5, 5]
    assert list(step_sizes(3, 5)) == [3]


# Dictionaries that least squares cannot take as they are


@st.composite
def dependent(draw):
    """Atoms in general position, others that they span, and rows."""
    rng = np.random.default_rng(draw(seeds))
    d = draw(st.integers(2, 8))
    base = rng.normal(size=(draw(st.integers(1, d)), d))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    others = {
        "duplicate": base,
        "opposite": -base,
        "longer": 3.7 * base,
        "zero": np.zeros((2, d)),
        "sum": base.sum(axis=0, keepdims=True),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(others)), min_size=1))
    W = np.concatenate([base, *(others[name] for name in sorted(chosen))])
    x = rng.normal(size=(5, d))
    x[0] = 0.0
    x[1] = base[0]
    return torch.tensor(x), torch.tensor(rng.permutation(W))


@settings(max_examples=100)
@given(
    case=dependent(),
    k=st.integers(1, 20),
    selection=st.sampled_from(["positive", "absolute"]),
    form=st.sampled_from(["gram", "residual", "compiled"]),
)
def test_dependent_atoms_leave_the_residual_of_their_span(case, k, selection, form):
    x, W = case
    code = batched_omp(x, W, k, atoms_per_step=k, selection=selection, form=form)
    expected = x - torch.tensor(reference(x, W, k, k, selection)[0]) @ W
    np.testing.assert_allclose(
        residual(x, W, code), expected.norm(dim=1), rtol=0, atol=1e-8
    )
    assert (code.values[0] == 0).all()
    assert (code.values[(W[code.indices] == 0).all(2)] == 0).all()


@settings(max_examples=100)
@given(
    seed=seeds,
    log_distance=st.floats(-17, 0),
    atoms_per_step=st.integers(1, 8),
    selection=st.sampled_from(["positive", "absolute"]),
    form=st.sampled_from(["gram", "residual", "compiled"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_residual_never_grows_with_almost_dependent_atoms(
    seed, log_distance, atoms_per_step, selection, form, dtype
):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(4, 6))
    W = np.concatenate([base, base + 10**log_distance * rng.normal(size=base.shape)])
    W = torch.tensor(W / np.linalg.norm(W, axis=1, keepdims=True), dtype=dtype)
    x = torch.tensor(rng.normal(size=(20, 6)), dtype=dtype)
    # Rows along what sets two almost equal atoms apart need large coefficients.
    x = torch.cat([x, 1e-3 * x + W[:1] - W[4:5]])

    def pursue(k, refit):
        return batched_omp(
            x,
            W,
            k,
            atoms_per_step=atoms_per_step,
            selection=selection,
            form=form,
            refit=refit,
        )

    # Correlations that are updated forget digits that the residual itself keeps.
    rounding = 1e-6 if form == "residual" else 1e-3
    norms = x.double().norm(dim=1)
    fewer = norms
    for k in range(atoms_per_step, 9, atoms_per_step):
        steps = residual(x, W, pursue(k, False))
        assert (steps <= fewer + rounding * norms).all()
        refit = residual(x, W, pursue(k, True))
        assert (refit <= steps + rounding * norms).all()
        fewer = steps


@refits
@forms
def test_zero_rows_and_a_zero_dictionary_give_zero_codes(form, refit):
    x, W = gaussian(3, 7, 4, seed=0)
    for rows, atoms in [(0 * x, W), (x, 0 * W), (0 * x, 0 * W)]:
        code = batched_omp(rows, atoms, 5, atoms_per_step=2, form=form, refit=refit)
        assert (code.values == 0).all()


# What must not matter


@refits
@forms
@pytest.mark.parametrize("tol", [None, 0.5])
def test_neither_batch_nor_chunk_matters(monkeypatch, form, refit, tol):
    x, W = gaussian(40, 30, 12, seed=1)
    x[3] = W[5]  # ends at the first step where there is a tol
    parameters = {"atoms_per_step": 2, "form": form, "refit": refit, "tol": tol}
    whole = batched_omp(x, W, 7, **parameters).to_dense(30)
    alone = [batched_omp(row[None], W, 7, **parameters).to_dense(30) for row in x]
    torch.testing.assert_close(torch.cat(alone), whole, rtol=0, atol=1e-12)
    for rows in (1, 7):
        monkeypatch.setattr(pursuit, "rows_per_chunk", lambda x, m, rows=rows: rows)
        chunked = batched_omp(x, W, 7, **parameters).to_dense(30)
        torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-12)


@forms
def test_kernels_of_torch_do_not_matter(monkeypatch, form):
    x, W = gaussian(40, 30, 12, seed=1)
    expected = batched_omp(x, W, 7, form=form, refit=True).to_dense(30)
    monkeypatch.setattr(slots, "has_csr_kernels", lambda device_type: False)
    code = batched_omp(x, W, 7, form=form, refit=True)
    torch.testing.assert_close(code.to_dense(30), expected, rtol=0, atol=1e-12)


@given(m=st.integers(1, 70), block=st.integers(1, 40), seed=seeds)
@settings(deadline=None, max_examples=30)
def test_gram_matrix(m, block, seed):
    _, W = gaussian(1, m, 12, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pursuit, "_GRAM_BLOCK", block)
        gram = pursuit.gram_matrix(W)
    torch.testing.assert_close(gram, W @ W.T, rtol=0, atol=1e-12)


def test_gram_matrix_may_have_any_strides():
    x, W = gaussian(10, 30, 12, seed=1)
    spread = torch.zeros(30, 60, dtype=x.dtype)[:, ::2].copy_(W @ W.T)
    code = batched_omp(x, W, 6, gram=spread)
    expected = batched_omp(x, W, 6, form="gram")
    torch.testing.assert_close(code.to_dense(30), expected.to_dense(30))


@refits
@forms
@pytest.mark.parametrize("tol", [None, 0.5])
@pytest.mark.parametrize("factor", [2.0**100, 2.0**-100])
def test_rows_of_any_magnitude_are_coded_alike(form, refit, tol, factor):
    # Squares of float32 numbers of this size are infinite or zero.
    x, W = gaussian(40, 30, 12, seed=2, dtype=torch.float32)
    parameters = {"atoms_per_step": 2, "form": form, "refit": refit, "tol": tol}
    expected = batched_omp(x, W, 7, **parameters)
    code = batched_omp(x * factor, W, 7, **parameters)
    assert (code.indices == expected.indices).all()
    assert (code.values == expected.values * factor).all()


@refits
@pytest.mark.parametrize("largest", [3e38, 1e-45])
def test_the_largest_and_smallest_float32_numbers_are_rows(refit, largest):
    W = torch.eye(4)
    x = largest * torch.tensor([[1.0, 0.5, 0.0, 0.0], [-1.0, -1.0, -1.0, -1.0]])
    code = batched_omp(x, W, 4, selection="absolute", refit=refit, tol=1e-3)
    torch.testing.assert_close(code.to_dense(4), x, rtol=1e-5, atol=0)


@refits
@forms
def test_order_of_the_atoms_does_not_matter(form, refit):
    x, W = gaussian(20, 30, 12, seed=3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    parameters = {"atoms_per_step": 3, "form": form, "refit": refit}
    expected = batched_omp(x, W, 6, **parameters).to_dense(30)[:, order]
    code = batched_omp(x, W[order], 6, **parameters)
    torch.testing.assert_close(code.to_dense(30), expected, rtol=0, atol=1e-12)


@refits
@forms
def test_length_of_the_atoms_counts_in_the_selection_only(form, refit):
    x, W = gaussian(20, 1, 12, seed=4)
    expected = batched_omp(x, W, 1, selection="absolute", form=form, refit=refit)
    longer = batched_omp(x, 8 * W, 1, selection="absolute", form=form, refit=refit)
    torch.testing.assert_close(longer.values, expected.values / 8)


@refits
@forms
def test_float32_is_close_to_float64(form, refit):
    x, W = gaussian(200, 64, 24, seed=5)
    parameters = {"atoms_per_step": 3, "form": form, "refit": refit}
    expected = batched_omp(x, W, 9, **parameters).to_dense(64)
    code = batched_omp(x.float(), W.float(), 9, **parameters)
    assert code.values.dtype == torch.float32
    torch.testing.assert_close(code.to_dense(64), expected.float(), rtol=0, atol=1e-4)


@refits
@pytest.mark.parametrize("form", ["auto", "gram", "residual"])
def test_inputs_stay_as_they_are(form, refit):
    x, W = gaussian(9, 30, 12, seed=6)
    gram = W @ W.T
    before = [tensor.clone() for tensor in (x, W, gram)]
    batched_omp(x, W, 6, form=form, refit=refit, tol=0.1, gram=gram)
    assert all(map(torch.equal, (x, W, gram), before))


def test_parameters_get_no_gradient():
    x, W = gaussian(9, 30, 12, seed=6)
    code = batched_omp(x.requires_grad_(), W.requires_grad_(), 6)
    assert not code.values.requires_grad


# Special cases with a known answer


@forms
def test_orthonormal_dictionary_is_exact(form):
    x, _ = gaussian(10, 1, 6, seed=7)
    W = torch.linalg.qr(gaussian(1, 6, 6, seed=8)[1]).Q
    code = batched_omp(x, W, 6, atoms_per_step=4, selection="absolute", form=form)
    torch.testing.assert_close(code.to_dense(6), x @ W.T)


@forms
def test_selection_is_by_sign_or_by_magnitude(form):
    x = torch.tensor([[-3.0, 1.0]])
    positive = batched_omp(x, torch.eye(2), 1, selection="positive", form=form)
    absolute = batched_omp(x, torch.eye(2), 1, selection="absolute", form=form)
    assert positive.to_dense(2).tolist() == [[0.0, 1.0]]
    assert absolute.to_dense(2).tolist() == [[-3.0, 0.0]]


@forms
def test_an_atom_that_is_picked_again_adds_up(form):
    W = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    x = torch.tensor([[0.9, 0.436, 0.0]])
    # Atom 1 takes 0.9816, atom 0 takes 0.11472 of the rest, atom 1 gives some back.
    code = batched_omp(x, W, 3, atoms_per_step=1, selection="absolute", form=form)
    expected = torch.tensor([[0.11472, 0.9816 - 0.091776, 0.0]])
    torch.testing.assert_close(code.to_dense(3), expected)


# span_distance


def near_twins(angle):
    """Atoms of which the second is at an angle to the first, the third to neither."""
    sine, cosine = math.sin(angle), math.cos(angle)
    atoms = [[1.0, 0.0, 0.0], [cosine, sine, 0.0], [0.0, 0.0, 1.0]]
    return torch.tensor(atoms, dtype=torch.float64)


@forms
def test_of_nearly_equal_atoms_the_better_one_is_picked_with_the_next_best(form):
    W = near_twins(0.01)
    x = torch.tensor([[1.0, 0.3, 0.2]], dtype=torch.float64)
    options = {"atoms_per_step": 2, "form": form}
    paper = batched_omp(x, W, 2, **options).to_dense(3)
    code = batched_omp(x, W, 2, span_distance=0.2, **options).to_dense(3)
    assert paper.abs().max() > 25  # 0.3 of a direction that is 0.01 apart
    expected = x @ W.T
    expected[:, 0] = 0.0
    torch.testing.assert_close(code, expected)


@forms
@pytest.mark.parametrize(("angle", "differs"), [(0.29, True), (0.31, False)])
def test_atoms_are_too_close_below_the_distance(form, angle, differs):
    W, x = near_twins(angle), torch.tensor([[1.0, 0.3, 0.2]], dtype=torch.float64)
    options = {"atoms_per_step": 2, "form": form}
    paper = batched_omp(x, W, 2, **options).to_dense(3)
    code = batched_omp(x, W, 2, span_distance=math.sin(0.3), **options).to_dense(3)
    assert torch.equal(code, paper) is not differs


@forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_of_one_atom_leave_slots_empty(form, dtype):
    W = torch.tensor([[0.6, 0.8]], dtype=dtype).repeat(9, 1)
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=dtype)
    code = batched_omp(x, W, 3, atoms_per_step=3, span_distance=0.2, form=form)
    assert (code.values != 0).sum(1).tolist() == [1, 1]
    torch.testing.assert_close(code.values.sum(1), x @ W[0])


@forms
def test_zero_atoms_and_rows_of_zeros_stay_harmless_with_a_distance(form):
    x, W = gaussian(5, 8, 4, seed=3)
    W[2:6] = 0.0
    x[1] = 0.0
    code = batched_omp(x, W, 8, atoms_per_step=4, span_distance=0.2, form=form)
    dense = code.to_dense(8)
    assert dense.isfinite().all()
    assert not dense[1].any()
    assert not dense[:, 2:6].any()


@settings(max_examples=60)
@given(seed=seeds, form=st.sampled_from(["gram", "residual"]), spread=st.floats(0, 0.5))
def test_a_distance_bounds_the_coefficients_of_a_step(seed, form, spread):
    # Crowded atoms: all close to three directions.
    x, W = gaussian(6, 20, 8, seed)
    W = F.normalize(W[torch.arange(20) % 3] + spread * W)
    code = batched_omp(x, W, 4, atoms_per_step=4, span_distance=0.5, form=form)
    # G = L L^T with 0.5 or more on the diagonal of L; its inverse grows by no more
    # than a factor of 1 + 1 / 0.5 with each atom.
    bound = x.norm(dim=1) / 0.5 * (1 + 1 / 0.5) ** 3
    assert (code.values.abs().amax(1) <= bound).all()


# tol


@refits
@forms
def test_rows_that_stopped_keep_the_code_of_their_last_step(form, refit):
    x, W = gaussian(60, 40, 12, seed=9)
    tol, atoms_per_step = 0.4, 2
    parameters = {"atoms_per_step": atoms_per_step, "form": form, "refit": refit}
    stopped = batched_omp(x, W, 12, tol=tol, **parameters).to_dense(40)
    # What `tol` looks at is the residual before a refit at the very end.
    looked_at = parameters | {"refit": "every_step" if refit == "every_step" else False}
    last = torch.zeros(60, dtype=torch.int64)
    for k in (0, 2, 4, 6, 8, 10):
        code = batched_omp(x, W, k, **looked_at)
        last[residual(x, W, code) > tol * x.norm(dim=1)] = k + 2
    assert len(last.unique()) > 3
    for k in last.unique():
        expected = batched_omp(x, W, int(k), **parameters).to_dense(40)
        if refit is True:  # of another number of slots, so rounded otherwise
            torch.testing.assert_close(stopped[last == k], expected[last == k])
        else:
            assert torch.equal(stopped[last == k], expected[last == k])


@refits
@forms
def test_tol_at_its_ends(form, refit):
    x, W = gaussian(30, 40, 12, seed=10)
    parameters = {"atoms_per_step": 2, "form": form, "refit": refit}
    never = batched_omp(x, W, 6, **parameters)
    zero = batched_omp(x, W, 6, tol=0.0, **parameters)
    assert torch.equal(zero.to_dense(40), never.to_dense(40))
    for tol in (1.0, 2.0):
        code = batched_omp(x, W, 6, tol=tol, **parameters)
        assert (code.values == 0).all()
        assert code.decode(W).shape == x.shape


# The forms


def test_gram_matrix_that_is_known_is_used(monkeypatch):
    x, W = gaussian(9, 30, 12, seed=11)
    expected = batched_omp(x, W, 6, form="gram").to_dense(30)
    built = []
    form = pursuit._GramForm
    monkeypatch.setattr(
        pursuit, "_GramForm", lambda *a: built.append(a[-1]) or form(*a)
    )
    gram = W @ W.T
    for name in ("auto", "gram"):
        code = batched_omp(x, W, 6, form=name, gram=gram)
        torch.testing.assert_close(code.to_dense(30), expected)
    assert all(used is gram for used in built)
    assert len(built) == 2


def test_form_is_the_cheaper_one(monkeypatch):
    W = torch.zeros(512, 256)
    # The Gram matrix pays for itself over many rows and steps, never over one step.
    assert choose_form(10_000, W, 20, atoms_per_step=1) == "gram"
    assert choose_form(20, W, 20, atoms_per_step=1) == "residual"
    assert choose_form(10_000, W, 20, atoms_per_step=20) == "residual"
    asked = []
    monkeypatch.setattr(pursuit, "fits_in_memory", lambda *a: asked.append(a))
    assert choose_form(10_000, W, 20, atoms_per_step=1) == "residual"
    assert asked == [(512**2 * 4, W.device)]


def test_a_gram_matrix_of_64_gib_is_never_made(monkeypatch):
    monkeypatch.setattr(chunks, "_memory_bytes", lambda device: 100 << 30)
    many = torch.zeros(1, 1).expand(131_072, 1024)
    assert choose_form(10**9, many, 100, atoms_per_step=5) == "residual"
    assert choose_form(10**9, many[:32_768], 100, atoms_per_step=5) == "gram"


def test_form_follows_from_the_steps(monkeypatch):
    x, W = gaussian(200, 64, 32, seed=12)
    built = []
    for name in ("_GramForm", "_ResidualForm"):
        form = getattr(pursuit, name)
        monkeypatch.setattr(
            pursuit, name, lambda *a, form=form: built.append(form.__name__) or form(*a)
        )
    batched_omp(x, W, 16, atoms_per_step=1)
    batched_omp(x, W, 16, atoms_per_step=16)
    assert built == ["_GramForm", "_ResidualForm"]


# The compiled loop


@settings(max_examples=20)
@given(
    seed=seeds,
    m=st.integers(500, 1100),
    atoms_per_step=st.integers(1, 12),
    k=st.integers(1, 25),
    selection=st.sampled_from(["positive", "absolute"]),
    refit=st.sampled_from([False, True]),
    tol=st.none() | st.floats(0.3, 0.9),
)
def test_compiled_loop_equals_the_gram_form_where_columns_are_grouped(
    seed, m, atoms_per_step, k, selection, refit, tol
):
    # More rows than a thread takes at a time, in chunks.
    x, W = gaussian(200, m, 64, seed)
    parameters = {
        "atoms_per_step": atoms_per_step,
        "selection": selection,
        "refit": refit,
        "tol": tol,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pursuit, "rows_per_chunk", lambda x, m: 150)
        found = batched_omp(x, W, k, form="compiled", **parameters)
    expected = batched_omp(x, W, k, form="gram", **parameters)
    torch.testing.assert_close(
        found.to_dense(m), expected.to_dense(m), rtol=0, atol=1e-10
    )


def test_compiled_loop_is_taken_where_the_work_is_large(monkeypatch):
    x, W = gaussian(30, 20, 10, seed=0)
    runs = []
    loop = compiled.pursue
    monkeypatch.setattr(
        compiled, "pursue", lambda *a, **k: runs.append(1) or loop(*a, **k)
    )

    def is_compiled(**parameters):
        runs.clear()
        batched_omp(x, W, 4, **{"atoms_per_step": 2, "gram": W @ W.T} | parameters)
        return bool(runs)

    assert not is_compiled()
    monkeypatch.setattr(compiled, "_ENOUGH_WORK", 30 * 20 * 4)
    assert is_compiled()
    assert not is_compiled(form="gram")
    assert not is_compiled(refit="every_step")
    assert not is_compiled(atoms_per_step=33)
    monkeypatch.setattr(compiled, "_ENOUGH_WORK", 30 * 20 * 4 + 1)
    assert not is_compiled()
    assert is_compiled(form="compiled")


def test_without_numba_the_plain_form_is_taken(monkeypatch):
    x, W = gaussian(30, 20, 10, seed=0)
    monkeypatch.setattr(compiled, "_ENOUGH_WORK", 0)
    monkeypatch.setattr(compiled, "pursue", None)
    monkeypatch.setitem(sys.modules, "numba", None)  # its import fails
    compiled.has_compiler.cache_clear()
    try:
        found = batched_omp(x, W, 4, gram=W @ W.T)
    finally:
        compiled.has_compiler.cache_clear()
    assert (found.indices == batched_omp(x, W, 4, form="gram").indices).all()


def test_threads_of_the_compiled_loop_do_not_matter(monkeypatch):
    x, W = gaussian(300, 40, 12, seed=0, dtype=torch.float32)
    codes = []
    for n_threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        codes.append(batched_omp(x, W, 7, form="compiled"))
    for code in codes[1:]:
        assert (code.indices == codes[0].indices).all()
        assert (code.values == codes[0].values).all()


def test_compiled_loop_runs_where_nothing_can_be_kept(monkeypatch):
    import numba

    njit = numba.njit

    def refuse(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refuse)
    compiled._loop.cache_clear()
    try:
        x, W = gaussian(3, 20, 10, seed=0)
        found = batched_omp(x, W, 4, form="compiled")
        assert (found.indices == batched_omp(x, W, 4, form="gram").indices).all()
    finally:
        compiled._loop.cache_clear()
