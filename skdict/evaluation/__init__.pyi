from ._ablations import pursuit_ablations, vary
from ._aggregate import aggregate
from ._baselines import baseline_dictionaries
from ._beats import beats_baselines
from ._comparison import compare_dictionaries
from ._discovery import discovery_yield
from ._layers import sweep_layers, sweep_models
from ._prefixes import prefix_report
from ._relationships import relationship_recall
from ._retrieval import replicate_retrieval
from ._sparse_probing import sparse_probing
from ._summary import summary_table
from ._supervised import SupervisedDictionary
from ._with_supervised import compare_with_supervised

__all__ = [
    "SupervisedDictionary",
    "aggregate",
    "baseline_dictionaries",
    "beats_baselines",
    "compare_dictionaries",
    "compare_with_supervised",
    "discovery_yield",
    "prefix_report",
    "pursuit_ablations",
    "relationship_recall",
    "replicate_retrieval",
    "sparse_probing",
    "summary_table",
    "sweep_layers",
    "sweep_models",
    "vary",
]
