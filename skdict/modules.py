"""The models: who owns the parameters, and how a row is coded and rebuilt.

``forward`` gives ``(reconstruction, SparseCode)``. The dictionary is called
``atoms`` in every model and is kept on unit rows by ``project_``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdict.ops.pursuit import Refit, Selection, batched_omp, choose_form, gram_matrix
from skdict.ops.sparse_code import SparseCode
from skdict.ops.topk import topk_encode


class DictionaryModule(nn.Module):
    """Atoms and a pre-bias; how a row is encoded is up to the subclass.

    Parameters
    ----------
    atoms : Tensor of shape (M, d)
        The dictionary.
    pre_bias : Tensor of shape (d,)
        Subtracted before encoding, added after decoding.
    k : int
        Most non-zeros of a code.
    """

    def __init__(self, atoms: Tensor, pre_bias: Tensor, k: int):
        super().__init__()
        self.atoms = nn.Parameter(atoms)
        self.pre_bias = nn.Parameter(pre_bias)
        self.k = k

    def encode(self, x: Tensor) -> SparseCode:
        raise NotImplementedError

    def decode(self, code: SparseCode) -> Tensor:
        return code.decode(self.atoms) + self.pre_bias

    def forward(self, x: Tensor) -> tuple[Tensor, SparseCode]:
        code = self.encode(x)
        return self.decode(code), code

    def prepare_(self, n_rows: int) -> None:
        """Get ready to encode so many rows with parameters that stay as they are."""

    def centre_(self, mean: Tensor) -> None:
        """Follow the mean of all rows seen, where the pre-bias is not learned."""

    @torch.no_grad()
    def project_(self) -> None:
        """Put the atoms back on the unit sphere."""
        self.atoms.copy_(F.normalize(self.atoms))

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        """Follow rows that are multiplied by ``factor``; the codes follow too."""
        self.pre_bias.mul_(factor)


class PursuitDictionary(DictionaryModule):
    """Batched OMP as the encoder; no gradient goes through it.

    The pre-bias is the mean of the rows and is not learned. With the codes held
    fixed, its gradient is the mean residual, which a greedy encoder does not bring
    to zero: the pre-bias would leave the rows step by step, and the explained
    variance would fall with it.
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
        super().__init__(atoms, pre_bias, k)
        self.pre_bias.requires_grad_(False)
        self.atoms_per_step = atoms_per_step
        self.selection = selection
        self.refit = refit
        self.gram: Tensor | None = None

    def encode(self, x: Tensor) -> SparseCode:
        return batched_omp(
            x - self.pre_bias,
            self.atoms,
            self.k,
            atoms_per_step=self.atoms_per_step,
            selection=self.selection,
            refit=self.refit,
            gram=self.gram,
        )

    @torch.no_grad()
    def centre_(self, mean: Tensor) -> None:
        self.pre_bias.copy_(mean)

    @torch.no_grad()
    def prepare_(self, n_rows: int) -> None:
        """Compute the Gram matrix once, where that pays for so many rows."""
        if choose_form(n_rows, self.atoms, self.k, self.atoms_per_step) == "gram":
            self.gram = gram_matrix(self.atoms)


class TopKAutoencoder(DictionaryModule):
    """A sparse autoencoder that keeps the ``k`` largest latents of a row.

    Parameters
    ----------
    atoms, pre_bias, k
        As in :class:`DictionaryModule`; the atoms are the decoder.
    encoder : Tensor of shape (M, d), default=None
        None: a copy of the atoms (tied).
    encoder_bias : Tensor of shape (M,), default=None
        None: zeros.
    """

    def __init__(
        self,
        atoms: Tensor,
        pre_bias: Tensor,
        k: int,
        *,
        encoder: Tensor | None = None,
        encoder_bias: Tensor | None = None,
    ):
        super().__init__(atoms, pre_bias, k)
        self.encoder = nn.Parameter(atoms.clone() if encoder is None else encoder)
        self.encoder_bias = nn.Parameter(
            atoms.new_zeros(len(atoms)) if encoder_bias is None else encoder_bias
        )

    def encode(self, x: Tensor) -> SparseCode:
        return topk_encode(x - self.pre_bias, self.encoder, self.encoder_bias, self.k)

    @torch.no_grad()
    def fit_scale_(self, rows: Tensor) -> None:
        """Scale an encoder that starts as the atoms, so that it rebuilds the rows best.

        The ``k`` active atoms of a row are correlated, and their activations add up
        to several times the row. One factor for all of them, ``<x, x_hat> /
        <x_hat, x_hat>``, is the least squares.
        """
        code = self.encode(rows)
        x_hat = code.decode(self.atoms)
        energy = x_hat.square().sum()
        if energy > 0:
            scale = ((rows - self.pre_bias) * x_hat).sum() / energy
            self.encoder.mul_(scale)

    @torch.no_grad()
    def project_gradient_(self) -> None:
        """Take out of the atoms' gradient what the projection would undo."""
        grad = self.atoms.grad
        if grad is not None:
            grad -= (grad * self.atoms).sum(1, keepdim=True) * self.atoms

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.encoder_bias.mul_(factor)
