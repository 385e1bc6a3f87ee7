from ._tokens import TokenExtractor

__all__ = ["TokenExtractor"]
