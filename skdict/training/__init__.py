"""Training on skorch; nothing outside this subpackage knows of it."""

from .loop import train
from .net import DictionaryNet
from .pursuit_net import PursuitNet
from .topk_net import TopKNet

__all__ = ["DictionaryNet", "PursuitNet", "TopKNet", "train"]
