"""The sources of the documentation site. It is built, and its pages are checked, by other means."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import diffsort
from diffsort.backends import capabilities

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [path for path in DOCS.rglob("*") if path.suffix in (".md", ".rst", ".ipynb")]
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))


def extension(name):
    """A module of docs/extensions; those that are tested here import no Sphinx."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "extensions" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_capability_table_shows_every_row():
    _, rule, *rows = extension("read_off_the_package").capability_table().splitlines()
    assert set(rule) == {"|", "-"}
    assert [tuple(row.strip("| ").split(" | ")) for row in rows] == [*capabilities.TABLE]
    assert "```{capability-table}" in (DOCS / "backends.md").read_text(encoding="utf-8")


def test_every_public_name_is_in_the_reference():
    public_functions = extension("read_off_the_package").public_functions
    source = (DOCS / "api.rst").read_text(encoding="utf-8")
    names = set(re.findall(r"^\.\. py:data:: (\w+)", source, re.MULTILINE))
    for module in re.findall(r"^\.\. public-functions:: (\S+)", source, re.MULTILINE):
        names |= set(public_functions(module))
    assert names == set(diffsort.__all__) - {"errors"}
    # It documents what errors.__all__ lists.
    assert re.search(r"^\.\. automodule:: diffsort.errors\n   :members:$", source, re.MULTILINE)


def test_every_page_is_in_the_table_of_contents():
    contents = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    listed = {line for part in contents for line in part.split() if not line.startswith(":")}
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in PAGES}
    assert pages - {"index"} <= listed


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_results(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_notebooks_lead_somewhere(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    assert [link for link in links if not (notebook.parent / link).exists()] == []


@pytest.mark.parametrize(
    ("document", "page", "link", "expected"),
    [
        ("README.md", "index.md", "docs/conventions.md", "conventions.md"),
        ("README.md", "index.md", "CONTRIBUTING.md", "contributing.md"),
        ("README.md", "index.md", "CITATION.cff", "path:../CITATION.cff"),
        (
            "docs/architecture.md",
            "architecture.md",
            "../CONTRIBUTING.md#style",
            "contributing.md#style",
        ),
        ("README.md", "index.md", "https://arxiv.org", "https://arxiv.org"),
        ("README.md", "index.md", "no/such/file.md", "no/such/file.md"),
    ],
)
def test_links_of_documents_lead_to_pages(document, page, link, expected):
    rewrite = extension("links_to_files").rewrite
    text = rewrite(f"see [this]({link}).", DOCS.parent / document, DOCS / page)
    assert text == f"see [this]({expected})."
