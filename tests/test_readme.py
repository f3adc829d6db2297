"""Each Python block of the documents runs alone and prints the text block that follows."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "docs" / "conventions.md")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read_blocks(document):
    """[(line number, code, expected output or None), ...]"""
    text = document.read_text(encoding="utf-8")
    blocks = []
    for match in FENCE.finditer(text):
        language, body = match.groups()
        if language == "python":
            blocks.append([text.count("\n", 0, match.start()) + 1, body, None])
        elif language == "text":
            assert blocks, "output without a block"
            assert blocks[-1][2] is None, f"two outputs for the block at line {blocks[-1][0]}"
            blocks[-1][2] = body
    return blocks


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_that_prints_shows_its_output(document):
    blocks = read_blocks(document)
    assert len(blocks) >= 3
    silent = [line for line, code, output in blocks if "print(" in code and not output]
    assert silent == [], f"blocks at lines {silent} print, but no ```text block follows"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_print_what_the_document_shows(document):
    if document == README:
        pytest.importorskip("torch", reason="the README's blocks use torch")
    for line, code, expected in read_blocks(document):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Each in a namespace of its own, as it is copied from the page.
            exec(compile(code, f"{document.name}, block at line {line}", "exec"), {})
        assert printed.getvalue().rstrip() == (expected or "").rstrip(), f"block at line {line}"


@pytest.mark.parametrize(
    "command", ["pip install . && python -m diffsort", 'pip install ".[test]" && pytest']
)
def test_the_two_commands_are_there_verbatim(command):
    assert command in README.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")))
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("https://")]
    assert [link for link in local if not (document.parent / link).exists()] == []
