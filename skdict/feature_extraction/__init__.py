"""Embeddings from the layers of foundation models."""

from skdict.feature_extraction._tokens import TokenExtractor

__all__ = ["TokenExtractor"]
