"""Formulas as MathML, which browsers draw by themselves.

The default, MathJax, is a script that each page loads from elsewhere. Here pages need no network,
and a formula that is not understood is a warning of the build instead of red text on the page.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(formula, as_block):
    """The <math> element of a formula in LaTeX."""
    return tex2mathml(formula.replace(r"\dots", r"\ldots"), as_block=as_block)


def visit_with(as_block):
    def visit(translator, node):
        try:
            translator.body.append(mathml(node.astext(), as_block))
        except MathError as error:
            logger.warning("%s in %r", error, node.astext(), location=node)
        raise nodes.SkipNode

    return visit


def setup(app):
    app.add_html_math_renderer("mathml", (visit_with(False), None), (visit_with(True), None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
