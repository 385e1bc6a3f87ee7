"""Codes with the same number of slots in every row, and their products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
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
class SlotCode(Code):
    """Codes of ``n`` rows with at most ``s`` active atoms each.

    A slot whose value is zero is empty: its index is valid but means nothing.
    An atom is in at most one non-empty slot of a row; codes whose atoms may repeat go
    through :meth:`coalesce` first.

    Attributes
    ----------
    indices : Tensor of shape (n, s), int64
        Atom of each slot.
    values : Tensor of shape (n, s)
        Coefficient of each slot.
    """

    indices: Tensor
    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def decode(self, dictionary: Tensor) -> Tensor:
        """Reconstruct the rows: ``Z W`` for a dictionary ``W`` of shape (M, d).

        Differentiable in the values and in the dictionary; the dictionary's
        gradient is summed from the active atoms only.
        """
        return _Decode.apply(self.values, dictionary, self.indices)

    def subtract_from_(self, out: Tensor, dictionary: Tensor) -> None:
        """``out -= Z W``, in place and outside of automatic differentiation."""
        if has_csr_kernels(out.device.type):
            # Half the time of the other way, because no temporary is as large as `out`.
            torch.addmm(
                out, self._to_csr_tensor(len(dictionary)), dictionary, alpha=-1, out=out
            )
        else:
            out -= self.decode(dictionary)

    def correlate(self, x: Tensor, n_components: int) -> Tensor:
        """Sum the rows of ``x`` per atom: ``Z^T x``, of shape (n_components, d)."""
        return _correlate(self.indices, self.values, x, n_components)

    def coalesce(self) -> SlotCode:
        """Merge repeated atoms of a row by adding their values; sort by index.

        Slots that become empty move to the end.
        """
        indices, order = self.indices.sort(dim=1)
        values = self.values.gather(1, order)
        starts_atom = torch.ones_like(indices, dtype=torch.bool)
        starts_atom[:, 1:] = indices[:, 1:] != indices[:, :-1]
        slot = starts_atom.cumsum(1) - 1
        return SlotCode(
            torch.zeros_like(indices).scatter_(1, slot, indices),
            torch.zeros_like(values).scatter_add_(1, slot, values),
        )

    def to_dense(self, n_components: int) -> Tensor:
        """Codes as a dense (n, n_components) tensor."""
        dense = self.values.new_zeros(len(self.values), n_components)
        return dense.scatter_add_(1, self.indices, self.values)

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        active = self.values != 0
        return active.sum(1), self.indices[active], self.values[active]

    def fire_counts(self, n_components: int) -> Tensor:
        return torch.zeros(
            n_components, dtype=torch.int64, device=self.indices.device
        ).index_add_(0, self.indices.flatten(), (self.values != 0).flatten().long())

    def mean_squares(self, n_components: int) -> Tensor:
        return self.values.new_zeros(n_components).index_add_(
            0, self.indices.flatten(), self.values.square().flatten() / len(self)
        )

    def decode_range(self, dictionary: Tensor, start: int, stop: int) -> Tensor:
        inside = (self.indices >= start) & (self.indices < stop)
        return self.with_values(self.values * inside).decode(dictionary)

    def at(self, parameter: Tensor) -> Tensor:
        return parameter[self.indices]

    def finite_rows(self) -> Tensor:
        return self.values.isfinite().all(1)

    def _to_csr_tensor(self, n_components: int) -> Tensor:
        return csr_tensor(
            self._offsets(),
            self.indices.flatten(),
            self.values.flatten(),
            (len(self), n_components),
        )

    def _offsets(self) -> Tensor:
        n, n_slots = self.indices.shape
        return torch.arange(n + 1, device=self.indices.device) * n_slots


class _Decode(torch.autograd.Function):
    """``Z W`` whose backward pass touches only the active atoms."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, dictionary: Tensor, indices: Tensor
    ) -> Tensor:
        ctx.save_for_backward(values, dictionary, indices)
        code = SlotCode(indices, values)
        return sum_bags(
            indices.flatten(), dictionary, code._offsets(), values.flatten()
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, dictionary, indices = ctx.saved_tensors
        grad_values = grad_dictionary = None
        if ctx.needs_input_grad[0]:
            grad_values = active_products(grad, dictionary, indices)
        if ctx.needs_input_grad[1]:
            grad_dictionary = _correlate(indices, values, grad, len(dictionary))
        return grad_values, grad_dictionary, None


def active_products(x: Tensor, dictionary: Tensor, indices: Tensor) -> Tensor:
    """Inner products ``<x_i, W_m>`` for the atoms ``m`` in ``indices[i]`` only."""
    # torch refuses a pattern with more entries in a row than columns.
    fits = indices.shape[1] <= len(dictionary)
    if fits and has_csr_kernels(x.device.type):
        pattern = SlotCode(indices, x.new_zeros(indices.shape))
        products = torch.sparse.sampled_addmm(
            pattern._to_csr_tensor(len(dictionary)), x, dictionary.T, beta=0
        )
        return products.values().view(indices.shape)
    # The atoms are gathered for a few rows at a time, because all of them would take
    # ``n * s * d`` numbers.
    n_slots, n_features = indices.shape[1], x.shape[1]
    rows = max(1, gather_elements(x) // max(1, n_slots * n_features))
    return torch.cat(
        [
            torch.bmm(dictionary[atoms], part[:, :, None])[:, :, 0]
            for part, atoms in zip(x.split(rows), indices.split(rows), strict=True)
        ]
    )


def _correlate(indices: Tensor, values: Tensor, x: Tensor, n_components: int) -> Tensor:
    """``Z^T x``, of shape (n_components, d)."""
    rows = torch.arange(len(indices), device=indices.device)
    return sum_rows_per_atom(
        indices.flatten(),
        rows.repeat_interleave(indices.shape[1]),
        values.flatten(),
        x,
        n_components,
    )
