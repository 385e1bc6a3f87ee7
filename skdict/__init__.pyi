from . import (
    datasets,
    decomposition,
    evaluation,
    feature_extraction,
    images,
    inspection,
    metrics,
    ops,
    persistence,
    preprocessing,
    report,
)
from .decomposition import ICFL, SAE, Reconstructor, TopKSAE, Truncator
from .feature_extraction import TokenExtractor
from .persistence import load, save
from .preprocessing import ControlCenterScaler, ControlPCAWhitener

__all__ = [
    "ICFL",
    "SAE",
    "ControlCenterScaler",
    "ControlPCAWhitener",
    "Reconstructor",
    "TokenExtractor",
    "TopKSAE",
    "Truncator",
    "datasets",
    "decomposition",
    "evaluation",
    "feature_extraction",
    "images",
    "inspection",
    "load",
    "metrics",
    "ops",
    "persistence",
    "preprocessing",
    "report",
    "save",
]

__version__: str
