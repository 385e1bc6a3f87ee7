"""Dictionaries side by side: comparisons, baselines, ablations, layer sweeps."""

from ._ablations import pursuit_ablations, vary
from ._baselines import baseline_dictionaries
from ._comparison import compare_dictionaries
from ._layers import sweep_layers
from ._summary import summary_table

__all__ = [
    "compare_dictionaries",
    "summary_table",
    "baseline_dictionaries",
    "vary",
    "pursuit_ablations",
    "sweep_layers",
]
