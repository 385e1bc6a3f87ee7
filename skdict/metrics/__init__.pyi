from ._association import (
    association_report,
    association_scores,
    eta_squared,
    rescore_associations,
)
from ._auroc import auroc_scores
from ._binarize import binarize_at_quantiles
from ._describe import describe_features
from ._dictionary import match_dictionaries, mean_coherence, mutual_coherence
from ._direction import direction_cosines
from ._error_decomposition import decompose_error
from ._offset import offset_ratio
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
    "association_report",
    "association_scores",
    "auroc_scores",
    "binarize_at_quantiles",
    "dead_feature_fraction",
    "decompose_error",
    "describe_features",
    "direction_cosines",
    "eta_squared",
    "explained_variance",
    "feature_density",
    "make_linear_probe",
    "make_selectivity_scorer",
    "match_codes",
    "match_dictionaries",
    "mean_coherence",
    "mutual_coherence",
    "offset_ratio",
    "order_atoms",
    "reconstruction_cosine",
    "rescore_associations",
    "selectivity_counts",
    "selectivity_curve",
    "selectivity_report",
    "selectivity_scores",
    "selectivity_tests",
    "split_by_projection",
    "stability_report",
    "subspace_probes",
]
