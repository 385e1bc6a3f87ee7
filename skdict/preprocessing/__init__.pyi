from ._centring import ControlCenterScaler
from ._whitening import ControlPCAWhitener

__all__ = ["ControlCenterScaler", "ControlPCAWhitener"]
