"""The house: an import points to a lower floor only.

The imports are read from the source (AST), also those inside functions and under
``TYPE_CHECKING``, so nothing has to be importable for the rules to be checked.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skdict"

# Every part of the package, a subpackage or a module, stands on one floor. A new part
# is an error until it has been given its floor here and in CONTRIBUTING.md.
FLOORS = {
    "skdict._utils": 0,
    "skdict.ops": 0,
    "skdict._guards": 0,
    "skdict._ranks": 0,
    "skdict.models": 1,
    "skdict.rows": 1,
    "skdict.stats": 2,
    "skdict.training": 2,
    "skdict.preprocessing": 3,
    "skdict.feature_extraction": 3,
    "skdict.decomposition": 3,
    "skdict.metrics": 3,
    "skdict.images": 3,
    "skdict.inspection": 4,
    "skdict.datasets": 4,
    "skdict.evaluation": 4,
    "skdict.concepts": 4,
    "skdict.interchange": 4,
    "skdict.io": 4,
    "skdict.persistence": 5,
    "skdict.report": 5,
    "skdict": 6,  # public names only
}
ONLY_IN = {"skorch": "skdict.training", "skops": "skdict.persistence"}
NEVER_IN = {
    ("skdict.ops", "sklearn"),
    ("skdict._guards", "sklearn"),
    ("skdict.stats", "torch"),
    ("skdict.images", "torch"),
    ("skdict._utils", "torch"),
    ("skdict.metrics", "torch"),
    ("skdict.io", "torch"),
}
# Private names of other packages may change in any release; one module knows them.
PRIVATE_NAMES_IN = "skdict._utils.sklearn_private"

IMPORT_NAMES = {"scikit-learn": "sklearn", "scikit-image": "skimage"}


def declared_packages() -> tuple[set[str], set[str]]:
    """Import names of the dependencies in pyproject.toml: (always, in an extra)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        distributions = [re.match(r"[\w.-]+", text)[0] for text in requirements]
        return {IMPORT_NAMES.get(d, d.replace("-", "_")) for d in distributions}

    extras = project["optional-dependencies"]
    tools = ("dev", "docs", "bench")
    optional = [r for e in extras if e not in tools for r in extras[e]]
    # Not installed by any extra; met where the caller already has them.
    interoperable = {"polars", "anndata"}
    return names(project["dependencies"]), names(optional) | interoperable


CORE, OPTIONAL = declared_packages()


class Import(NamedTuple):
    name: str
    line: int
    at_import_time: bool


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    n_dropped = node.level - is_package
    base = parents[: len(parents) - n_dropped]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    def visit(node: ast.AST, executed: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, executed)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            for alias in node.names:
                # `from skdict import ops` means skdict.ops, not the public names.
                yield Import(f"{base}.{alias.name}", node.lineno, executed)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__") and node.args:
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    yield Import(str(argument.value), node.lineno, executed)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            executed = False
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, executed)
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, executed)

    yield from visit(ast.parse(source), True)


def _is_private(name: str) -> bool:
    """Whether a dotted name has a private part; dunders such as __version__ do not."""
    parts = name.split(".")[1:]
    return any(p.startswith("_") and not p.startswith("__") for p in parts)


