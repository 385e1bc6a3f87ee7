"""Codes with as many entries as each row needs, and their products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from skdict.ops.code import Code
from skdict.ops.products import (
    csr_tensor,
    gather_elements,
    has_csr_kernels,
    sum_bags,
    sum_rows_per_atom,
)


@dataclass(frozen=True)
class RaggedCode(Code):
    """Codes with as many entries as each row needs, rows one after the other.

    Attributes
    ----------
    offsets : Tensor of shape (n + 1,), int64
        Entries of row ``i`` are ``offsets[i]`` to ``offsets[i + 1]``.
    indices : Tensor of shape (nnz,), int64
        Atom of each entry; an atom stands in a row at most once.
    values : Tensor of shape (nnz,)
        Coefficient of each entry.
    """

    offsets: Tensor
    indices: Tensor
    values: Tensor

    @classmethod
    def from_dense(cls, dense: Tensor) -> RaggedCode:
        """The non-zeros of a dense (n, M) tensor; differentiable in their values."""
        rows, indices = dense.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(dense))
        return cls(offsets_of(counts), indices, dense[rows, indices])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self) -> Tensor:
        """Row of each entry."""
        return rows_of(self.offsets, len(self.indices))

    def decode(self, dictionary: Tensor) -> Tensor:
        return _Decode.apply(self.values, dictionary, self.indices, self.offsets)

    def decode_range(self, dictionary: Tensor, start: int, stop: int) -> Tensor:
        inside = (self.indices >= start) & (self.indices < stop)
        return self.keep(inside).decode(dictionary)

    def correlate(self, x: Tensor, n_components: int) -> Tensor:
        """Sum the rows of ``x`` per atom: ``Z^T x``, of shape (n_components, d)."""
        return sum_rows_per_atom(
            self.indices, self.rows(), self.values, x, n_components
        )

    def keep(self, chosen: Tensor) -> RaggedCode:
        """The entries that a bool tensor of shape (nnz,) marks."""
        # Found once: on an accelerator, every search is waited for.
        places = chosen.nonzero()[:, 0]
        offsets = torch.searchsorted(places, self.offsets)
        return RaggedCode(offsets, self.indices[places], self.values[places])

    def to_dense(self, n_components: int) -> Tensor:
        dense = self.values.new_zeros(len(self), n_components)
        return dense.index_put((self.rows(), self.indices), self.values)

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        active = self.keep(self.values != 0)
        return active.offsets.diff(), active.indices, active.values

    def fire_counts(self, n_components: int) -> Tensor:
        counts = self.indices.new_zeros(n_components)
        return counts.index_add_(0, self.indices, (self.values != 0).long())

    def mean_squares(self, n_components: int) -> Tensor:
        sums = self.values.new_zeros(n_components)
        return sums.index_add_(0, self.indices, self.values.square() / len(self))

    def at(self, parameter: Tensor) -> Tensor:
        return parameter[self.indices]

    def finite_rows(self) -> Tensor:
        finite = torch.ones(len(self), dtype=torch.bool, device=self.values.device)
        finite[self.rows()[~self.values.isfinite()]] = False
        return finite


def offsets_of(counts: Tensor) -> Tensor:
    """Offsets of rows that have ``counts`` entries."""
    return F.pad(counts.cumsum(0), (1, 0))


def rows_of(offsets: Tensor, n_entries: int) -> Tensor:
    """Row of each of the entries."""
    rows = torch.arange(len(offsets) - 1, device=offsets.device)
    return rows.repeat_interleave(offsets.diff(), output_size=n_entries)


class _Decode(torch.autograd.Function):
    """``Z W`` whose backward step touches only the active atoms."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, dictionary: Tensor, indices: Tensor, offsets: Tensor
    ) -> Tensor:
        ctx.save_for_backward(values, dictionary, indices, offsets)
        return sum_bags(indices, dictionary, offsets, values)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, dictionary, indices, offsets = ctx.saved_tensors
        grad_values = grad_dictionary = None
        if ctx.needs_input_grad[0]:
            grad_values = active_products(grad, dictionary, indices, offsets)
        if ctx.needs_input_grad[1]:
            grad_dictionary = sum_rows_per_atom(
                indices,
                rows_of(offsets, len(indices)),
                values,
                grad,
                len(dictionary),
            )
        return grad_values, grad_dictionary, None, None


def active_products(
    x: Tensor, dictionary: Tensor, indices: Tensor, offsets: Tensor
) -> Tensor:
    """Inner products ``<x_i, W_m>`` for the entries only."""
    shape = len(x), len(dictionary)
    if has_csr_kernels(x.device.type):
        pattern = csr_tensor(offsets, indices, x.new_zeros(len(indices)), shape)
        return torch.sparse.sampled_addmm(pattern, x, dictionary.T, beta=0).values()
    # Gathers the atoms a few entries at a time.
    rows = rows_of(offsets, len(indices))
    n_entries = max(1, gather_elements(x) // max(1, x.shape[1]))
    parts = zip(rows.split(n_entries), indices.split(n_entries), strict=True)
    return torch.cat([(x[row] * dictionary[atom]).sum(1) for row, atom in parts])
