"""All dictionaries: the tests, the guide's table and the checks take theirs from here.

:class:`Transcoder` is not among them, because it is fitted to pairs of rows and
targets; tests/test_transcoder.py has its tests.

A new dictionary is a file in ``skdict/models``, a file here, a line in the registry,
and its name among the exports.
"""

from __future__ import annotations

from typing import NamedTuple

from skdict.decomposition._archetypal_sae import ArchetypalSAE
from skdict.decomposition._base import DictionaryEstimator
from skdict.decomposition._batch_topk_sae import BatchTopKSAE
from skdict.decomposition._codebook import Codebook
from skdict.decomposition._gated_sae import GatedSAE
from skdict.decomposition._icfl import ICFL
from skdict.decomposition._jump_relu_sae import JumpReLUSAE
from skdict.decomposition._ksvd import KSVD
from skdict.decomposition._matching_pursuit_sae import MatchingPursuitSAE
from skdict.decomposition._matryoshka_sae import MatryoshkaSAE
from skdict.decomposition._sae import SAE
from skdict.decomposition._topk_sae import TopKSAE


class Entry(NamedTuple):
    """A dictionary, and what the guide's table says of it.

    Attributes
    ----------
    estimator : type
        The public class.
    encoder : str
        How a row becomes a code.
    non_zeros : str
        How many there are in a code.
    source : str
        Where it was published.
    """

    estimator: type[DictionaryEstimator]
    encoder: str
    non_zeros: str
    source: str


DICTIONARIES = (
    Entry(ICFL, "batched pursuit", "at most k", "Donhauser et al. 2025"),
    Entry(TopKSAE, "linear, ReLU, k largest", "at most k", "Gao et al. 2024"),
    Entry(
        BatchTopKSAE,
        "linear, ReLU, one threshold",
        "k in the mean",
        "Bussmann et al. 2024",
    ),
    Entry(
        MatryoshkaSAE,
        "as BatchTopKSAE, nested atoms",
        "k in the mean",
        "Bussmann et al. 2025",
    ),
    Entry(
        JumpReLUSAE,
        "linear, a threshold for each latent",
        "any number, k in the mean",
        "Rajamanoharan et al. 2024",
    ),
    Entry(
        GatedSAE,
        "linear, gate and magnitude",
        "any number, k in the mean",
        "Rajamanoharan et al. 2024",
    ),
    Entry(SAE, "linear, ReLU", "any number, k in the mean", "Bricken et al. 2023"),
    Entry(
        ArchetypalSAE,
        "as TopKSAE, atoms in the hull of the rows",
        "at most k",
        "Fel et al. 2025",
    ),
    Entry(MatchingPursuitSAE, "matching pursuit", "at most k", "Costa et al. 2025"),
    Entry(KSVD, "orthogonal matching pursuit", "at most k", "Aharon et al. 2006"),
    Entry(Codebook, "nearest code vectors", "k ones", "Tamkin et al. 2023"),
)
