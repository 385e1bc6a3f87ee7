"""Sparse dictionary learning for the embeddings of foundation models."""

from skdict.decomposition import ICFL, Reconstructor, TopKSAE, Truncator
from skdict.evaluation import (
    baseline_dictionaries,
    compare_dictionaries,
    sweep_layers,
)
from skdict.feature_extraction import TokenExtractor
from skdict.metrics import (
    auroc_scores,
    binarize_at_quantiles,
    dead_feature_fraction,
    decompose_error,
    describe_features,
    explained_variance,
    feature_density,
    make_linear_probe,
    make_selectivity_scorer,
    match_codes,
    match_dictionaries,
    mutual_coherence,
    order_atoms,
    reconstruction_cosine,
    selectivity_counts,
    selectivity_report,
    selectivity_scores,
    selectivity_tests,
    split_by_projection,
    stability_report,
    subspace_probes,
)
from skdict.persistence import load, save
from skdict.preprocessing import ControlCenterScaler, ControlPCAWhitener

__version__ = "0.1.0.dev0"

__all__ = [
    "ICFL",
    "ControlCenterScaler",
    "ControlPCAWhitener",
    "Reconstructor",
    "TokenExtractor",
    "TopKSAE",
    "Truncator",
    "auroc_scores",
    "baseline_dictionaries",
    "binarize_at_quantiles",
    "compare_dictionaries",
    "dead_feature_fraction",
    "decompose_error",
    "describe_features",
    "explained_variance",
    "feature_density",
    "load",
    "make_linear_probe",
    "make_selectivity_scorer",
    "match_codes",
    "match_dictionaries",
    "mutual_coherence",
    "order_atoms",
    "reconstruction_cosine",
    "save",
    "selectivity_counts",
    "selectivity_report",
    "selectivity_scores",
    "selectivity_tests",
    "split_by_projection",
    "stability_report",
    "subspace_probes",
    "sweep_layers",
]
