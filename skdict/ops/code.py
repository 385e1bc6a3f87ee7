"""The code of a batch: which atoms each row uses, and how much of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor


class Code(ABC):
    """Codes of ``n`` rows; the subclasses differ in how they keep the active atoms.

    :class:`~skdict.ops.slots.SlotCode` has the same number of slots in every row,
    :class:`RaggedCode` as many entries as each row needs, and :class:`DenseCode` one
    number for every atom.
    """

    values: Tensor

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def decode(self, dictionary: Tensor) -> Tensor:
        """Reconstruct the rows: ``Z W`` for a dictionary ``W`` of shape (M, d)."""

    @abstractmethod
    def to_dense(self, n_components: int) -> Tensor:
        """Codes as a dense (n, n_components) tensor."""

    @abstractmethod
    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the non-zeros: their number in each row, their atoms, their values."""

    @abstractmethod
    def fire_counts(self, n_components: int) -> Tensor:
        """Count the rows on which each atom fired: has a non-zero coefficient."""

    @abstractmethod
    def mean_squares(self, n_components: int) -> Tensor:
        """Average the squared coefficients of each atom over the rows."""

    @abstractmethod
    def finite_rows(self) -> Tensor:
        """Mark the rows whose coefficients are all finite, in a bool tensor."""

    def to_csr(self, n_components: int) -> sp.csr_matrix:
        """Codes as a SciPy CSR matrix: sorted indices, no explicit zeros.

        Raises
        ------
        ValueError
            If an index names no component. SciPy's compiled code does not check
            indices and would write outside its arrays.
        """
        counts, indices, values = self.entries()
        atoms = indices.cpu().numpy()
        # Seen as unsigned, negative indices are too large as well: one maximum finds
        # both.
        if len(atoms) and atoms.view(np.uint64).max() >= n_components:
            raise ValueError(
                f"The codes name atoms from {atoms.min()} to {atoms.max()}, but there "
                f"are {n_components} components."
            )
        indptr = torch.zeros(len(self) + 1, dtype=torch.int64, device="cpu")
        torch.cumsum(counts.cpu(), 0, out=indptr[1:])
        csr = sp.csr_matrix(
            (
                values.detach().cpu().numpy(),
                atoms.astype(np.int32),
                indptr.numpy(),
            ),
            shape=(len(self), n_components),
        )
        csr.sort_indices()
        return csr


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
        """Take the non-zeros of a dense (n, M) tensor; they stay differentiable."""
        rows, indices = dense.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=len(dense))
        offsets = F.pad(counts.cumsum(0), (1, 0))
        return cls(offsets, indices, dense[rows, indices])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _rows(self) -> Tensor:
        """Row of each entry."""
        rows = torch.arange(len(self), device=self.offsets.device)
        return rows.repeat_interleave(self.offsets.diff())

    def decode(self, dictionary: Tensor) -> Tensor:
        return F.embedding_bag(
            self.indices,
            dictionary,
            self.offsets[:-1],
            per_sample_weights=self.values,
            mode="sum",
        )

    def to_dense(self, n_components: int) -> Tensor:
        dense = self.values.new_zeros(len(self), n_components)
        return dense.index_put((self._rows(), self.indices), self.values)

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        active = self.values != 0
        counts = torch.bincount(self._rows()[active], minlength=len(self))
        return counts, self.indices[active], self.values[active]

    def fire_counts(self, n_components: int) -> Tensor:
        return torch.bincount(self.indices[self.values != 0], minlength=n_components)

    def mean_squares(self, n_components: int) -> Tensor:
        sums = self.values.new_zeros(n_components)
        return sums.index_add_(0, self.indices, self.values.square() / len(self))

    def finite_rows(self) -> Tensor:
        finite = torch.ones(len(self), dtype=torch.bool, device=self.values.device)
        finite[self._rows()[~self.values.isfinite()]] = False
        return finite


@dataclass(frozen=True)
class DenseCode(Code):
    """Codes with one number for every atom, most of them zero.

    Attributes
    ----------
    values : Tensor of shape (n, M)
        Coefficients.
    """

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def decode(self, dictionary: Tensor) -> Tensor:
        return self.values @ dictionary

    def to_dense(self, n_components: int) -> Tensor:
        return self.values

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        rows, indices = self.values.nonzero(as_tuple=True)
        return self.values.count_nonzero(1), indices, self.values[rows, indices]

    def fire_counts(self, n_components: int) -> Tensor:
        return self.values.count_nonzero(0)

    def mean_squares(self, n_components: int) -> Tensor:
        return self.values.square().mean(0)

    def finite_rows(self) -> Tensor:
        return self.values.isfinite().all(1)
