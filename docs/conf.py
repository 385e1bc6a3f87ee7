"""Sphinx configuration. The pages of the API reference are listed by `__all__`."""

import importlib
import importlib.util
import re
import sys
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

import skdict
from skdict.decomposition._registry import DICTIONARIES

sys.path.insert(0, str(Path(__file__).parent))  # mathml.py

project = "skdict"
author = "skdict developers"
copyright = "2026, skdict developers"
version = release = skdict.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "mathml",
]
html_math_renderer = "mathml"  # no script from the network, as MathJax would be
exclude_patterns = ["_build", "images"]
templates_path = ["_templates"]
root_doc = "index"

html_theme = "pydata_sphinx_theme"
html_title = "skdict"
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it with shapes and defaults
numpydoc_show_class_members = False  # the class template lists them
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # The order of a user's work.
    "within_subsection_order": ExplicitOrder(
        [
            "plot_choose_k.py",
            "plot_control_whitening.py",
            "plot_icfl_against_topk.py",
            "plot_family.py",
            "plot_selectivity_and_its_null.py",
            "plot_confounded_batch.py",
            "plot_heatmaps.py",
            "plot_stability.py",
            "plot_layers.py",
            "*",
        ]
    ),
    "ignore_pattern": r"(^|[\\/])(?!plot_)\w+\.py$",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("skdict",),
    "reference_url": {"skdict": None},
    "capture_repr": ("_repr_html_",),  # tables, but no addresses of figures
    "image_srcset": ["2x"],  # figures are as wide as a column of print
    "show_signature": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "matplotlib_animations": False,
    "min_reported_time": 1,
    "write_computation_times": False,  # a page with scripts from the network
}

# Heading, module, and whether its names are written skdict.X where skdict has them.
API_GROUPS = [
    ("Preprocessing", "skdict.preprocessing", True),
    ("Feature extraction", "skdict.feature_extraction", True),
    ("Dictionaries", "skdict.decomposition", True),
    ("Training", "skdict.training", False),
    ("Metrics", "skdict.metrics", False),
    ("Evaluation", "skdict.evaluation", False),
    ("Concepts", "skdict.concepts", True),
    ("Images", "skdict.images", False),
    ("Inspection", "skdict.inspection", False),
    ("Report", "skdict.report", False),
    ("Datasets", "skdict.datasets", False),
    ("Persistence", "skdict.persistence", True),
    ("Files and tables", "skdict.io", False),
    ("Interchange", "skdict.interchange", False),
    ("Tensor operations", "skdict.ops", False),
]


def write_api_reference(app, config):
    """Write api/generated/index.rst before Sphinx looks for its source files."""
    top_level = set(skdict.__all__)
    lines = ["API reference", "=============", ""]
    listed = set()
    for heading, module_name, prefer_top_level in API_GROUPS:
        if importlib.util.find_spec(module_name) is None:
            continue
        module = importlib.import_module(module_name)
        names = getattr(module, "__all__", [])
        if not names:
            continue
        listed.update(names)
        lines += [heading, "-" * len(heading), ""]
        if module.__doc__:
            lines += [module.__doc__.strip(), ""]
        lines += [".. autosummary::", "   :toctree: .", "   :nosignatures:", ""]
        for name in names:
            home = "skdict" if prefer_top_level and name in top_level else module_name
            lines.append(f"   {home}.{name}")
        lines.append("")
    modules = {g[1].rpartition(".")[2] for g in API_GROUPS}
    missing = top_level - listed - modules - {"__version__"}
    if missing:
        raise RuntimeError(f"docs/conf.py: public names in no group: {sorted(missing)}")
    target = Path(app.srcdir, "api", "generated", "index.rst")
    target.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines)
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def write_table_of_dictionaries(app, config):
    """Write api/generated/dictionaries.inc from the registry, for the user guide."""
    lines = [
        "| Dictionary | Encoder | Non-zeros of a code | Source |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {{class}}`~skdict.{entry.estimator.__name__}` | {entry.encoder} | "
        f"{entry.non_zeros} | {entry.source} |"
        for entry in DICTIONARIES
    ]
    target = Path(app.srcdir, "api", "generated", "dictionaries.inc")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n")


def unlink_foreign_references(app, what, name, obj, options, lines):
    """Inherited methods keep scikit-learn's text, which links to its own guide."""
    home = getattr(obj, "__module__", "") or ""
    if home.startswith("sklearn.") or re.search(r"\.set_\w+_request$", name):
        role = re.compile(r":(?:ref|term|doc):`([^`<]+?)(?:\s*<[^`]*>)?`")
        lines[:] = role.sub(r"\1", "\n".join(lines)).split("\n")


def escape_fitted_attributes(app, what, name, obj, options, lines):
    """A fitted attribute in a shape, (n_components_, 3), is not a link in rst."""
    word = re.compile(r"(`+[^`]*`+)|\b([A-Za-z]\w*)_(?=[\s,.;:)\]]|$)")
    in_code = False
    for i, line in enumerate(lines):
        in_code = line.lstrip().startswith(">>>") or (in_code and bool(line.strip()))
        if not in_code and not line.lstrip().startswith((".. ", ":")):
            lines[i] = word.sub(lambda m: m[1] or rf"{m[2]}\_", line)


def setup(app):
    app.connect("config-inited", write_api_reference)
    app.connect("config-inited", write_table_of_dictionaries)
    app.connect("autodoc-process-docstring", unlink_foreign_references, priority=100)
    # After numpydoc, which turns the sections into rst.
    app.connect("autodoc-process-docstring", escape_fitted_attributes, priority=900)
