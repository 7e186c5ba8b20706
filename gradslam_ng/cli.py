"""Command line interface `gradslam-ng`: subcommands, errors of one line, exit status."""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from collections.abc import Callable
from typing import TextIO

import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng import __version__
from gradslam_ng.commands.errors import CommandError
from gradslam_ng.commands.examples import EXAMPLES

COMMANDS = (
    "run",
    "sweep",
    "calibrate",
    "evaluate",
    "mesh",
    "plan",
    "optimize",
    "synthesize",
    "view",
    "info",
    "convert",
    "download",
)
HELP = {"-h", "--help"}
DESCRIPTION = "Dense RGB-D SLAM, differentiable. --version tells the version."


def main(args: list[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status: 0, 1 for a failure said in one line, 130 after Ctrl-C, or that of a
    `CommandError`."""
    args = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):  # a name that the output cannot show must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _run_subcommand(args)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(_message(error))}", soft_wrap=True, highlight=False)
        return error.status if isinstance(error, CommandError) else 1
    return 0


def _run_subcommand(args: list[str]) -> None:
    if args == ["--version"]:
        print(f"gradslam-ng {__version__}")
    elif args and args[0] in COMMANDS:  # only what is asked for is imported
        try:
            tyro.cli(command(args[0]), prog=f"gradslam-ng {args[0]}", args=args[1:])
        except SystemExit:
            if HELP & set(args[1:]):
                print("\nexamples:", *(f"  {line}" for line in EXAMPLES[args[0]]), "", sep="\n")
            raise
    else:
        app = tyro.extras.SubcommandApp()
        for name in COMMANDS:
            app.command(command(name))
        app.cli(prog="gradslam-ng", description=DESCRIPTION, args=args or ["--help"])


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the line of source that raised it."""
    Console(stderr=True).print(f"[yellow]warning:[/yellow] {escape(str(message))}", soft_wrap=True, highlight=False)


def _message(error: Exception) -> str:
    """What an error says; that of the system without its number."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"no such file: {error.filename}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def command(name: str) -> Callable[..., None]:
    """The function behind a subcommand."""
    return getattr(importlib.import_module(f"gradslam_ng.commands.{name}"), name)