def part_of(name: str) -> str:
    """The part of the house to which a dotted name belongs."""
    two = ".".join(name.split(".")[:2])
    return two if two in FLOORS else "skdict"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What the imports in `source`, the text of `module`, do against the rules."""
    part = ".".join(module.split(".")[:2])
    if part not in FLOORS:
        return [f"{module}: has no floor; give it one in tests/test_layering.py"]

    found = []
    for name, line, at_import_time in imports_of(source, module, is_package):
        where = f"{module}:{line}: imports {name}"
        top = name.split(".")[0]
        if top == "skdict":
            target = part_of(name)
            if target != part and FLOORS[target] >= FLOORS[part]:
                found.append(
                    f"{where}: from floor {FLOORS[part]} to floor {FLOORS[target]}"
                )
            elif target != part and _is_private(name.removeprefix("skdict.")):
                found.append(f"{where}: private to {target}")
            continue
        if top in ONLY_IN and part != ONLY_IN[top]:
            found.append(f"{where}: only {ONLY_IN[top]} may")
        if (part, top) in NEVER_IN:
            found.append(f"{where}: {part} does without {top}")
        if top in sys.stdlib_module_names:
            continue
        if _is_private(name) and module != PRIVATE_NAMES_IN:
            found.append(f"{where}: a private name; only {PRIVATE_NAMES_IN} may")
        if top in CORE:
            continue
        if top not in OPTIONAL:
            found.append(f"{where}: not declared in pyproject.toml")
        elif at_import_time:
            found.append(f"{where}: optional packages are imported inside functions")
    return found


def _modules() -> list[tuple[Path, str, bool]]:
    modules = []
    # The public names of lazy packages stand in stubs.
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        modules.append(
            (path, ".".join(parts[:-1] if is_package else parts), is_package)
        )
    return modules


@pytest.mark.parametrize(
    ("path", "module", "is_package"), [pytest.param(*m, id=m[1]) for m in _modules()]
)
def test_imports_point_to_lower_floors(path, module, is_package):
    assert violations(path.read_text(), module, is_package) == []


def test_modules_are_found():
    names = {module for _, module, _ in _modules()}
    assert {"skdict", "skdict.ops", "skdict.training", "skdict.metrics"} <= names


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("skdict.ops.topk", "import sklearn", "without sklearn"),
        ("skdict.ops.topk", "def f():\n    import skorch", "only skdict.training"),
        ("skdict.ops.topk", "from sklearn.utils import check_array", "without"),
        ("skdict.ops.topk", "from skdict.training import net", "to floor 2"),
        ("skdict.ops.topk", "from ..models import Dictionary", "to floor 1"),
        ("skdict.ops.topk", "from .. import models", "to floor 1"),
        ("skdict.models", "from skdict import rows", "to floor 1"),
        ("skdict.models", "from skdict import TopKSAE", "to floor 6"),
        ("skdict.models", "import skdict", "to floor 6"),
        ("skdict.training.net", "import skdict.decomposition._icfl", "to floor 3"),
        ("skdict.decomposition._icfl", "import skorch", "only skdict.training"),
        ("skdict.decomposition._icfl", "from skorch import NeuralNet", "only"),
        ("skdict.decomposition._icfl", "from skdict.metrics import x", "to floor 3"),
        ("skdict.decomposition._icfl", "import skops.io", "only skdict.persistence"),
        ("skdict._guards", "import sklearn", "without sklearn"),
        ("skdict._utils.labels", "import torch", "without torch"),
        ("skdict._utils.labels", "from skdict import ops", "to floor 0"),
        ("skdict.metrics._selectivity", "import torch", "without torch"),
        ("skdict.metrics._selectivity", "def f():\n    import torch.nn", "without"),
        ("skdict.metrics._selectivity", "import polars as pl", "inside functions"),
        ("skdict.metrics", "try:\n    import polars\nexcept E:\n    pass", "inside"),
        ("skdict.inspection._plot", "import matplotlib.pyplot as plt", "inside"),
        ("skdict.inspection._plot", "class A:\n    import matplotlib", "inside"),
        ("skdict.inspection._plot", "def f():\n    import seaborn", "not declared"),
        ("skdict.persistence", "from skdict.report import page", "to floor 5"),
        ("skdict.rows", "import importlib\nimportlib.import_module('skorch')", "only"),
        ("skdict.rows", "__import__('skdict.training')", "to floor 2"),
        ("skdict", "import matplotlib", "inside functions"),
        ("skdict.metrics._auroc", "from sklearn.base import _fit_context", "private"),
        ("skdict._utils.checks", "import sklearn.utils._array_api", "private"),
        ("skdict.ops.topk", "def f():\n    from torch._dynamo import a", "private"),
        ("skdict.report._page", "import skdict.inspection._style", "private to"),
        ("skdict.report", "from skdict.metrics._auroc import f", "private to"),
        ("skdict.report", "from skdict.stats.ranks import _f", "private to"),
        ("skdict.report._page", "from ..metrics import _auroc", "private to"),
        ("skdict.attic", "import numpy", "has no floor"),
        ("skdict.attic.box", "", "has no floor"),
    ],
)
def test_violations_are_seen(module, source, complaint):
    found = violations(source, module)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("skdict.ops.topk", "import torch\nfrom .slots import SlotCode"),
        ("skdict._utils.checks", "from sklearn.utils import check_array"),
        ("skdict._utils.sklearn_private", "from sklearn.base import _fit_context"),
        ("skdict.persistence", "from sklearn import __version__"),
        ("skdict.persistence", "from os import _exit"),
        ("skdict.models", "from skdict import ops\nfrom skdict.ops import topk"),
        ("skdict.training.net", "import skorch\nfrom ..models import Dictionary"),
        ("skdict.decomposition._icfl", "from ._base import Base\nimport torch"),
        ("skdict.decomposition._icfl", "from skdict.training import net"),
        ("skdict.metrics._selectivity", "def f():\n    import polars"),
        ("skdict.inspection._plot", "def f():\n    import matplotlib.pyplot"),
        (
            "skdict.inspection._plot",
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    import matplotlib",
        ),
        (
            "skdict.persistence",
            "import skops.io\nfrom skdict.decomposition import ICFL",
        ),
    ],
)
def test_lawful_imports_pass(module, source):
    assert violations(source, module) == []


def test_relative_imports_in_a_package_are_resolved():
    assert violations("from .net import fit", "skdict.training", True) == []
    (found,) = violations("from ..metrics import x", "skdict.training", True)
    assert "skdict.metrics.x" in found


def test_importing_skdict_loads_no_optional_package():
    """The rules above read the text; this one looks at what really gets loaded."""
    script = (
        # pandas imports pyarrow where it is installed.
        "import pkgutil, sys, importlib, pandas\n"
        "before = set(sys.modules)\n"
        "import skdict\n"
        "for m in pkgutil.walk_packages(skdict.__path__, 'skdict.'):\n"
        "    importlib.import_module(m.name)\n"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.split())
    assert "skdict" in loaded
    # pandas imports pyarrow by itself wherever it is installed.
    assert loaded.isdisjoint(OPTIONAL - {"skdict", "pyarrow"})
