"""What commands print on, while they work for long."""

from __future__ import annotations

import os
import sys

from rich.console import Console


class WorkConsole(Console):
    """A console whose reader may go away, such as `head`, without an end to what is worked on: what else there would
    be to print goes nowhere."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        drop_output()


def drop_output() -> None:
    """What is still to be printed goes nowhere, so that the interpreter says nothing of it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
