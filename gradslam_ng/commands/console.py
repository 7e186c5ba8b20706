"""What commands print on, while they work for long."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress

PRINTED_EVERY = 10.0  # seconds between two lines in place of a bar


class WorkConsole(Console):
    """A console whose reader may go away, such as `head`, without an end to what is worked on: what else there would
    be to print goes nowhere."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        drop_output()


def show_messages(*handlers: logging.Handler) -> None:
    """Have messages go there: all of this package, of others what they warn of."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=handlers, force=True)
    logging.getLogger("gradslam_ng").setLevel(logging.INFO)


class PlainLines:
    """Lines now and then where nobody sees a bar: in a file."""

    def __init__(self, console: Console) -> None:
        self.console, self.due = console, time.monotonic() + PRINTED_EVERY

    def tell(self, line: str) -> None:
        """Print it, if it is time to."""
        if not self.console.is_terminal and time.monotonic() >= self.due:
            self.console.print(escape(line), soft_wrap=True, highlight=False)
            self.due = time.monotonic() + PRINTED_EVERY


@contextlib.contextmanager
def counting_frames(name: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Inside, a bar of frames, and lines now and then where nobody sees one.

    Yields a function (done) that says how many frames are.
    """
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bar:
        task, lines = bar.add_task(escape(name), total=total), PlainLines(console)

        def tell(done: int) -> None:
            bar.update(task, completed=done)
            lines.tell(f"{done} of {total} frames")

        yield tell
        bar.update(task, completed=total)


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Inside, say on the standard error what is worked on: beside something that turns on a terminal, else in a line.

    Yields a function (what) that says what comes next.
    """
    console = Console(stderr=True)

    def tell(next_: str) -> None:
        if console.is_terminal:
            status.update(f"[dim]{escape(next_)}[/]")
        else:
            console.print(escape(next_), soft_wrap=True, highlight=False)

    with console.status("") as status:
        tell(what)
        yield tell


def drop_output() -> None:
    """What is still to be printed goes nowhere, so that the interpreter says nothing of it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
