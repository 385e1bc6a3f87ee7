"""Sample data."""

from skdict.datasets._elpv import load_elpv_tokens
from skdict.datasets._nuclei import load_nuclei
from skdict.datasets._planted import make_planted_dictionary
from skdict.datasets._tissue import load_tissue_tokens

__all__ = [
    "load_elpv_tokens",
    "load_nuclei",
    "load_tissue_tokens",
    "make_planted_dictionary",
]
