"""One file a model: its parameters, its encoder, and what a learning step does."""

from skdict.models.archetypal import ArchetypalAutoencoder
from skdict.models.autoencoder import Autoencoder
from skdict.models.batch_topk import BatchTopKAutoencoder
from skdict.models.codebook import CodebookModel
from skdict.models.dictionary import Clock, Dictionary, Objective, Parameter
from skdict.models.fixed_code import FixedCodeDictionary
from skdict.models.gated import GatedAutoencoder
from skdict.models.jump import JumpReLUAutoencoder
from skdict.models.ksvd import KSVDDictionary
from skdict.models.matching_pursuit import MatchingPursuit
from skdict.models.matryoshka import MatryoshkaAutoencoder
from skdict.models.penalised import PenalisedAutoencoder
from skdict.models.pursuit import PursuitDictionary
from skdict.models.relu import ReLUAutoencoder
from skdict.models.topk import TopKAutoencoder
from skdict.models.transcoder import Transcoder, transcoder

__all__ = [
    "ArchetypalAutoencoder",
    "Autoencoder",
    "BatchTopKAutoencoder",
    "Clock",
    "CodebookModel",
    "Dictionary",
    "FixedCodeDictionary",
    "GatedAutoencoder",
    "JumpReLUAutoencoder",
    "KSVDDictionary",
    "MatchingPursuit",
    "MatryoshkaAutoencoder",
    "Objective",
    "Parameter",
    "PenalisedAutoencoder",
    "PursuitDictionary",
    "ReLUAutoencoder",
    "TopKAutoencoder",
    "Transcoder",
    "transcoder",
]
