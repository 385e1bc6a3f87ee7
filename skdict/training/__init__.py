"""Training on skorch; nothing outside this subpackage knows of it."""

from skdict.training.net import DictionaryNet
from skdict.training.state import restore, state_of, stream_rule

__all__ = ["DictionaryNet", "restore", "state_of", "stream_rule"]
