"""Command line interface `gradslam-ng`: subcommands, errors of one line, exit status."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import tyro
from rich.console import Console
from rich.markup import escape

COMMANDS = ("run", "evaluate", "mesh", "optimize", "synthesize", "view", "info", "download")


def main(args: list[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status: 0, 1 for a failure said in one line, 130 after Ctrl-C."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        if args and args[0] in COMMANDS:  # only what is asked for is imported
            tyro.cli(command(args[0]), prog=f"gradslam-ng {args[0]}", args=args[1:])
        else:
            app = tyro.extras.SubcommandApp()
            for name in COMMANDS:
                app.command(command(name))
            app.cli(prog="gradslam-ng", description="Dense RGB-D SLAM, differentiable.", args=args or ["--help"])
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        return 1
    return 0


def command(name: str) -> Callable[..., None]:
    """The function behind a subcommand."""
    return getattr(importlib.import_module(f"gradslam_ng.commands.{name}"), name)
