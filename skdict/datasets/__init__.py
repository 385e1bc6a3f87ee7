"""Sample data."""

from skdict.datasets._planted import make_planted_dictionary

__all__ = ["make_planted_dictionary"]
