"""Directives whose content is read off the package, and so cannot fall behind it.

`capability-table` (in Markdown) is the table of what runs where; `public-functions MODULE` (in
reStructuredText) documents every function of `diffsort.__all__` that MODULE defines.
"""

import diffsort
from diffsort.backends import capabilities


def capability_table():
    """Every row of the table of capabilities, in Markdown."""
    rows = [capabilities.Capability._fields, *capabilities.TABLE]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)


def public_functions(module):
    """The names of `diffsort.__all__` that are functions of `module`."""
    return [
        name
        for name in diffsort.__all__
        if getattr(getattr(diffsort, name), "__module__", None) == module
    ]


def reference(module):
    """A list of the public functions of `module`, then the documentation of each."""
    names = public_functions(module)
    overview = [".. autosummary::", "", *(f"   {name}" for name in names), ""]
    return "\n".join(overview + [f".. autofunction:: {name}" for name in names])


def setup(app):
    from sphinx.util.docutils import SphinxDirective

    class CapabilityTable(SphinxDirective):
        def run(self):
            return self.parse_text_to_nodes(capability_table())

    class PublicFunctions(SphinxDirective):
        required_arguments = 1

        def run(self):
            return self.parse_text_to_nodes(reference(self.arguments[0]))

    app.add_directive("capability-table", CapabilityTable)
    app.add_directive("public-functions", PublicFunctions)
    return {"parallel_read_safe": True}
