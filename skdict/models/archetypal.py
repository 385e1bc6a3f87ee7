"""A TopK autoencoder whose atoms point into the convex hull of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from skdict._utils.fitted import Array
from skdict.models.autoencoder import Autoencoder
from skdict.models.dictionary import Objective, Parameter
from skdict.models.topk import TopKAutoencoder

# Softness with which a first atom is mixed from the archetypes that it resembles.
_TEMPERATURE = 0.05
# Distance from the centre at which a first atom lies at least, before it is relaxed.
_LEAST = 0.01


class ArchetypalAutoencoder(TopKAutoencoder):
    """``atoms = unit(mixture @ archetypes + relaxation)``.

    The rows of the mixture are weights that add up to one, the archetypes are centres
    of clusters of the rows, and no row of the relaxation is longer than ``delta``.

    Parameters
    ----------
    atoms, k, scale_encoder, autocast, auxiliary_weight, dead_after
        As in :class:`TopKAutoencoder`.
    n_archetypes : int or None
        Clusters of the rows, at most as many as there are rows to start with. None: as
        many as atoms.
    delta : float
        Largest norm of a relaxation, for rows that spread 1 around their centre.
    """

    fitted = {
        **Autoencoder.fitted,
        "archetypes": Parameter("archetypes_", Array(("n_archetypes", "n_features"))),
        "mixture": Parameter(
            "mixture_", Array(("n_components", "n_archetypes"), low=0)
        ),
        "relaxation": Parameter("relaxation_", Array(("n_components", "n_features"))),
    }

    def __init__(
        self,
        atoms: Tensor,
        k: int,
        *,
        n_archetypes: int | None,
        delta: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(atoms, k, **kwargs)
        self.n_archetypes = n_archetypes
        self.delta = delta
        empty = atoms.new_zeros(0, atoms.shape[1])
        self.archetypes = nn.Parameter(empty, requires_grad=False)
        self.mixture = nn.Parameter(atoms.new_zeros(len(atoms), 0))
        self.relaxation = nn.Parameter(torch.zeros_like(atoms))

    @torch.no_grad()
    def start_(self, rows: Tensor, mean: Tensor) -> None:
        n_clusters = min(self.n_archetypes or len(self.atoms), len(rows))
        k_means = MiniBatchKMeans(n_clusters, n_init=1, random_state=0)
        centred = (rows - mean).cpu().numpy()
        centres = torch.from_numpy(k_means.fit(centred).cluster_centers_)
        self.archetypes.data = centres.to(self.atoms)
        likeness = F.normalize(self.archetypes) @ self.atoms.T
        self.mixture.data = (likeness.T / _TEMPERATURE).softmax(1)
        hull = self.mixture @ self.archetypes
        along = (hull * self.atoms).sum(1, keepdim=True)
        self.relaxation.copy_(along.clamp(min=_LEAST) * self.atoms - hull)
        self.project_()
        if self.scale_encoder:
            self.encoder.copy_(self.atoms)
        super().start_(rows, mean)

    @torch.no_grad()
    def precondition_(self, objective: Objective) -> None:
        """Hand the atoms' gradient on to what they are made from."""
        super().precondition_(objective)
        points = self.mixture @ self.archetypes + self.relaxation
        gradient = self.atoms.grad / points.norm(dim=1, keepdim=True)
        self.relaxation.grad = gradient
        self.mixture.grad = gradient @ self.archetypes.T
        self.atoms.grad = None

    @torch.no_grad()
    def project_(self) -> None:
        """Keep the constraints, and make the atoms anew."""
        weights = self.mixture.relu()
        total = weights.sum(1, keepdim=True)
        even = 1 / weights.shape[1]
        self.mixture.copy_(torch.where(total > 0, weights / total, even))
        norms = self.relaxation.norm(dim=1, keepdim=True)
        norms = norms.clamp(min=torch.finfo(norms.dtype).tiny)
        self.relaxation.mul_((self.delta / norms).clamp(max=1))
        points = self.mixture @ self.archetypes + self.relaxation
        norms = points.norm(dim=1, keepdim=True)
        self.atoms.copy_(torch.where(norms > 0, points / norms, self.atoms))

    def atoms_state(self) -> dict[str, Tensor]:
        made_from = {"mixture": self.mixture, "relaxation": self.relaxation}
        copies = {name: value.detach().clone() for name, value in made_from.items()}
        return super().atoms_state() | copies

    @torch.no_grad()
    def hold_atoms_(self, start: Mapping[str, Tensor], min_cosine: float) -> None:
        """Move what the atoms are made from towards the start, on a straight line.

        The constraints are convex, so that all points on the line keep them.
        """
        first = start["mixture"] @ self.archetypes + start["relaxation"]
        points = self.mixture @ self.archetypes + self.relaxation
        axes = F.normalize(first)
        along = (points * axes).sum(1, keepdim=True)
        across = (points - along * axes).norm(dim=1, keepdim=True)
        tangent = (1 - min_cosine**2) ** 0.5 / min_cosine
        # At the fraction t of the way, the part across is (1 - t) across and the part
        # along is (1 - t) along + t |first|. Their ratio is to be the tangent.
        beyond = across - tangent * along
        way = beyond / (beyond + tangent * first.norm(dim=1, keepdim=True))
        way = torch.where(beyond > 0, way, 0.0)
        self.mixture.lerp_(start["mixture"], way)
        self.relaxation.lerp_(start["relaxation"], way)
        if min_cosine == 1:
            self.atoms.copy_(start["atoms"])
        else:
            points = self.mixture @ self.archetypes + self.relaxation
            self.atoms.copy_(torch.where(beyond > 0, F.normalize(points), self.atoms))

    @torch.no_grad()
    def rescale_(self, factor: float) -> None:
        super().rescale_(factor)
        self.archetypes.mul_(factor)
        self.relaxation.mul_(factor)
