"""Sparse dictionary learning for the embeddings of foundation models."""

import lazy_loader as lazy

from skdict._utils.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
