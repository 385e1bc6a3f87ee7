"""One file a model: its parameters, its encoder, and what a learning step does."""

from skdict.models.autoencoder import Autoencoder
from skdict.models.dictionary import Clock, Dictionary, Objective, Parameter
from skdict.models.pursuit import PursuitDictionary
from skdict.models.relu import ReLUAutoencoder
from skdict.models.topk import TopKAutoencoder

__all__ = [
    "Autoencoder",
    "Clock",
    "Dictionary",
    "Objective",
    "Parameter",
    "PursuitDictionary",
    "ReLUAutoencoder",
    "TopKAutoencoder",
]
