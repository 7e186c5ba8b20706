"""`{command-help} NAME`: what `gradslam-ng NAME --help` says, taken from the parser when the site is built."""

from __future__ import annotations

import contextlib
import io
import os
import re
from unittest import mock

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

WIDTH = 100
FRAME = "╭╮╰╯│─"


def command_help(name: str) -> str:
    """The help text of one command, without boxes and colors."""
    from gradslam_ng import cli

    printed = io.StringIO()
    environ = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, environ), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli.main([name, "--help"])
    return plain(printed.getvalue())


def plain(text: str) -> str:
    """Terminal output as text: no escape sequences, no frames and rules, titles of sections as lines of their own."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        content = line.strip(FRAME).rstrip()
        is_title = line.startswith(" ") and not line.startswith("  ")
        if line.strip() and not content.strip(" -"):
            continue
        lines += ["", content.strip()] if is_title or line.startswith("╭") else [content]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class CommandHelp(Directive):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = command_help(self.arguments[0])
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
