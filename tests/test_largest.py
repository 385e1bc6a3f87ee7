"""The two-stage search for the largest entries against a plain sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skdict.ops import largest as module
from skdict.ops.largest import largest


def values_found(scores, k):
    """The entries that are found, sorted, and a check that none is named twice."""
    columns = largest(scores, k)
    assert columns.shape == (len(scores), k)
    assert columns.dtype == torch.int64
    assert all(len(row.unique()) == k for row in columns)
    return scores.gather(1, columns).sort(dim=1).values


def check(scores, k):
    expected = scores.sort(dim=1).values[:, scores.shape[1] - k :]
    assert torch.equal(values_found(scores, k), expected)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 4),
    m=st.integers(1, 60),
    distinct=st.sampled_from([2, 5, 10**6]),
    data=st.data(),
)
def test_finds_what_a_sort_finds(seed, n, m, distinct, data):
    k = data.draw(st.integers(1, m), "k")
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(distinct, (n, m), generator=generator) - distinct // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_N_GROUPS", 8)  # two stages from 32 columns on
        check(scores.double(), k)


@pytest.mark.parametrize("m", [2047, 2048, 2500, 8192])
@pytest.mark.parametrize("k", [1, 5, 64, 65])
def test_long_rows(m, k):
    generator = torch.Generator().manual_seed(0)
    check(torch.randn(20, m, generator=generator), k)


def test_largest_entries_may_share_a_group_or_stand_at_the_end():
    scores = torch.zeros(3, 2500)
    scores[0, [7, 519, 1031, 1543]] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    scores[1, [2048, 2499, 100, 612]] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    scores[2] -= 1
    scores[2, -4:] = -0.5
    check(scores, 4)


@pytest.mark.parametrize("least", [float("-inf"), -torch.finfo(torch.float32).max])
def test_rows_that_are_equal_throughout(least):
    check(torch.full((2, 4096), least), 5)
