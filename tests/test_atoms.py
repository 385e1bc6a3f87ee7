"""Redundant and random atoms by brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skdict.ops import atoms as atoms_module
from skdict.ops.atoms import random_unit_rows, redundant_atoms

seeds = st.integers(0, 2**32 - 1)


@st.composite
def crowded_atoms(draw):
    """Few directions, many atoms around each of them, and how often they fired."""
    rng = np.random.default_rng(draw(seeds))
    m, d = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    centres = rng.normal(size=(draw(st.integers(1, 6)), d))
    atoms = centres[rng.integers(len(centres), size=m)]
    atoms = atoms + draw(st.sampled_from([0.0, 0.2])) * rng.normal(size=(m, d))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return torch.tensor(atoms), torch.tensor(rng.integers(4, size=m))


@settings(max_examples=100)
@given(case=crowded_atoms(), similarity=st.floats(-0.5, 0.99), block=st.integers(1, 30))
def test_redundant_are_those_like_an_atom_that_fired_more(case, similarity, block):
    atoms, fired = case
    cosines = atoms @ atoms.T
    expected = [
        any(
            cosines[i, j] > similarity
            and (fired[j] > fired[i] or (fired[j] == fired[i] and j < i))
            for j in range(len(atoms))
        )
        for i in range(len(atoms))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atoms_module, "_BLOCK", block)
        redundant = redundant_atoms(atoms, similarity, fired)
    assert redundant.dtype == torch.bool
    assert redundant.tolist() == expected
    # So no two atoms that stay are alike, and the most used one stays.
    stay = atoms[~redundant]
    assert ((stay @ stay.T).fill_diagonal_(-1.0) <= similarity).all()
    assert not redundant[fired.argmax()] or (fired == fired.max()).sum() > 1


def test_a_pair_at_the_threshold_is_not_redundant():
    atoms = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert redundant_atoms(atoms, 0.6, torch.zeros(2)).tolist() == [False, False]
    assert redundant_atoms(atoms, 0.59, torch.zeros(2)).tolist() == [False, True]
    assert redundant_atoms(atoms, 0.59, torch.tensor([1, 2])).tolist() == [True, False]


def test_an_opposite_atom_is_not_redundant():
    atoms = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert not redundant_atoms(atoms, 0.9, torch.zeros(2)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_unit_rows_are_uniform_on_the_sphere(dtype):
    generator = torch.Generator().manual_seed(0)
    rows = random_unit_rows((20_000, 3), generator, dtype)
    assert rows.dtype == dtype
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(20_000, dtype=dtype))
    # Archimedes: on the sphere in three dimensions each coordinate is uniform.
    for coordinate in rows.T:
        assert stats.kstest(coordinate.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    covariance = rows.T @ rows / len(rows)
    torch.testing.assert_close(
        covariance,
        torch.eye(3, dtype=dtype) / 3,
        rtol=0,
        atol=5 / math.sqrt(20_000) / 3,
    )


def test_random_unit_rows_follow_the_generator():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return random_unit_rows((4, 3), generator, torch.float32)

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
