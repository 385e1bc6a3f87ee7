"""All dictionaries: the tests, the guide's table and the checks take theirs from here.

A new dictionary is a file in ``skdict/models``, a file here, a line in the registry,
and its name among the exports.
"""

from __future__ import annotations

from typing import NamedTuple

from skdict.decomposition._base import DictionaryEstimator
from skdict.decomposition._icfl import ICFL
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
    Entry(SAE, "linear, ReLU", "any number, k in the mean", "Bricken et al. 2023"),
)
