from ._anndata import from_anndata, to_anndata
from ._codes import read_codes, write_codes
from ._profiles import Profiles, read_profiles

__all__ = [
    "Profiles",
    "from_anndata",
    "read_codes",
    "read_profiles",
    "to_anndata",
    "write_codes",
]
