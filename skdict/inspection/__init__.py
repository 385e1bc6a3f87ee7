"""Figures in scikit-learn's style; matplotlib is imported when one is drawn."""

from ._gallery import GalleryDisplay
from ._heatmap import HeatmapDisplay
from ._selectivity_cdf import SelectivityCDFDisplay
from ._selectivity_curve import SelectivityCurveDisplay

__all__ = [
    "SelectivityCurveDisplay",
    "SelectivityCDFDisplay",
    "HeatmapDisplay",
    "GalleryDisplay",
]
