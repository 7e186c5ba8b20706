"""`gradslam-ng download NAME`: fetch a public sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column, Table

from gradslam_ng import datasets
from gradslam_ng.commands.arguments import OPTIONAL, OptionalStr
from gradslam_ng.commands.console import CountingBar

Name = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]", help_behavior_hint=OPTIONAL)]


def download(name: Name = None, /, out: Path = Path("datasets"), url: OptionalStr = None) -> None:
    """Fetch a public sequence by name and unpack it; without a name, list the catalog.

    Args:
        name: Of the sequence, such as tum/fr1_desk.
        out: Folder where sequences live.
        url: A mirror of the archive, in place of the catalog's address.
    """
    console = Console()
    if name is None:
        console.print(_catalog())
        return
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with CountingBar(name, *columns, console=console, total=None, say=_say_megabytes) as bar:
        folder = datasets.download(name, out, url, bar.tell)
    entry = datasets.CATALOG[name]
    console.print(f"{escape(str(folder))}: license {escape(entry.license)}", soft_wrap=True)


def _say_megabytes(done: int, total: int | None) -> str:
    return f"{done / 1e6:.0f} MB" + ("" if total is None else f" of {total / 1e6:.0f}")


def _catalog() -> Table:
    whole = Column("name", no_wrap=True)  # it is what one types
    table = Table(whole, "camera", "license", title="public sequences")
    for entry in datasets.CATALOG.values():
        table.add_row(entry.name, entry.camera, entry.license)
    return table
