"""Sparse dictionary learning for the embeddings of foundation models."""

from skdict.feature_extraction import TokenExtractor

__version__ = "0.1.0.dev0"

__all__ = ["TokenExtractor"]
