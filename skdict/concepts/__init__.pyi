from ._decode import decode
from ._edit import ablate, steer
from ._suppressor import FeatureSuppressor

__all__ = [
    "FeatureSuppressor",
    "ablate",
    "decode",
    "steer",
]
