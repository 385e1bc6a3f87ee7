"""Figures for codes, reconstructions and dictionaries; numpy and scipy only."""

from ._association import (
    association_report,
    association_scores,
    rescore_associations,
    variance_explained,
)
from ._binarize import binarize_at_quantiles
from ._describe import describe_features
from ._dictionary import match_dictionaries, mutual_coherence
from ._error_decomposition import decompose_error
from ._heatmaps import (
    direction_cosines,
    heatmap_by_region,
    heatmap_channel_correlations,
    token_heatmaps,
)
from ._ordering import order_atoms
from ._probe import make_linear_probe
from ._ranks import auroc_scores
from ._reconstruction import explained_variance, reconstruction_cosine
from ._selectivity import (
    make_selectivity_scorer,
    selectivity_report,
    selectivity_scores,
)
from ._selectivity_curve import selectivity_curve
from ._selectivity_tests import selectivity_counts, selectivity_tests
from ._spatial import morans_i
from ._stability import match_codes, stability_report
from ._strongest import rank_images, strongest_patches
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
    "token_heatmaps",
    "heatmap_channel_correlations",
    "heatmap_by_region",
    "morans_i",
    "rank_images",
    "strongest_patches",
]
