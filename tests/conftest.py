"""Settings that must hold before the test modules are imported."""

import gc
import os
import shutil
import sys

# scipy reads this once, at its first import; without it scikit-learn refuses
# `array_api_dispatch=True`, which the array-API tests switch on.
os.environ["SCIPY_ARRAY_API"] = "1"
# One thread for each of the processes that share the machine (pytest-xdist). OpenMP,
# OpenBLAS and torch read this at their first import; so do the processes that tests
# start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from hypothesis import settings

# No deadlines: the first call of a kernel is much slower than the others. Under CI
# the same examples on every run, so that a failure belongs to the change it follows.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# The assertions there say what was compared, as those of the test modules do.
pytest.register_assert_rewrite("oracles")

# The report is tested in a browser that is on the machine; none is ever downloaded.
BROWSERS = ("chromium", "google-chrome", "chromium-browser")

LEFT_OUT = """\
{tests} left out, because this machine has neither Chromium nor Chrome.
{them} the HTML report in a browser; everything else was run.
To run {it} too, install a browser and start again:

    sudo apt install chromium                    on Debian and Ubuntu
    SKDICT_CHROMIUM=/path/to/chrome make test    with a browser that lies elsewhere
"""

browser_key = pytest.StashKey[str | None]()
left_out_key = pytest.StashKey[int]()


def find_browser():
    """Path of Chromium or Chrome, or None; `SKDICT_CHROMIUM` names another one."""
    if named := os.environ.get("SKDICT_CHROMIUM"):
        if found := shutil.which(named):
            return found
        raise pytest.UsageError(f"SKDICT_CHROMIUM={named} is not a program.")
    found = (shutil.which(name) for name in BROWSERS)
    return next((path for path in found if path), None)


def pytest_configure(config):
    config.stash[browser_key] = browser = find_browser()
    config.stash[left_out_key] = 0
    if browser is None and os.environ.get("SKDICT_REQUIRE_BROWSER"):
        raise pytest.UsageError(
            f"SKDICT_REQUIRE_BROWSER is set, but there is none of "
            f"{', '.join(BROWSERS)}; name another browser in SKDICT_CHROMIUM."
        )


def pytest_report_header(config):
    return f"browser: {config.stash[browser_key] or 'none'}"


def pytest_collection_modifyitems(config, items):
    # Files with slow tests come first: a slow test at the end would be waited for by
    # all other processes. Files stay whole, as what their fixtures make is shared.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if config.stash[browser_key] is not None:
        return
    needing = [item for item in items if item.get_closest_marker("browser")]
    config.stash[left_out_key] = len(needing)
    config.hook.pytest_deselected(items=needing)
    items[:] = [item for item in items if not item.get_closest_marker("browser")]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave what is imported out of the search for garbage, from the beginning.

    It stays until the end, and searching it takes half a second each time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


# pytest-xdist: the workers leave out, the process that started them reports.


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[left_out_key]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    # None in a worker that crashed. The others counted the same tests.
    if output := getattr(node, "workeroutput", None):
        node.config.stash[left_out_key] = output["left_out"]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter, config):
    yield  # what follows comes after all other parts of the summary
    if n := config.stash[left_out_key]:
        tests, them, it = (
            ("1 test was", "It looks at", "it")
            if n == 1
            else (f"{n} tests were", "They look at", "them")
        )
        terminalreporter.section("left out", yellow=True)
        terminalreporter.write_line(LEFT_OUT.format(tests=tests, them=them, it=it))


@pytest.fixture(scope="session")
def browser_path(pytestconfig):
    return pytestconfig.stash[browser_key]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def forked_jobs(monkeypatch):
    """With `n_jobs`, joblib starts processes that need not import anything."""
    import joblib
    from processes import forks

    monkeypatch.setattr(joblib.parallel, "DEFAULT_MP_CONTEXT", forks())
    with joblib.parallel_config("multiprocessing"):
        yield


@pytest.fixture(autouse=True)
def close_figures():
    """No test finds a figure that another one, or a doctest, has left open."""
    _close_figures()
    yield
    _close_figures()


def _close_figures():
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
