"""Transcoders: autoencoders whose target is not the row but what goes with it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skdict._utils.fitted import Array
from skdict.models.autoencoder import Autoencoder
from skdict.models.batch_topk import BatchTopKAutoencoder
from skdict.models.dictionary import Parameter
from skdict.models.gated import GatedAutoencoder
from skdict.models.jump import JumpReLUAutoencoder
from skdict.models.relu import ReLUAutoencoder
from skdict.models.topk import TopKAutoencoder
from skdict.ops.centre import geometric_median

_ACTIVATIONS: dict[str, type[Autoencoder]] = {
    "topk": TopKAutoencoder,
    "batch_topk": BatchTopKAutoencoder,
    "relu": ReLUAutoencoder,
    "jump_relu": JumpReLUAutoencoder,
    "gated": GatedAutoencoder,
}
_PARAMETERS = {
    "atoms": Parameter("components_", Array(("n_components", "n_targets"))),
    "pre_bias": Parameter("bias_", Array(("n_targets",))),
    "input_bias": Parameter("input_bias_", Array(("n_features",))),
}
_SKIP = Parameter("skip_components_", Array(("n_targets", "n_features")))


class Transcoder(Autoencoder):
    """Mixed into an autoencoder, makes it rebuild a target from the code of a row.

    ``z = activation(W_enc (x - b_in) + b_enc)`` and
    ``y_hat = z W_dec + b_out (+ W_skip (x - b_in))``, where ``b_out`` is ``pre_bias``.
    ``b_in`` stays the mean of the first rows: learned, it would add nothing that
    ``b_enc`` and ``b_out`` cannot do.

    Parameters
    ----------
    atoms : Tensor of shape (M, d_out)
        The decoder.
    n_features : int
        Length of a row.
    **kwargs : dict
        For the autoencoder.
    """

    def __init__(self, atoms: Tensor, *, n_features: int, **kwargs: Any) -> None:
        super().__init__(atoms, **kwargs)
        self.encoder = nn.Parameter(atoms.new_zeros(len(atoms), n_features))
        self.input_bias = nn.Parameter(atoms.new_zeros(n_features), requires_grad=False)
        if "skip" in self.fitted:
            self.skip = nn.Parameter(atoms.new_zeros(atoms.shape[1], n_features))

    @property
    def origin(self) -> Tensor:
        return self.input_bias

    def offset(self, x: Tensor) -> Tensor:
        if "skip" not in self.fitted:
            return self.pre_bias
        return torch.addmm(self.pre_bias, self.centred(x), self.skip.T)

    @torch.no_grad()
    def start_pairs_(
        self, x: Tensor, x_mean: Tensor, target: Tensor, mean: Tensor
    ) -> None:
        """Let each latent look for rows whose targets lie along its atom."""
        self.input_bias.copy_(x_mean)
        self.pre_bias.copy_(geometric_median(target))
        nearest = nearest_rows(self.atoms, target - mean)
        self.encoder.copy_(F.normalize(self.centred(x)[nearest]))
        self.start_encoder_(x, target)

    @torch.no_grad()
    def rescale_pairs_(self, x_factor: float, factor: float) -> None:
        self.rescale_(factor)
        self.input_bias.mul_(x_factor)
        self.encoder.mul_(factor / x_factor)
        if "skip" in self.fitted:
            self.skip.mul_(factor / x_factor)


@cache
def transcoder(activation: str, skip_connection: bool) -> type[Transcoder]:
    """Return the class of the transcoders with an activation."""
    base = _ACTIVATIONS[activation]
    skip = {"skip": _SKIP} if skip_connection else {}
    fitted = {**base.fitted, **_PARAMETERS, **skip}
    name = f"{base.__name__}Transcoder"
    return type(name, (Transcoder, base), {"fitted": fitted})


def nearest_rows(atoms: Tensor, centred: Tensor) -> Tensor:
    """For each of ``M`` atoms the row that is nearest to it in direction.

    Atom ``m`` chooses among the rows ``m``, ``m + M``, ``m + 2 M`` and so on, so that
    atoms of the same direction, which all are where rows have one entry, choose
    different rows. An atom that is one of the first rows finds that row.
    """
    n_atoms, n_rows = len(atoms), len(centred)
    nearest = torch.arange(n_atoms) % n_rows
    best = atoms.new_full((n_atoms,), -torch.inf)
    for start in range(0, n_rows, n_atoms):
        rows = (start + torch.arange(n_atoms)) % n_rows
        cosines = (F.normalize(centred[rows]) * atoms).sum(1)
        # What rounding adds must not draw an atom away from its own row.
        closer = cosines > best + 1e-6
        nearest, best = torch.where(closer, rows, nearest), best.maximum(cosines)
    return nearest
