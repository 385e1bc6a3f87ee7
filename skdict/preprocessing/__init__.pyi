from ._centring import ControlCenterScaler
from ._rowwise import InMemory, RowwiseTransformer
from ._whitening import ControlPCAWhitener

__all__ = [
    "ControlCenterScaler",
    "ControlPCAWhitener",
    "InMemory",
    "RowwiseTransformer",
]
