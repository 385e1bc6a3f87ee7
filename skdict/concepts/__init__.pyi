from ._cache import cached_judge
from ._clusters import cluster_features
from ._decode import decode
from ._edit import ablate, steer
from ._examples import choose_examples
from ._explain import explain_features
from ._importance import (
    concept_importance,
    fidelity,
    important_rows,
    insertion_deletion,
)
from ._learnability import learnability
from ._probe_sets import compare_probe_sets
from ._scores import concept_table, score_explanations
from ._steering import steering_curve
from ._suppression import suppression_report
from ._suppressor import FeatureSuppressor

__all__ = [
    "FeatureSuppressor",
    "ablate",
    "cached_judge",
    "choose_examples",
    "cluster_features",
    "compare_probe_sets",
    "concept_importance",
    "concept_table",
    "decode",
    "explain_features",
    "fidelity",
    "important_rows",
    "insertion_deletion",
    "learnability",
    "score_explanations",
    "steer",
    "steering_curve",
    "suppression_report",
]
