from ._decode import decode
from ._edit import ablate, steer
from ._steering import steering_curve
from ._suppression import suppression_report
from ._suppressor import FeatureSuppressor

__all__ = [
    "FeatureSuppressor",
    "ablate",
    "decode",
    "steer",
    "steering_curve",
    "suppression_report",
]
