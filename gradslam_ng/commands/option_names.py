"""Options that a command does not know, told before anything else that may be wrong with its arguments."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout, suppress

import tyro

from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.signatures import signature_of
from gradslam_ng.io.similar_names import meant

WIDE = "1000"  # columns, at which no name is broken over two lines


def refuse_unknown(name: str, args: list[str]) -> None:
    """Raise UsageError for an argument `--OPTION` of a subcommand that has none of that name."""
    given = [word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--")]
    known = options_of(name) if given else set()
    for option in given:
        if option not in known and not option.startswith("--tyro-"):
            told = f"{name}: no option {option}{meant(option, known)}"
            raise UsageError(f"{told}; gradslam-ng {name} --help lists them")


def options_of(name: str) -> set[str]:
    """All options that the help of a subcommand tells of."""
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDE
    try:
        with signature_of(name) as signature, redirect_stdout(io.StringIO()) as text, suppress(SystemExit):
            tyro.cli(signature, args=["--help"])
    finally:
        del os.environ["COLUMNS"]
        os.environ |= {} if width is None else {"COLUMNS": width}
    return set(re.findall(r"--[a-z][a-z-]*", text.getvalue()))
