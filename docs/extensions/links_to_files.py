"""Links between documents of the repository, made to work on the site.

README.md and its neighbours are read on a code host, where a link is a path. On the site, such a
path leads to the page of that document where there is one, else to a download of the file. Images
are shown from where they are.
"""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Documents outside of docs/, each included by a page.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(!?\[[^][]*\]\()([^)#:]+)(#[^)]*)?(\))")


def rewrite(text, document, page):
    """`text` of the file `document`, with its links as they are from the file `page`."""

    def link(match):
        target = Path(os.path.normpath(document.parent / match[2]))
        if not target.exists():
            return match[0]  # no link, or one that the build complains of
        name = os.path.relpath(target, ROOT)
        if name in PAGES:
            target = DOCS / PAGES[name]
        is_shown = target.is_relative_to(DOCS) or match[1].startswith("!")
        kind = "" if is_shown else "path:"  # a download
        return f"{match[1]}{kind}{os.path.relpath(target, page.parent)}{match[3] or ''}{match[4]}"

    return LINK.sub(link, text)


def setup(app):
    def source_read(app, docname, source):
        page = Path(app.env.doc2path(docname))
        if page.suffix == ".md":
            source[0] = rewrite(source[0], page, page)

    def include_read(app, path, docname, source):
        document = (DOCS / path).resolve()
        source[0] = rewrite(source[0], document, Path(app.env.doc2path(app.env.docname)))

    app.connect("source-read", source_read)
    app.connect("include-read", include_read)
    return {"parallel_read_safe": True}
