"""Sphinx extension: formulas as MathML, which browsers draw without a script."""

from docutils.nodes import SkipNode
from math_core import LatexToMathML

__all__ = ["setup"]

# A formula that cannot be converted ends the build, and is not left out.
CONVERTER = LatexToMathML()
BLOCK_STYLE = "overflow: auto hidden; padding: 0.5em 0; margin-bottom: 1em"


def mathml(latex, *, is_block):
    return CONVERTER.convert_with_local_state(latex, displaystyle=is_block)


def visit_inline(translator, node):
    translator.body.append(mathml(node.astext(), is_block=False))
    raise SkipNode


def visit_block(translator, node):
    if node.get("number") is not None:
        raise NotImplementedError(f"A numbered formula: {node.astext()}")
    latex = node.astext()
    # The directive aligns lines at & without an environment.
    if r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    # Not the theme's class "math", which puts what it holds to the right.
    formula = mathml(latex, is_block=True)
    translator.body.append(f'<div style="{BLOCK_STYLE}">{formula}</div>\n')
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
