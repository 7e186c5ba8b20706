"""YAML and XML files to nested dictionaries and lists of text; whoever asks for a number turns it into one.

YAML is read with PyYAML, without tags, so that nothing is ever constructed or executed, and in the dialect of OpenCV
too (`%YAML:1.0`, `!!opencv-matrix`, `name:1`). XML is read without document types, whose entities may grow without end.
"""

from __future__ import annotations

import os
import re
from typing import Any
from xml.etree import ElementTree

from gradslam_ng.io.text import read_text, split_words

MAX_DEPTH = 20  # of elements within each other
MAX_ENTRIES = 10**6  # of lists and dictionaries, where all that aliases stand for is written out
TIGHT = re.compile(r"^(\s*[A-Za-z][\w.]*):(?=[-+.\d\[\"])", re.MULTILINE)  # OpenCV needs no blank behind the colon
DIRECTIVE = re.compile(r"^%YAML.*$", re.MULTILINE)  # of OpenCV, and of versions other than PyYAML's


class BadMarkup(ValueError):
    """A file that is neither YAML nor XML, as its ending says."""


def read_yaml(path: str | os.PathLike, expected: str) -> Any:
    """What the first document of a YAML file holds: dictionaries, lists, and strings for all else.

    Raises:
        BadMarkup: not YAML, or a name given twice in one mapping; with the line.
        ValueError: see `read_text`, as for FileNotFoundError and OSError.
    """
    import yaml  # late: few recordings have any

    class Loader(yaml.BaseLoader):  # strings alone
        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            names = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if twice := next((name for k, name in enumerate(names) if name in names[:k]), None):
                raise yaml.MarkedYAMLError(None, None, f"{twice!r} is given twice", node.start_mark)
            return super().construct_mapping(node, deep)

    text = TIGHT.sub(r"\1: ", DIRECTIVE.sub("", read_text(path, expected).expandtabs()))
    try:
        found = next(yaml.load_all(text, Loader), None)
        if _entries(found, {}) > MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} entries, by aliases of aliases")
        return found
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadMarkup(f"{path}: expected {expected}, got what is not YAML: {' '.join(str(error).split())}") from None


def _entries(data: Any, known: dict[int, int]) -> int:
    """How many entries there are, those in lists and dictionaries that appear several times counted each time."""
    if not isinstance(data, (dict, list)):
        return 1
    if id(data) not in known:
        known[id(data)] = 1 + sum(_entries(item, known) for item in (data.values() if isinstance(data, dict) else data))
    return known[id(data)]


def read_xml(path: str | os.PathLike, expected: str) -> Any:
    """The elements of an XML file by their tags, repeated ones as a list; an element without others as text or words.

    Raises:
        BadMarkup: not XML, a document type, or elements too deep in each other.
        ValueError: see `read_text`, as for FileNotFoundError and OSError.
    """
    text = read_text(path, expected).lstrip()
    text = re.sub(r"^<\?xml.*?\?>", "", text, flags=re.DOTALL)  # the encoding is undone already
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("a document type")
        return _element(ElementTree.fromstring(text), MAX_DEPTH)
    except (ElementTree.ParseError, ValueError) as error:
        raise BadMarkup(f"{path}: expected {expected}, got what is not plain XML: {error}") from None


def _element(element: ElementTree.Element, depth: int) -> Any:
    if not depth:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    found: dict[str, Any] = {}
    for child in element:
        value = _element(child, depth - 1)
        if child.tag in found:
            first = found[child.tag]
            found[child.tag] = [*(first if isinstance(first, list) else [first]), value]
        else:
            found[child.tag] = value
    if found:
        return found
    words = split_words(element.text or "")
    return words if len(words) > 1 else "".join(words)
