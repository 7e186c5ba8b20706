"""Docstrings as they are written in this package, made fit for reStructuredText and napoleon.

Names that end in `_`, stars and bars are text; a paragraph of lines `name: what it is` lists arguments; lines that are
indented are code; comments beside the fields of a class say what these are.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator

from sphinx.application import Sphinx

# Code between backticks stays as it is; a name with a trailing underscore would be a link, a star emphasis, a bar a
# substitution.
TOKENS = re.compile(r"(``.*?``|`[^`\n]+`)|(?<!\w)(\w*\w)_(?!\w)|([*|])")
SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes):")
ARGUMENT = re.compile(r"(\w+(?:, \w+)*): ")
ATTRIBUTES = ("attribute", "data", "property")
held_back: dict[str, list[str]] = {}


def escape(line: str) -> str:
    """One line of prose."""

    def safe(match: re.Match[str]) -> str:
        code, name, mark = match.groups()
        return code or (f"{name}\\_" if name else f"\\{mark}")

    return TOKENS.sub(safe, line)


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines without an empty one between."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def parameters(obj: object) -> set[str]:
    try:
        return set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return set()


def lists_arguments(block: list[str], known: set[str]) -> bool:
    """Whether every line is `name: text`, some of them of parameters, or an indented continuation of one."""
    matches = [ARGUMENT.match(line) for line in block if not line.startswith(" ")]
    return all(matches) and any(name in known for match in matches for name in match[1].split(", "))


def rewrite(block: list[str], known: set[str]) -> list[str]:
    """One paragraph."""
    if SECTION.fullmatch(block[0]):
        return [escape(line) for line in block]
    if all(line.startswith("    ") for line in block):
        return ["::", "", *block]
    if lists_arguments(block, known):
        return ["Args:", *(f"    {escape(line)}" for line in block)]
    if block[0].lstrip().startswith(("- ", ">>> ")):
        return [escape(line) for line in block]
    margin = min(len(line) - len(line.lstrip()) for line in block)
    return [" " * margin + escape(line.strip()) for line in block]


def source_of(obj: object) -> tuple[ast.stmt | None, list[str]]:
    """The definition of a class or function, and its lines; None where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))
        return ast.parse(source).body[0], source.splitlines()
    except (OSError, TypeError, SyntaxError):
        return None, []


def commented(obj: object) -> list[str]:
    """The fields of a class, or the parameters of a function, with the comments beside them, as a list of arguments."""
    definition, lines = source_of(obj)
    if isinstance(definition, ast.ClassDef):
        nodes = {n.target.id: n for n in definition.body if isinstance(n, ast.AnnAssign)}
    elif isinstance(definition, ast.FunctionDef):
        arguments = definition.args
        nodes = {n.arg: n for n in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    else:
        nodes = {}
    ends = Counter(node.end_lineno for node in nodes.values())
    entries = []
    for name, node in nodes.items():
        _, _, comment = lines[node.end_lineno - 1].partition("  # ")
        if comment and ends[node.end_lineno] == 1 and not name.startswith("_"):
            entries.append(f"    {name}: {escape(comment.strip())}")
    return ["Args:", *entries, ""] if entries else []


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place, before napoleon reads its sections."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
    known = parameters(obj)
    text = [line for block in paragraphs(list(lines)) for line in (*rewrite(block, known), "")]
    if what in ATTRIBUTES:  # napoleon would take what stands before a colon for a type
        held_back[name], text = text, []
    elif what in ("class", "function", "method"):
        documented = re.findall(r"^    (\w+): ", "\n".join(text), re.MULTILINE)
        text += [line for line in commented(obj) if line.strip().partition(":")[0] not in documented]
    lines[:] = text


def restore(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Put back what napoleon was not to see."""
    if what in ATTRIBUTES:
        lines[:] = held_back.pop(name, [])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
    return {"parallel_read_safe": True}
