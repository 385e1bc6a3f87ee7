"""Products of sparse codes with dense rows, which touch only the active atoms."""

from __future__ import annotations

import functools
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

# A few MB: what is gathered at once stays in a core's cache.
GATHER_ELEMENTS = 1 << 20


def csr_tensor(
    offsets: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]
) -> Tensor:
    """A CSR tensor of torch, its invariants taken on trust."""
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
    places = torch.tensor([0, 1]), torch.zeros(1, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # once in a process: CSR tensors are in beta
        try:
            csr = csr_tensor(*places, torch.ones(1), (1, 1))
            torch.addmm(torch.ones(1, 1), csr, torch.ones(1, 1))
            torch.sparse.sampled_addmm(csr, torch.ones(1, 1), torch.ones(1, 1))
        except RuntimeError:
            return False
    return True


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
    offsets = torch.searchsorted(atoms, torch.arange(n_components, device=atoms.device))
    return F.embedding_bag(
        rows[order], x, offsets, per_sample_weights=values[order], mode="sum"
    )
