"""The report of a dictionary's features as one HTML page."""

from ._feature_report import FeatureReport

__all__ = ["FeatureReport"]
