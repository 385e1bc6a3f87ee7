"""Transformers that prepare embeddings for dictionary learning."""

from skdict.preprocessing._centring import ControlCenterScaler
from skdict.preprocessing._whitening import ControlPCAWhitener

__all__ = ["ControlCenterScaler", "ControlPCAWhitener"]
