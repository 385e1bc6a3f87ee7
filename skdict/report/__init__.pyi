from ._feature_report import FeatureReport

__all__ = ["FeatureReport"]
