"""The README and the pages of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<mark>`{3,})(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=mark)$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str  # the fence's info string
    code: str
    line: int  # of the code, from 1
    before: str  # the line above the fence


class Page(NamedTuple):
    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return FENCE.sub("", self.text)

    @property
    def spans(self) -> list[str]:
        """Code in the prose, between backticks."""
        return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose)]

    def blocks(self, *languages: str) -> list[Block]:
        found = []
        for match in FENCE.finditer(self.text):
            above = self.text[: match.start()].rstrip().splitlines()
            line = self.text.count("\n", 0, match.start("code")) + 1
            found.append(Block(match["info"].strip(), match["code"], line, above[-1] if above else ""))
        return [block for block in found if block.language in languages]


def read_pages() -> list[Page]:
    """The README, those of folders, and the documentation's pages, generated ones left out."""
    paths = [ROOT / "README.md", ROOT / "datasets/README.md", ROOT / "demos/README.md", ROOT / "CONTRIBUTING.md"]
    docs = ROOT / "docs"
    generated = ("_build", "jupyter_execute", "api")
    paths += [path for path in docs.rglob("*.md") if path.relative_to(docs).parts[0] not in generated]
    return [Page(path, path.read_text()) for path in sorted(paths)]


PAGES = {page.name: page for page in read_pages()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with an argument `page` run for each page, those with `coded` for each that holds Python."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES.values(), ids=PAGES)
    if "coded" in metafunc.fixturenames:
        coded = {name: page for name, page in PAGES.items() if page.blocks("python")}
        metafunc.parametrize("coded", coded.values(), ids=coded)


@pytest.fixture
def pages() -> dict[str, Page]:
    return PAGES


@pytest.fixture
def root() -> Path:
    return ROOT
