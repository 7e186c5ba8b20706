"""What commands say while they work: beside something that turns on a terminal, in lines where they are piped."""

from __future__ import annotations

import io
import logging
from logging.handlers import BufferingHandler

import pytest
from rich.console import Console

from gradslam_ng.commands import console as consoles
from gradslam_ng.commands.console import CountingBar, PlainLines, show_messages, working
from gradslam_ng.commands.progress import FewOfEachKind


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What is written to a terminal in place of the standard error."""
    written = io.StringIO()
    monkeypatch.setattr(consoles, "Console", lambda **_: Console(file=written, force_terminal=True, width=60))
    return written


def test_steps_are_lines_on_the_standard_error_where_it_is_piped(capsys):
    with working("reading [a]") as tell:
        tell("out/run_1")
    assert capsys.readouterr() == ("", "reading [a]\nout/run_1\n")


def test_steps_replace_each_other_on_a_terminal(terminal):
    with working("reading") as tell:
        tell("out/[run]")
    shown = terminal.getvalue()
    assert "out/[run]" in shown and "\x1b[2K" in shown  # in the place of what was there
    assert not shown.endswith("out/[run]\n")


def test_a_thousand_damaged_frames_do_not_fill_the_console():
    console, everything = Console(file=io.StringIO(), width=200), BufferingHandler(1000)
    log = logging.Logger("of a run")
    log.handlers = [FewOfEachKind(console=console, show_time=False, show_path=False), everything]
    for number in range(20):
        log.warning("skipped: %s", f"frame {number}")
    log.warning("another")
    shown = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert len(shown) == 6 and shown[0].endswith("skipped: frame 0") and shown[5].endswith("another")
    assert shown[4].endswith("skipped: frame 4; more of these are in run.log alone")
    assert [record.getMessage() for record in everything.buffer][4:6] == ["skipped: frame 4", "skipped: frame 5"]


def test_lines_now_and_then_only_where_nobody_sees_a_bar(monkeypatch):
    monkeypatch.setattr(consoles, "PRINTED_EVERY", 0.0)
    for is_terminal, expected in ((False, "1 of 2 [frames]\n"), (True, "")):
        written = io.StringIO()
        PlainLines(Console(file=written, force_terminal=is_terminal)).tell("1 of 2 [frames]")
        assert written.getvalue() == expected


def test_what_is_counted_is_told_with_its_total_once_that_is_known(monkeypatch):
    monkeypatch.setattr(consoles, "PRINTED_EVERY", 0.0)
    written = io.StringIO()
    with CountingBar("[a]", console=Console(file=written), total=None, say="{} of {}".format) as bar:
        bar.tell(1)
        bar.tell(2, 4)
        bar.tell(4)
    lines = written.getvalue().splitlines()
    assert lines[:3] == ["1 of None", "2 of 4", "4 of 4"]
    assert lines[3].startswith("[a]") and "4/4" in lines[3]


def test_of_other_packages_only_what_they_warn_of_is_shown():
    shown = BufferingHandler(10)
    show_messages(shown)
    logging.getLogger("matplotlib.font_manager").info("generated new fontManager")
    logging.getLogger("matplotlib").warning("no fonts")
    logging.getLogger("gradslam_ng").info("compiled")
    assert [record.getMessage() for record in shown.buffer] == ["no fonts", "compiled"]
