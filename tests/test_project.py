"""Files of the project that must agree with each other."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import skdict

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(
    re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
)

STUBS = sorted((ROOT / "skdict").rglob("__init__.pyi"))


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned():
    requirements = list(PROJECT["dependencies"])
    for extra in ("plot", "demo", "dev", "docs"):
        requirements += PROJECT["optional-dependencies"][extra]
    names = {normalised(re.match(r"[\w.-]+", r)[0]) for r in requirements} - {"skdict"}
    assert len(names) > 10
    assert names - {normalised(name) for name in CONSTRAINTS} == set()


def test_benchmarked_libraries_are_pinned_apart():
    text = (ROOT / "constraints-bench.txt").read_text()
    pins = {normalised(name) for name in re.findall(r"^([\w.-]+)==\S+$", text, re.M)}
    requirements = PROJECT["optional-dependencies"]["bench"]
    names = {normalised(re.match(r"[\w.-]+", r)[0]) for r in requirements} - {"skdict"}
    assert len(names) > 3
    assert names <= pins
    assert not pins & {normalised(name) for name in CONSTRAINTS}
    assert "+" not in "".join(re.findall(r"^\w.*$", text, re.M))


def test_cells_differ_from_the_other_constraints_in_pillow_only():
    text = (ROOT / "constraints-cells.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.M))
    assert {"cp_measure", "stardist", "torch"} <= set(pins)
    assert len(pins) == len(re.findall(r"^[^#\n]", text, re.M))
    shared = set(pins) & set(CONSTRAINTS)
    assert {p for p in shared if pins[p] != CONSTRAINTS[p]} == {"pillow"}
    assert "+" not in "".join(pins.values())


def test_constraints_hold_exact_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) == len(CONSTRAINTS)
    # A local part such as +cpu exists on one index only.
    assert not any("+" in version for version in CONSTRAINTS.values())


def test_makefile_and_constraints_name_the_same_torch():
    (version,) = re.findall(r"^TORCH := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert version == CONSTRAINTS["torch"]


def test_pre_commit_and_constraints_name_the_same_ruff():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert set(re.findall(r"ruff==([\d.]+)", text)) == {CONSTRAINTS["ruff"]}


def test_commands_named_in_the_documents_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        named = set(re.findall(r"(?:`|^    |^)make ([a-z-]+)", text, re.M))
        assert named, document
        assert named <= targets, document


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.parent.name)
def test_stubs_list_what_they_import(stub):
    """mypy and editors read the list of the stub, Python makes its own from it."""
    tree = ast.parse(stub.read_text())
    imported = [a.name for n in tree.body if hasattr(n, "names") for a in n.names]
    (listed,) = (n.value for n in tree.body if isinstance(n, ast.Assign))
    package = importlib.import_module(".".join(stub.relative_to(ROOT).parts[:-1]))
    assert sorted(ast.literal_eval(listed)) == sorted(imported)
    assert sorted(package.__all__) == sorted(imported)


# In this order, in one process: each adds to what the others have loaded.
LIGHT_IMPORTS = {
    "import skdict": {"torch", "sklearn", "numpy", "scipy", "pandas"},
    "from skdict.metrics import *": {"torch", "skorch"},
    "import skdict.inspection": {"matplotlib"},
}


def test_light_imports():
    """Names are imported when they are used; and metrics never need torch."""
    script = "import sys\n"
    script += "".join(f"{line}\nprint(*sys.modules)\n" for line in LIGHT_IMPORTS)
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    for (statement, absent), modules in zip(
        LIGHT_IMPORTS.items(), run.stdout.splitlines(), strict=True
    ):
        loaded = {name.partition(".")[0] for name in modules.split()}
        assert "skdict" in loaded
        assert not loaded & absent, statement


def test_public_names_are_listed_and_exist():
    assert len(set(skdict.__all__)) == len(skdict.__all__)
    for name in skdict.__all__:
        assert hasattr(skdict, name), name


def test_the_top_holds_the_estimators_and_files_only():
    """Functions and displays live in their subpackage, under one name each."""
    subpackages = (
        "concepts",
        "decomposition",
        "feature_extraction",
        "preprocessing",
        "persistence",
    )
    public = {
        name: getattr(module, name)
        for module in (importlib.import_module(f"skdict.{s}") for s in subpackages)
        for name in module.__all__
        if inspect.isclass(getattr(module, name)) or name in ("save", "load")
    }
    top = {n for n in skdict.__all__ if not inspect.ismodule(getattr(skdict, n))}
    assert public.keys() == top
    for name, member in public.items():
        assert getattr(skdict, name) is member


def test_formulas_of_the_documentation_need_no_network():
    settings = {}
    texts = []
    for path in sorted((ROOT / "docs").glob("*.py")):
        tree = ast.parse(path.read_text())
        texts += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        if path.name == "conf.py":
            for node in tree.body:
                if isinstance(node, ast.Assign) and isinstance(
                    node.targets[0], ast.Name
                ):
                    settings[node.targets[0].id] = node.value
    # Any other renderer brings a script, by default from a network.
    assert ast.literal_eval(settings["html_math_renderer"]) == "mathml"
    assert "mathml" in ast.literal_eval(settings["extensions"])
    assert (ROOT / "docs" / "mathml.py").exists()
    assert not {name for name in settings if re.match("mathjax|katex|html_js", name)}
    addresses = [t for t in texts if isinstance(t, str) and re.search(r"\w+://", t)]
    assert addresses == []
