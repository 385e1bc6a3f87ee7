"""Batched least squares against NumPy's, one problem at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdict.ops.least_squares import GrowingFactor, solve_normal_equations


def solve_growing(gram, c):
    """The same with a factor that grows by one atom after the other."""
    factor = GrowingFactor(c, c.shape[1])
    everywhere = torch.ones(len(c), dtype=torch.bool)
    for p in range(c.shape[1]):
        factor.append(gram[:, p, : p + 1], everywhere)
    return factor.solve(c)


SOLVERS = [solve_normal_equations, solve_growing]
solvers = pytest.mark.parametrize("solve", SOLVERS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def problems(n, s, d, seed):
    """Supports of ``s`` atoms, and what they approximate."""
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(n, s, d))), torch.tensor(
        rng.normal(size=(n, d))
    )


def normal_equations(atoms, x):
    return atoms @ atoms.mT, (atoms @ x[:, :, None])[:, :, 0]


def residual(atoms, x, z):
    return (x - (z[:, None] @ atoms)[:, 0]).norm(dim=1)


def best_residual(atoms, x):
    z = [np.linalg.lstsq(a.T, row)[0] for a, row in zip(atoms, x, strict=True)]
    return residual(atoms, x, torch.tensor(np.stack(z)))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    solve=st.sampled_from(SOLVERS),
    n=st.integers(0, 5),
    s=st.integers(1, 8),
    dimensions=st.integers(2, 8),
)
def test_equals_lstsq(solve, seed, n, s, dimensions):
    atoms, x = problems(n, s, s + dimensions, seed)
    z = solve(*normal_equations(atoms, x))
    assert z.shape == (n, s)
    for row, a, b in zip(z, atoms, x, strict=True):
        expected = np.linalg.lstsq(a.T, b)[0]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9 * a.norm())


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    solve=st.sampled_from(SOLVERS),
    s=st.integers(2, 8),
    d=st.integers(1, 8),
    how=st.sampled_from(["duplicate", "opposite", "longer", "zero", "sum", "more"]),
)
def test_dependent_atoms_leave_the_residual_of_their_span(solve, seed, s, d, how):
    atoms, x = problems(4, s, d, seed)
    if how == "sum":
        atoms[:, 0] = atoms[:, 1:].sum(1)
    elif how != "more":  # as many atoms as were drawn, perhaps more than dimensions
        factor = {"duplicate": 1.0, "opposite": -1.0, "longer": 3.7, "zero": 0.0}[how]
        atoms[:, 0] = factor * atoms[:, 1]
    z = solve(*normal_equations(atoms, x))
    torch.testing.assert_close(
        residual(atoms, x, z), best_residual(atoms, x), rtol=0, atol=1e-6
    )


@solvers
def test_duplicates_share_their_coefficient_and_a_zero_atom_gets_none(solve):
    atoms = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]])
    z = solve(*normal_equations(atoms, torch.tensor([[3.0, 1.0]])))
    torch.testing.assert_close(z, torch.tensor([[1.5, 0.0, 1.5, 0.5]]))
    assert z[0, 1] == 0


@solvers
def test_length_of_an_atom_does_not_matter(solve):
    atoms, x = problems(5, 4, 6, seed=0)
    lengths = torch.tensor([1e-6, 1.0, 1e3, 1e6]).double()
    z = solve(*normal_equations(atoms * lengths[:, None], x))
    expected = solve(*normal_equations(atoms, x))
    torch.testing.assert_close(z * lengths, expected)


@solvers
@dtypes
@pytest.mark.parametrize("exponent", range(0, 18, 2))
def test_almost_dependent_atoms_do_not_make_the_residual_longer(solve, dtype, exponent):
    base, x = problems(500, 4, 6, seed=1)
    near = base + 10.0**-exponent * problems(500, 4, 6, seed=2)[0]
    # Half the rows need the difference of two almost equal atoms.
    x[::2] = 1e-3 * x[::2] + base[::2, 0] - near[::2, 0]
    atoms, x = torch.cat([base, near], 1).to(dtype), x.to(dtype)
    z = solve(*normal_equations(atoms, x)).double()
    assert z.isfinite().all()
    atoms, x = atoms.double(), x.double()
    rounding = 1e-6 if dtype == torch.float64 else 1e-3
    assert (residual(atoms, x, z) <= x.norm(dim=1) * (1 + rounding)).all()
    # What needs no difference is explained.
    kept = best_residual(base, x)[1::2]
    assert (residual(atoms, x, z)[1::2] <= kept * (1 + rounding) + rounding).all()


@solvers
def test_ridge_leaves_no_trace_in_float32(solve):
    atoms, x = problems(20, 10, 15, seed=3)
    gram, c = normal_equations(atoms.float(), x.float())
    z = solve(gram, c).double()
    expected = torch.linalg.solve(gram.double(), c.double())
    assert ((z - expected).norm(dim=1) <= 1e-4 * expected.norm(dim=1)).all()


def test_matrices_that_are_no_gram_matrices_give_zeros():
    gram = torch.stack([torch.eye(2), -torch.eye(2), torch.eye(2) - 2])
    z = solve_normal_equations(gram, torch.ones(3, 2))
    torch.testing.assert_close(z, torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))


@solvers
def test_inputs_stay_as_they_are(solve):
    gram, c = normal_equations(*problems(3, 4, 2, seed=4))
    before = gram.clone(), c.clone()
    solve(gram, c)
    assert torch.equal(gram, before[0])
    assert torch.equal(c, before[1])


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    s=st.integers(1, 8),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_atoms_that_are_not_active_in_a_row_get_exactly_nothing(seed, s, dtype):
    atoms, x = problems(6, s, s + 3, seed)
    active = torch.tensor(np.random.default_rng(seed).random((6, s)) < 0.6)
    gram, c = normal_equations(atoms.to(dtype), x.to(dtype))
    factor = GrowingFactor(c, s + 2)  # with room to grow
    for p in range(s):
        factor.append(gram[:, p, : p + 1], active[:, p])
        z = factor.solve(c[:, : p + 1])
        assert (z[~active[:, : p + 1]] == 0).all()
    without = normal_equations(atoms.to(dtype) * active[:, :, None], x.to(dtype))
    tolerance = 1e-3 if dtype == torch.float32 else 1e-8
    torch.testing.assert_close(
        residual(atoms, x, z.double()),
        residual(atoms, x, solve_normal_equations(*without).double()),
        rtol=0,
        atol=tolerance,
    )
