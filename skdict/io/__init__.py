"""Profiles from the tables that users have, and codes to where they look at them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
