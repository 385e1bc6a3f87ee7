"""The code of a batch: which atoms each row uses, and how much of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


class Code(ABC):
    """Codes of ``n`` rows; the subclasses differ in how they keep the active atoms.

    :class:`~skdict.ops.slots.SlotCode` has the same number of slots in every row,
    :class:`~skdict.ops.ragged.RaggedCode` as many entries as each row needs, and
    :class:`DenseCode` one number for every atom.
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
    def decode_range(self, dictionary: Tensor, start: int, stop: int) -> Tensor:
        """Rebuild the rows from the atoms numbered ``start`` to ``stop`` alone."""

    @abstractmethod
    def at(self, parameter: Tensor) -> Tensor:
        """A number of each atom, of shape (M,), where the values of the atom stand."""

    def with_values(self, values: Tensor) -> Self:
        """The same places with other values."""
        return replace(self, values=values)  # type: ignore[type-var]  # dataclasses all

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
        # Read as unsigned, a negative index is too large, so one maximum finds both
        # kinds of wrong index.
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

    def decode_range(self, dictionary: Tensor, start: int, stop: int) -> Tensor:
        return self.values[:, start:stop] @ dictionary[start:stop]

    def to_dense(self, n_components: int) -> Tensor:
        return self.values

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        rows, indices = self.values.nonzero(as_tuple=True)
        return self.values.count_nonzero(1), indices, self.values[rows, indices]

    def fire_counts(self, n_components: int) -> Tensor:
        return self.values.count_nonzero(0)

    def mean_squares(self, n_components: int) -> Tensor:
        return self.values.square().mean(0)

    def at(self, parameter: Tensor) -> Tensor:
        return parameter

    def finite_rows(self) -> Tensor:
        return self.values.isfinite().all(1)
