"""Pages that are files elsewhere in the repository: their text stands in for what `docs/` says of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

PAGES = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md", "datasets": "datasets/README.md"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def relink(text: str, file: Path, docs: Path) -> str:
    """Markdown of a file outside with its links as they are from `docs/`."""
    pages = {(docs.parent / path).resolve(): docs / f"{page}.md" for page, path in PAGES.items()}

    def moved(link: re.Match[str]) -> str:
        target = (file.parent / link[1]).resolve()
        return os.path.relpath(pages.get(target, target), docs)

    return LINK.sub(moved, text)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname in PAGES:
        docs = Path(app.srcdir).resolve()
        file = docs.parent / PAGES[docname]
        source[0] = relink(file.read_text(), file, docs)
        app.env.note_dependency(str(file), docname=docname)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
