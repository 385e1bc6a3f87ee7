"""The models: who owns the parameters, and how a row is coded and rebuilt.

``forward`` gives ``(reconstruction, SparseCode)``. The dictionary is called
``atoms`` in every model and is kept on unit rows by ``project_``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdict.ops.pursuit import Refit, Selection, batched_omp
from skdict.ops.sparse_code import SparseCode
from skdict.ops.topk import topk_encode


class PursuitDictionary(nn.Module):
    """Atoms and a pre-bias, with batched OMP as the encoder.

    Only ``atoms`` and ``pre_bias`` learn; no gradient goes through the encoder.
    """

    def __init__(
        self,
        atoms: Tensor,
        pre_bias: Tensor,
        k: int,
        *,
        atoms_per_step: int = 5,
        selection: Selection = "positive",
        refit: Refit = False,
    ):
        super().__init__()
        self.atoms = nn.Parameter(atoms)
        self.pre_bias = nn.Parameter(pre_bias)
        self.k = k
        self.atoms_per_step = atoms_per_step
        self.selection = selection
        self.refit = refit

    def encode(self, x: Tensor, gram: Tensor | None = None) -> SparseCode:
        return batched_omp(
            x - self.pre_bias,
            self.atoms,
            self.k,
            atoms_per_step=self.atoms_per_step,
            selection=self.selection,
            refit=self.refit,
            gram=gram,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, SparseCode]:
        code = self.encode(x)
        return code.decode(self.atoms) + self.pre_bias, code

    @torch.no_grad()
    def project_(self) -> None:
        """Put the atoms back on the unit sphere."""
        self.atoms.copy_(F.normalize(self.atoms))

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        """Follow rows that are multiplied by ``factor``; the codes follow too."""
        self.pre_bias *= factor


class TopKAutoencoder(nn.Module):
    """A sparse autoencoder that keeps the ``k`` largest latents of a row."""

    def __init__(
        self,
        atoms: Tensor,
        pre_bias: Tensor,
        k: int,
        *,
        encoder: Tensor | None = None,
        encoder_bias: Tensor | None = None,
    ):
        super().__init__()
        self.atoms = nn.Parameter(atoms)
        self.pre_bias = nn.Parameter(pre_bias)
        self.encoder = nn.Parameter(atoms.clone() if encoder is None else encoder)
        self.encoder_bias = nn.Parameter(
            atoms.new_zeros(len(atoms)) if encoder_bias is None else encoder_bias
        )
        self.k = k

    def encode(self, x: Tensor) -> SparseCode:
        return topk_encode(x - self.pre_bias, self.encoder, self.encoder_bias, self.k)

    def forward(self, x: Tensor) -> tuple[Tensor, SparseCode]:
        code = self.encode(x)
        return code.decode(self.atoms) + self.pre_bias, code

    @torch.no_grad()
    def project_(self) -> None:
        """Put the atoms back on the unit sphere."""
        self.atoms.copy_(F.normalize(self.atoms))

    @torch.no_grad()
    def project_gradient_(self) -> None:
        """Take out of the atoms' gradient what the projection would undo."""
        grad = self.atoms.grad
        grad -= (grad * self.atoms).sum(1, keepdim=True) * self.atoms

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        """Follow rows that are multiplied by ``factor``; the codes follow too."""
        self.pre_bias *= factor
        self.encoder_bias *= factor
