"""How many rows are worked on at a time, from the sizes of caches and memory."""

from __future__ import annotations

import functools
import os

import torch
from torch import Tensor


def rows_per_chunk(x: Tensor, n_components: int) -> int:
    """Number of rows whose correlations with all atoms are worked on at a time.

    On the CPU the correlations fit in half of the last-level cache; the other half is
    for the rows and atoms. On an accelerator they fit in a 64th of its memory, so that
    the temporaries of an encoder fit beside data, parameters and gradients.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows; only their dtype and device count.
    n_components : int
        Number of atoms.

    Returns
    -------
    int
        At least 1.
    """
    bytes_per_row = max(1, n_components) * x.element_size()
    return max(1, _chunk_bytes(x.device) // bytes_per_row)


def fits_in_memory(n_bytes: int, device: torch.device) -> bool:
    """Whether a table takes at most an eighth of the memory, so that it may be kept."""
    return n_bytes <= _memory_bytes(device) // 8


def _chunk_bytes(device: torch.device) -> int:
    if device.type == "cpu":
        return _last_level_cache_bytes() // 2
    return _memory_bytes(device) // 64


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _USUAL_MEMORY_BYTES


@functools.cache
def _last_level_cache_bytes() -> int:
    """Size of the largest cache that the operating system reports."""
    names = ["SC_LEVEL2_CACHE_SIZE", "SC_LEVEL3_CACHE_SIZE", "SC_LEVEL4_CACHE_SIZE"]
    known = getattr(os, "sysconf_names", {})
    sizes = [os.sysconf(name) for name in names if name in known]
    return max([size for size in sizes if size > 0], default=_USUAL_CACHE_BYTES)


_USUAL_CACHE_BYTES = 32 << 20
_USUAL_MEMORY_BYTES = 16 << 30
