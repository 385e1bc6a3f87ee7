from ._anndata import from_anndata, to_anndata
from ._profiles import Profiles, read_profiles

__all__ = ["Profiles", "from_anndata", "read_profiles", "to_anndata"]
