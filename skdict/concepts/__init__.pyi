from ._decode import decode
from ._edit import ablate, steer
from ._explain import explain_features
from ._steering import steering_curve
from ._suppression import suppression_report
from ._suppressor import FeatureSuppressor

__all__ = [
    "FeatureSuppressor",
    "ablate",
    "decode",
    "explain_features",
    "steer",
    "steering_curve",
    "suppression_report",
]
