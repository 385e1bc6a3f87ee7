"""Products of sparse codes with dense rows, which touch only the active atoms."""

from __future__ import annotations

import functools
import warnings
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers that are gathered at once. On the CPU a few MB, which stay in a core's cache;
# an accelerator is faster the more it gets.
GATHER_ELEMENTS = 1 << 20
ACCELERATOR_GATHER_ELEMENTS = 1 << 24


def gather_elements(x: Tensor) -> int:
    """Numbers that are gathered at once where ``x`` is."""
    return GATHER_ELEMENTS if x.device.type == "cpu" else ACCELERATOR_GATHER_ELEMENTS


def csr_tensor(
    offsets: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]
) -> Tensor:
    """A CSR tensor of torch, its invariants taken on trust."""
    _silence_beta(values.device.type)
    return torch.sparse_csr_tensor(
        offsets, indices, values, shape, check_invariants=False
    )


@functools.cache
def has_csr_kernels(device_type: str) -> bool:
    """Whether torch's products with CSR tensors are there, and faster.

    On the CPU they need MKL, which torch has on x86. Elsewhere they would have to
    be measured first.
    """
    if device_type != "cpu":
        return False
    one = torch.ones(1, 1, device="cpu")
    _silence_beta("cpu")
    try:
        csr = _one_entry("cpu")
        torch.addmm(one, csr, one)
        torch.sparse.sampled_addmm(csr, one, one)
    except RuntimeError:
        return False
    return True


def sums_by_csr(device_type: str) -> bool:
    """Whether a product with a CSR tensor sums rows faster than ``embedding_bag``.

    On a CUDA device it takes a fifth of the time where some atoms are active in many of
    8192 rows, and as long elsewhere.
    """
    return device_type == "cuda"


@functools.cache
def _silence_beta(device_type: str) -> None:
    """Let torch say, once in a process and unheard, that CSR tensors are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        csr = _one_entry(device_type)
        with suppress(RuntimeError):  # on a CPU without MKL
            csr @ torch.ones(1, 1, device=device_type)


def _one_entry(device_type: str) -> Tensor:
    offsets = torch.tensor([0, 1], device=device_type)
    return torch.sparse_csr_tensor(
        offsets, offsets[:1], torch.ones(1, device=device_type), (1, 1)
    )


def pre_activations(
    x: Tensor, encoder: Tensor, bias: Tensor, half: bool = False
) -> Tensor:
    """``x @ encoder.T + bias``, of shape (n, M).

    With ``half``, float32 factors are rounded to bfloat16. Their products are summed in
    float32 by the hardware, and the sums rounded to bfloat16 once more.
    """
    if half and x.dtype == torch.float32:
        product = x.bfloat16() @ encoder.bfloat16().T
        return product.to(x.dtype) + bias
    return torch.addmm(bias, x, encoder.T)


def sum_rows_per_atom(
    atoms: Tensor, rows: Tensor, values: Tensor, x: Tensor, n_components: int
) -> Tensor:
    """Sum the rows of ``x`` per atom: ``Z^T x``, of shape (n_components, d).

    Parameters
    ----------
    atoms, rows, values : Tensor of shape (nnz,)
        The entries of ``Z``.
    x : Tensor of shape (n, d)
        Rows to sum.
    n_components : int
        Number of atoms.
    """
    # Sorted by atom, the entries of each atom are one bag of rows.
    atoms, order = atoms.sort(stable=True)
    ends = torch.arange(n_components + 1, device=atoms.device)
    offsets = torch.searchsorted(atoms, ends)
    return sum_bags(rows[order], x, offsets, values[order])


def sum_bags(
    indices: Tensor, table: Tensor, offsets: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sums of rows of ``table``, one for each bag of indices.

    Parameters
    ----------
    indices, weights : Tensor of shape (nnz,)
        Rows of the table, one bag after the other, and their weights.
    table : Tensor of shape (n, d)
        Rows to sum.
    offsets : Tensor of shape (n_bags + 1,)
        Where each bag begins, and where the last one ends.

    Returns
    -------
    Tensor of shape (n_bags, d)
        An empty bag gives zeros.
    """
    if sums_by_csr(table.device.type):
        shape = len(offsets) - 1, len(table)
        return csr_tensor(offsets, indices, weights, shape) @ table
    return F.embedding_bag(
        indices, table, offsets[:-1], per_sample_weights=weights, mode="sum"
    )
