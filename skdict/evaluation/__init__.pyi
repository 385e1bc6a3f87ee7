from ._ablations import pursuit_ablations, vary
from ._baselines import baseline_dictionaries
from ._comparison import compare_dictionaries
from ._layers import sweep_layers
from ._summary import summary_table

__all__ = [
    "baseline_dictionaries",
    "compare_dictionaries",
    "pursuit_ablations",
    "summary_table",
    "sweep_layers",
    "vary",
]
