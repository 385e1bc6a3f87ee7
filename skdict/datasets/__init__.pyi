from ._elpv import load_elpv_tokens
from ._nuclei import load_nuclei
from ._planted import make_planted_dictionary
from ._screen import make_planted_screen
from ._tissue import load_tissue_tokens

__all__ = [
    "load_elpv_tokens",
    "load_nuclei",
    "load_tissue_tokens",
    "make_planted_dictionary",
    "make_planted_screen",
]
