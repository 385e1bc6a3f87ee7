"""Settings that must hold before the test modules are imported."""

import os

# scipy reads this once, at its first import; without it scikit-learn refuses
# `array_api_dispatch=True`, which the array-API tests switch on.
os.environ["SCIPY_ARRAY_API"] = "1"

from hypothesis import settings

# No deadlines: the first call of a kernel is much slower than the others. Under CI
# the same examples on every run, so that a failure belongs to the change it follows.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
