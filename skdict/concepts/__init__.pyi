from ._decode import decode
from ._edit import ablate, steer
from ._explain import explain_features
from ._importance import (
    concept_importance,
    fidelity,
    important_rows,
    insertion_deletion,
)
from ._learnability import learnability
from ._probe_sets import compare_probe_sets
from ._steering import steering_curve
from ._suppression import suppression_report
from ._suppressor import FeatureSuppressor

__all__ = [
    "FeatureSuppressor",
    "ablate",
    "compare_probe_sets",
    "concept_importance",
    "decode",
    "explain_features",
    "fidelity",
    "important_rows",
    "insertion_deletion",
    "learnability",
    "steer",
    "steering_curve",
    "suppression_report",
]
