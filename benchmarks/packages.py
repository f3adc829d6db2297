"""The other packages of the comparison: each joins where it can be imported, else is named."""

import contextlib
import importlib
import sys

import report

# distribution -> module with its operators
PACKAGES = {
    "torchsort": "torchsort",
    "fast-soft-sort": "fast_soft_sort.pytorch_ops",
    "ott-jax": "ott.tools.soft_sort",
    "jaxopt": "jaxopt.isotonic",
    "softsort": "softsort",
}
REMARKS = {
    "fast-soft-sort": "on no package index; from github.com/google-research/fast-soft-sort",
    "softsort": "Prillo and Eisenschlos published a repository, sprillo/softsort, and no package",
}


def load(distribution):
    """The module, or None."""
    try:
        with without("numba"):
            return importlib.import_module(PACKAGES[distribution])
    except ImportError:
        return None


@contextlib.contextmanager
def without(module):
    """As where it is not installed: jaxopt 0.8.5 calls Numba in a way that JAX no longer takes."""
    before = sys.modules.get(module)
    sys.modules[module] = None
    try:
        yield
    finally:
        del sys.modules[module]
        if before is not None:
            sys.modules[module] = before


def summary():
    """One line for every package: its version, or why it is not there."""
    lines = []
    for distribution in PACKAGES:
        state = report.version(distribution) or "imported"
        if load(distribution) is None:
            remark = REMARKS.get(distribution)
            state = "skipped, cannot be imported" + (f" ({remark})" if remark else "")
        lines.append(f"- {distribution}: {state}")
    return "\n".join(lines) + "\n"
