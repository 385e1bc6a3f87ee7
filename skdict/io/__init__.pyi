from ._profiles import Profiles, read_profiles

__all__ = ["Profiles", "read_profiles"]
