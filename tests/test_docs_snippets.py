"""The Python of the documents runs, and the names in them exist.

A block that cannot run here is preceded by an HTML comment that says why::

    <!-- not run: the model would be downloaded -->
"""

import copy
import functools
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

import skdict
from skdict import ICFL, ControlPCAWhitener

ROOT = Path(__file__).parents[1]
DOCS = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if not path.is_relative_to(ROOT / "docs" / "auto_examples")
    and not path.is_relative_to(ROOT / "docs" / "_build")
)
PAGES = [ROOT / "README.md", *DOCS]
# The guide's first page, which runs before the page on images.
GUIDE = ROOT / "docs" / "user_guide" / "index.md"
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```python\n(?P<code>.*?)^```$",
    re.M | re.S,
)
# Subpackages whose names are documented as skdict.X where skdict has them.
AT_THE_TOP = ("concepts", "decomposition", "feature_extraction", "persistence")
AT_THE_TOP += ("preprocessing",)
BELOW = (
    "datasets",
    "evaluation",
    "images",
    "inspection",
    "interchange",
    "io",
    "metrics",
    "ops",
    "report",
    "training",
)


def read_blocks(path):
    """The blocks that run, each below as many empty lines as lie above it."""
    text = path.read_text()
    matches = list(BLOCK.finditer(text))
    assert len(matches) == len(re.findall("^```python", text, re.M)), "unclosed block"
    return [
        "\n" * text[: match.start("code")].count("\n") + match["code"]
        for match in matches
        if match["reason"] is None
    ]


def guide_names():
    """What the user guide's first page explains, for a page that may change it."""
    return copy.deepcopy(_guide_names())


@functools.cache
def _guide_names():
    """Small arrays under the names of the user guide's first page."""
    rng = np.random.default_rng(0)
    n_samples, n_features = 480, 12
    y = np.tile(np.repeat(["untreated", "A", "B"], 8), 20)
    batch = np.repeat(["day 1", "day 2", "day 3", "day 4"], 120)
    directions = {label: rng.normal(size=n_features) for label in np.unique(y)}
    directions["untreated"] = np.zeros(n_features)
    X = rng.normal(size=(n_samples, n_features)) + [2 * directions[i] for i in y]
    X, control = X.astype(np.float32), y == "untreated"
    pipe = make_pipeline(ControlPCAWhitener(), Normalizer(), ICFL(48, 4))
    pipe.fit(X, controlpcawhitener__control=control)
    codes = pipe.transform(X)
    counts = rng.poisson(5, n_samples)
    return {
        "X": X,
        "y": y,
        "control": control,
        "batch": batch,
        "groups": np.repeat(np.arange(60), 8),
        "pipe": pipe,
        "codes": codes,
        # The page on associations says what these are.
        "cell_counts": counts,
        "slide": batch,
        "scanner": np.repeat(["a", "b"], 240),
        "other_codes": codes[::2],
        "other_counts": counts[::2],
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the files that the documents read."""
    names = guide_names()
    np.save(tmp_path / "embeddings.npy", names["X"])
    np.save(tmp_path / "labels.npy", names["y"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    yield tmp_path
    plt.close("all")


def run(path, namespace):
    for block in read_blocks(path):
        exec(compile(block, str(path.relative_to(ROOT)), "exec"), namespace)
    return namespace


@pytest.mark.slow
# scikit-learn's, of a dictionary with more atoms than this test has rows.
@pytest.mark.filterwarnings("ignore:Orthogonal matching pursuit ended prematurely")
@pytest.mark.parametrize(
    "path",
    [path for path in DOCS if read_blocks(path) and path != GUIDE],
    ids=lambda path: str(path.relative_to(ROOT / "docs")),
)
def test_blocks_run(path, folder, capsys):
    if path.name == "images.md":  # the only page that needs what the first one makes
        namespace = run(GUIDE, {})
    elif path.parent == GUIDE.parent:
        namespace = guide_names()
    else:
        namespace = {}
    with config_context():  # pages may switch on metadata routing
        run(path, namespace)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_exist(path):
    text = path.read_text()
    for name in re.findall(r"`~?(skdict(?:\.\w+)+)", text):
        resolve(name)
    # Other blocks of code that look like Python would go untested.
    assert not re.search(r"^```(?:py|ipython|pycon)$", text, re.M)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_references_point_at_the_documented_name(path):
    documented = {
        f"skdict.{name}" if name in skdict.__all__ else f"skdict.{package}.{name}"
        for package in AT_THE_TOP
        for name in importlib.import_module(f"skdict.{package}").__all__
    } | {
        f"skdict.{package}.{name}"
        for package in BELOW
        for name in importlib.import_module(f"skdict.{package}").__all__
    }
    roles = r"\{(class|func|meth|mod)\}`~?(?:[^`<]*<)?(skdict[\w.]*)>?`"
    for role, name in re.findall(roles, path.read_text()):
        if role == "meth":
            assert callable(resolve(name))
            name = name.rpartition(".")[0]
        assert name in documented, f"{role} {name}"


def resolve(name):
    """The object of a dotted name, importing modules on the way."""
    found = skdict
    for i, part in enumerate(name.split(".")[1:], 2):
        if not hasattr(found, part):
            module = ".".join(name.split(".")[:i])
            found = importlib.import_module(module)
        else:
            found = getattr(found, part)
    return found
