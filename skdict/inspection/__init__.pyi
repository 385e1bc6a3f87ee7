from ._atom_similarity import AtomSimilarityDisplay
from ._comparison import ComparisonDisplay
from ._concept_importance import ConceptImportanceDisplay
from ._density import DensityDisplay
from ._direction_histogram import DirectionHistogramDisplay
from ._gallery import GalleryDisplay
from ._heatmap import HeatmapDisplay
from ._selectivity_cdf import SelectivityCDFDisplay
from ._selectivity_curve import SelectivityCurveDisplay
from ._sparse_probing import SparseProbingDisplay
from ._sparsity_curve import SparsityCurveDisplay
from ._steering_curve import SteeringCurveDisplay
from ._suppression import SuppressionDisplay
from ._training_history import TrainingHistoryDisplay

__all__ = [
    "AtomSimilarityDisplay",
    "ComparisonDisplay",
    "ConceptImportanceDisplay",
    "DensityDisplay",
    "DirectionHistogramDisplay",
    "GalleryDisplay",
    "HeatmapDisplay",
    "SelectivityCDFDisplay",
    "SelectivityCurveDisplay",
    "SparseProbingDisplay",
    "SparsityCurveDisplay",
    "SteeringCurveDisplay",
    "SuppressionDisplay",
    "TrainingHistoryDisplay",
]
