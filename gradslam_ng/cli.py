"""Command line interface `gradslam-ng`: subcommands, errors of one line, exit status."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import io
import sys
import textwrap
import warnings
from collections.abc import Callable
from importlib.abc import InspectLoader
from typing import TextIO

from gradslam_ng import __version__
from gradslam_ng.commands.errors import CommandError, UsageError
from gradslam_ng.commands.examples import EXAMPLES
from gradslam_ng.commands.signatures import signature_of

COMMANDS = (
    "run",
    "record",
    "resume",
    "join",
    "sweep",
    "compile",
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
DESCRIPTION = "Dense RGB-D SLAM, differentiable."


def main(args: list[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status: 0, 1 for a failure said in one line or where nobody reads the output
    any more, 130 after Ctrl-C, or that of a `CommandError`."""
    args = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):  # a name that the output cannot show must not end a run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                _run_subcommand(args)
            finally:
                print(end="", flush=True)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads, such as head, has seen enough
        from gradslam_ng.commands.console import drop_output

        drop_output()
        return 1
    except (ValueError, OSError, ImportError) as error:
        _print_error("[red]error:[/red]", _message(error))
        return error.status if isinstance(error, CommandError) else 1
    return 0


def _run_subcommand(args: list[str]) -> None:
    if args == ["--version"]:
        print(f"gradslam-ng {__version__}")
    elif not args or args[0] in HELP:
        print(_help())
        raise SystemExit(0)
    elif args[0] in COMMANDS:  # only what is asked for is imported
        import tyro

        if HELP & set(args[1:]):
            _help_of(args[0], args[1:])
        from gradslam_ng.commands.option_names import refuse_unknown

        refuse_unknown(args[0], args[1:])
        tyro.cli(command(args[0]), prog=f"gradslam-ng {args[0]}", args=args[1:])
    elif args[0].startswith("--tyro-"):  # completion for a shell
        import tyro

        app = tyro.extras.SubcommandApp()
        for name in COMMANDS:
            app.command(command(name))
        app.cli(prog="gradslam-ng", description=DESCRIPTION, args=args)
    else:
        from gradslam_ng.io.similar_names import meant

        raise UsageError(f"expected a command, one of {', '.join(COMMANDS)}, got {args[0]!r}{meant(args[0], COMMANDS)}")


def _help_of(name: str, args: list[str]) -> None:
    """Print the help of a subcommand, and end, if that is what these arguments ask for."""
    import tyro

    try:
        with signature_of(name) as signature:
            tyro.cli(signature, prog=f"gradslam-ng {name}", args=args)
    except SystemExit:
        print("\nexamples:", *(f"  {line}" for line in EXAMPLES[name]), "", sep="\n")
        raise


def _help() -> str:
    """What commands there are, by the first paragraph of their docstrings, which are read without importing them."""
    width = max(map(len, COMMANDS)) + 4
    lines = []
    for name in COMMANDS:
        told = textwrap.fill(_summary(name), 100, initial_indent=" " * width, subsequent_indent=" " * width)
        lines.append(f"  {name}{told[len(name) + 2 :]}")
    usage = "usage: gradslam-ng [-h] [--version] COMMAND ..."
    more = "gradslam-ng COMMAND --help tells the options of one, with examples."
    return "\n".join([usage, "", DESCRIPTION, "", "commands:", *lines, "", more])


def _summary(name: str) -> str:
    """The first paragraph of the docstring of a subcommand."""
    spec = importlib.util.find_spec(f"gradslam_ng.commands.{name}")
    source = spec.loader.get_source(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None
    for node in ast.parse(source or "").body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return " ".join(inspect.cleandoc(ast.get_docstring(node) or "").split("\n\n")[0].split())
    return ""


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the line of source that raised it."""
    _print_error("[yellow]warning:[/yellow]", str(message))


def _print_error(label: str, text: str) -> None:
    """One line on the stream of errors."""
    from rich.console import Console  # late, as tyro: help and version do without
    from rich.markup import escape

    Console(stderr=True).print(f"{label} {escape(text)}", soft_wrap=True, highlight=False)


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
