from ._heatmaps import heatmap_by_region, heatmap_channel_correlations, token_heatmaps
from ._morans_i import morans_i
from ._strongest import rank_images, strongest_patches

__all__ = [
    "heatmap_by_region",
    "heatmap_channel_correlations",
    "morans_i",
    "rank_images",
    "strongest_patches",
    "token_heatmaps",
]
