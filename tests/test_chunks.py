"""Chunk sizes follow from caches and memory."""

import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdict.ops import chunks
from skdict.ops.chunks import fits_in_memory, rows_per_chunk


@given(st.integers(0, 10**9), st.sampled_from([torch.float32, torch.float64]))
def test_correlations_of_a_chunk_fill_half_the_cache(n_components, dtype):
    rows = rows_per_chunk(torch.empty(0, 3, dtype=dtype), n_components)
    bytes_per_row = max(1, n_components) * dtype.itemsize
    half = chunks._last_level_cache_bytes() // 2
    assert rows == 1 or rows * bytes_per_row <= half
    assert (rows + 1) * bytes_per_row > half


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"SC_LEVEL2_CACHE_SIZE": 1 << 20, "SC_LEVEL3_CACHE_SIZE": 8 << 20}, 8 << 20),
        # Some kernels answer 0 or -1 for what they do not know.
        ({"SC_LEVEL2_CACHE_SIZE": 1 << 20, "SC_LEVEL3_CACHE_SIZE": 0}, 1 << 20),
        ({"SC_LEVEL3_CACHE_SIZE": -1}, chunks._USUAL_CACHE_BYTES),
        ({}, chunks._USUAL_CACHE_BYTES),
    ],
)
def test_the_largest_cache_that_is_known(monkeypatch, sizes, expected):
    monkeypatch.setattr(os, "sysconf_names", dict.fromkeys(sizes, 1), raising=False)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
    assert chunks._last_level_cache_bytes.__wrapped__() == expected


def test_a_share_of_the_memory_of_an_accelerator(monkeypatch):
    class Properties:
        total_memory = 64 << 20

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert chunks._chunk_bytes(torch.device("cuda")) == 1 << 20
    assert chunks._chunk_bytes(torch.device("mps")) == chunks._USUAL_MEMORY_BYTES // 64
    assert fits_in_memory(8 << 20, torch.device("cuda"))
    assert not fits_in_memory((8 << 20) + 1, torch.device("cuda"))


def test_a_table_may_take_an_eighth_of_the_memory(monkeypatch):
    sizes = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf_names", sizes, raising=False)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
    cpu = torch.device("cpu")
    assert fits_in_memory(512_000, cpu)
    assert not fits_in_memory(512_001, cpu)
    monkeypatch.setattr(os, "sysconf_names", {}, raising=False)
    assert fits_in_memory(chunks._USUAL_MEMORY_BYTES // 8, cpu)
    assert not fits_in_memory(chunks._USUAL_MEMORY_BYTES, cpu)
