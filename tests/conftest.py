"""Settings that must hold before the test modules are imported."""

import os
import shutil

# scipy reads this once, at its first import; without it scikit-learn refuses
# `array_api_dispatch=True`, which the array-API tests switch on.
os.environ["SCIPY_ARRAY_API"] = "1"

import pytest
from hypothesis import settings

# No deadlines: the first call of a kernel is much slower than the others. Under CI
# the same examples on every run, so that a failure belongs to the change it follows.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# The report is tested in a browser that is on the machine; none is ever downloaded.
BROWSERS = ("chromium", "google-chrome", "chromium-browser")


def find_browser():
    """Path of Chromium or Chrome, or None; `SKDICT_CHROMIUM` names another one."""
    if named := os.environ.get("SKDICT_CHROMIUM"):
        if found := shutil.which(named):
            return found
        raise pytest.UsageError(f"SKDICT_CHROMIUM={named} is not a program.")
    found = (shutil.which(name) for name in BROWSERS)
    return next((path for path in found if path), None)


def pytest_report_header():
    return f"browser: {find_browser() or 'none, so the tests marked so are left out'}"


def pytest_collection_modifyitems(config, items):
    if find_browser():
        return
    needing = [item for item in items if item.get_closest_marker("browser")]
    if needing and os.environ.get("SKDICT_REQUIRE_BROWSER"):
        raise pytest.UsageError(
            f"SKDICT_REQUIRE_BROWSER is set and {len(needing)} tests need a browser, "
            f"but there is none of {', '.join(BROWSERS)}; name one in SKDICT_CHROMIUM."
        )
    config.hook.pytest_deselected(items=needing)
    items[:] = [item for item in items if not item.get_closest_marker("browser")]


@pytest.fixture(scope="session")
def browser_path():
    return find_browser()
