"""Figures in scikit-learn's style; matplotlib is imported when one is drawn."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
