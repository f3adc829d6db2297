"""Check a built site: `python docs/check.py build/docs`.

Links lead to pages, files and anchors of the site, nothing is loaded from elsewhere, and the pages
that are read off the package show all of it.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import diffsort
from diffsort.backends import capabilities


class Page(HTMLParser):
    """The anchors, links and rows of tables of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded, self.rows = {""}, [], [], []
        self._cell = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.add(attributes.get("id"))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag in ("img", "script") and "src" in attributes:
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(attributes["href"])
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        if tag == "td":
            self._cell = False

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


def problems(site):
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                if link in page.loaded and parts.scheme != "data":
                    yield f"{path}: loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{path}: no file for {link}"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path}: no anchor for {link}"
    rows = pages[site / "backends.html"].rows
    for row in capabilities.TABLE:
        if list(row) not in [[cell.strip() for cell in cells] for cells in rows]:
            yield f"backends.html: no row {tuple(row)}"
    names = [f"diffsort.{name}" for name in diffsort.__all__ if name != "errors"]
    for name in names + [f"diffsort.errors.{name}" for name in diffsort.errors.__all__]:
        if name not in pages[site / "api.html"].anchors:
            yield f"api.html: nothing on {name}"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1]).resolve()))
    print(*found, sep="\n")
    print(f"{len(found)} problems")
    sys.exit(bool(found))
