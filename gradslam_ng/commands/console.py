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
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

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


class CountingBar(Progress):
    """A bar of what is counted, and lines now and then where nobody sees one.

    Args:
        name: of what is done.
        columns: beside it; by default a bar, and how many of how many.
        total: how many there are, None where it is not known yet.
        say: the line of (done, total).
    """

    def __init__(
        self,
        name: str,
        *columns: ProgressColumn,
        console: Console,
        total: int | None,
        say: Callable[[int, int | None], str],
    ) -> None:
        own = TextColumn("{task.description}"), *(columns or (BarColumn(), MofNCompleteColumn()))
        super().__init__(*own, console=console)
        self.total, self.say, self.lines = total, say, PlainLines(console)
        self.counted = self.add_task(escape(name), total=total)

    def tell(self, done: int, total: int | None = None) -> None:
        """So many are done; total: where that is known only now."""
        self.total = self.total if total is None else total
        self.update(self.counted, completed=done, total=self.total)
        self.lines.tell(self.say(done, self.total))


@contextlib.contextmanager
def counting_frames(name: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Inside, a bar of frames.

    Yields a function (done) that says how many frames are.
    """
    columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), MofNCompleteColumn()
    with CountingBar(name, *columns, console=console, total=total, say="{} of {} frames".format) as bar:
        yield bar.tell
        bar.tell(total)


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


def count_loops(count: int) -> str:
    """How many loops were closed, in words."""
    return "1 loop" if count == 1 else f"{count} loops"
