"""All features of a dictionary as one HTML page."""

from ._feature_report import FeatureReport

__all__ = ["FeatureReport"]
