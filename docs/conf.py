"""The documentation site: `sphinx-build -W --keep-going -b html docs build/docs`.

Reads the installed package, as the tests do. Needs `pip install ".[docs]"` and no network.
"""

import os
import sys
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  builds its cache here, not on a page

import diffsort

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "diffsort"
author = "The diffsort developers"
version = release = diffsort.__version__
copyright = author

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "links_to_files",
    "mathml",
    "read_off_the_package",
]
exclude_patterns = ["images"]
nitpicky = True  # a name in a role that leads nowhere is a warning, and with -W an error

# Pages. The cells of notebooks and of pages with a kernel are run at every build, on the CPU
# whatever else the machine has. A cell that fails or writes to standard error fails the build.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "remove-warn"
os.environ["JAX_PLATFORMS"] = "cpu"

# Reference. Types are in the docstrings, in words that say more than the annotations.
autodoc_typehints = "none"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"diffsort {release}"
html_copy_source = False
html_show_sphinx = False
