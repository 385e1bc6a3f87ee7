"""Figures for codes, reconstructions and dictionaries; numpy and scipy only."""

from ._association import (
    association_report,
    association_scores,
    rescore_associations,
    variance_explained,
)
from ._auroc import auroc_scores
from ._binarize import binarize_at_quantiles
from ._describe import describe_features
from ._dictionary import match_dictionaries, mutual_coherence
from ._direction import direction_cosines
from ._error_decomposition import decompose_error
from ._ordering import order_atoms
from ._probe import make_linear_probe
from ._reconstruction import explained_variance, reconstruction_cosine
from ._selectivity import (
    make_selectivity_scorer,
    selectivity_report,
    selectivity_scores,
)
from ._selectivity_curve import selectivity_curve
from ._selectivity_tests import selectivity_counts, selectivity_tests
from ._stability import match_codes, stability_report
from ._subspaces import split_by_projection, subspace_probes
from ._usage import dead_feature_fraction, feature_density

__all__ = [
    "selectivity_scores",
    "selectivity_report",
    "make_selectivity_scorer",
    "selectivity_curve",
    "selectivity_counts",
    "selectivity_tests",
    "auroc_scores",
    "binarize_at_quantiles",
    "describe_features",
    "association_report",
    "association_scores",
    "rescore_associations",
    "variance_explained",
    "reconstruction_cosine",
    "explained_variance",
    "decompose_error",
    "feature_density",
    "dead_feature_fraction",
    "mutual_coherence",
    "match_dictionaries",
    "match_codes",
    "stability_report",
    "order_atoms",
    "make_linear_probe",
    "split_by_projection",
    "subspace_probes",
    "direction_cosines",
]
