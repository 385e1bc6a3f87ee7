"""What the sparse autoencoders share: an encoder of their own, trained by Adam."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skdict._utils.fitted import Array
from skdict._utils.warn import warn
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
    autocast : bool, default=False
        Choose latents by products in bfloat16.
    training_factor : float, default=1.0
        Training aims at this many times ``k`` active latents, but at no fewer than one
        and no more than half of all, unless ``k`` is. A stream aims at ``k``.
    """

    k: float | None
    # Whether the encoder stays where training began.
    frozen_encoder: bool = False
    fitted = {
        **Dictionary.fitted,
        "encoder": Parameter("encoder_components_", Array(ATOMS)),
        "encoder_bias": Parameter("encoder_bias_", Array(ATOMS[:1])),
    }

    def __init__(
        self,
        atoms: Tensor,
        *,
        scale_encoder: bool = True,
        autocast: bool = False,
        training_factor: float = 1.0,
    ) -> None:
        super().__init__(atoms)
        self.autocast = autocast
        self.training_factor = training_factor
        self.encoder = nn.Parameter(atoms.clone())
        self.encoder_bias = nn.Parameter(atoms.new_zeros(len(atoms)))
        self.scale_encoder = scale_encoder

    @property
    def origin(self) -> Tensor:
        """What is subtracted from a row before it is encoded."""
        return self.pre_bias

    def centred(self, x: Tensor) -> Tensor:
        """The rows as the encoder sees them; :attr:`bias` has the origin's gradient."""
        return x - self.origin.detach()

    @property
    def bias(self) -> Tensor:
        """``encoder_bias``, with the gradient of the origin.

        All rows share that gradient. Through each of them, it would take a product as
        large as the encoder's.
        """
        if not (torch.is_grad_enabled() and self.origin.requires_grad):
            return self.encoder_bias
        zero = self.origin - self.origin.detach()
        return self.encoder_bias - self.encoder.detach() @ zero

    def pre_activations(self, x: Tensor) -> Tensor:
        """What the encoder says before it is cut, of shape (n, M)."""
        return torch.addmm(self.bias, self.centred(x), self.encoder.T)

    @property
    def wanted(self) -> float:
        """Active latents of a row that training aims at."""
        assert self.k is not None
        if self.in_stream:  # which is calibrated to k between any two of its parts
            return self.k
        least, most = min(self.k, 1), max(self.k, len(self.atoms) / 2)
        return min(max(self.training_factor * self.k, least), most)

    def _tell_limit(self, wanted: float) -> None:
        """Warn of a factor that asks for less than one latent, or more than all."""
        assert self.k is not None
        asked, n = self.training_factor * self.k, len(self.atoms)
        if not self.in_stream and self.k < n and not min(self.k, 1) <= asked <= n:
            warn(
                f"training_factor={self.training_factor} asks for {asked:g} of {n} "
                f"latents of a row in training: {wanted:g} are taken, because it must "
                "be at least one and at most half of all."
            )

    @torch.no_grad()
    def start_(self, rows: Tensor, mean: Tensor) -> None:
        super().start_(rows, geometric_median(rows))
        self.start_encoder_(rows, rows)

    def start_encoder_(self, x: Tensor, target: Tensor) -> None:
        """Set the sparsity and the scale of the first encoder."""
        wanted = None if self.k is None else self.wanted
        if wanted is not None:
            self._tell_limit(wanted)
        self.calibrate_([x], len(x), wanted=wanted)
        if self.scale_encoder:
            self.scale_encoder_([(x, target)])
            self.calibrate_([x], len(x), wanted=wanted)

    @torch.no_grad()
    def scale_encoder_(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Scale the encoder, so that it rebuilds the targets of some rows best.

        The active atoms of a row are correlated, so the activations of unit rows add up
        to several times the row; a penalty makes them too small. One factor for all of
        them, ``<x, x_hat> / <x_hat, x_hat>``, minimises the squared error.
        """
        along = energy = self.atoms.new_zeros(())
        for x, target in pairs:
            x_hat = self.encode(x).decode(self.atoms)
            along = along + ((target - self.offset(x)) * x_hat).sum()
            energy = energy + x_hat.square().sum()
        if energy > 0:
            # A target may point away from what is rebuilt, but latents turned round
            # would be others.
            scale = along.abs() / energy
            self.encoder.mul_(scale)
            self.encoder_bias.mul_(scale)

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.encoder_bias.mul_(factor)


def nth_largest(parts: Iterable[Tensor], n: int) -> Tensor:
    """The number that exactly ``n`` of all entries exceed, if none are equal.

    It lies half-way between the ``n``-th and the next largest entry.
    """
    pool = None
    for part in parts:
        part = part.flatten() if pool is None else torch.cat([pool, part.flatten()])
        pool = part.topk(min(n + 1, len(part)), sorted=False).values
    assert pool is not None
    if len(pool) <= n:  # all of them are wanted
        return pool.amin() - 1
    last = pool.topk(2, largest=False).values if n else pool.repeat(2)
    return last.mean()
