"""What the sparse autoencoders share: an encoder of their own, trained by Adam."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skdict._utils.fitted import Array
from skdict.models.dictionary import ATOMS, Dictionary, Parameter
from skdict.ops.centre import geometric_median


class Autoencoder(Dictionary):
    """Atoms as the decoder, and an encoder that starts as the atoms.

    Parameters
    ----------
    atoms
        As in :class:`Dictionary`.
    scale_encoder : bool, default=True
        Scale the first encoder so that it rebuilds the rows best.
    """

    fitted = {
        **Dictionary.fitted,
        "encoder": Parameter("encoder_components_", Array(ATOMS)),
        "encoder_bias": Parameter("encoder_bias_", Array(ATOMS[:1])),
    }

    def __init__(self, atoms: Tensor, *, scale_encoder: bool = True):
        super().__init__(atoms)
        self.encoder = nn.Parameter(atoms.clone())
        self.encoder_bias = nn.Parameter(atoms.new_zeros(len(atoms)))
        self.scale_encoder = scale_encoder

    @torch.no_grad()
    def precondition_(self, objective):
        """Take out of the atoms' gradient what the projection would undo."""
        grad = self.atoms.grad
        if grad is not None:
            grad -= (grad * self.atoms).sum(1, keepdim=True) * self.atoms

    @torch.no_grad()
    def start_(self, rows, mean):
        super().start_(rows, geometric_median(rows))
        if self.scale_encoder:
            self.scale_encoder_(rows)

    @torch.no_grad()
    def scale_encoder_(self, rows: Tensor) -> None:
        """Scale an encoder that starts as the atoms, so that it rebuilds the rows best.

        The active atoms of a row are correlated, and their activations add up to
        several times the row. One factor for all of them, ``<x, x_hat> /
        <x_hat, x_hat>``, is the least squares.
        """
        x_hat = self.encode(rows).decode(self.atoms)
        energy = x_hat.square().sum()
        if energy > 0:
            scale = ((rows - self.pre_bias) * x_hat).sum() / energy
            self.encoder.mul_(scale)

    @torch.no_grad()
    def rescale_(self, factor):
        super().rescale_(factor)
        self.encoder_bias.mul_(factor)

    def optimizer_options(self):
        # Fused, Adam takes a sixth of the time.
        return {"fused": self.atoms.device.type in ("cpu", "cuda")}
