"""Sparse dictionary learning for the embeddings of foundation models."""

__version__ = "0.1.0.dev0"
