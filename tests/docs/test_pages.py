"""README and documentation as a whole: the README stays short, tables are up to date, nothing is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from gradslam_ng.cli import COMMANDS

ATTEMPTS = ("asked", "tried", "did not help", "what helped", "attempt", "marks", "brief")


def test_the_readme_is_short(pages):
    page = pages["README.md"]
    assert len(page.text.splitlines()) <= 100
    assert len(page.prose.split()) <= 700
    tables = re.findall(r"(?:^\|.*\n)+", page.text, re.MULTILINE)
    assert tables and all(len(table.splitlines()) - 2 <= 6 for table in tables)


@pytest.mark.parametrize("words", ATTEMPTS)
def test_the_readme_tells_of_no_attempts(pages, words):
    assert not re.search(rf"\b{words}\b", pages["README.md"].text, re.IGNORECASE)


def test_tables_are_up_to_date(capsys):
    status = report.main(["--check"])
    assert status == 0, capsys.readouterr().out + "run `python -m benchmarks.report`"


def test_every_table_says_how_it_was_measured():
    """Command, machine, threads; and where images are tracked, their size and the size that is tracked."""
    from benchmarks.tables import TABLES

    without_images = {"posegraph", "posegraph-growth", "posegraph-large", "gradients", "curves", "curves-ways"}
    without_images |= {name for name in TABLES if name.startswith(("control-", "grids-", "harmonic-"))}
    for name, table in TABLES.items():
        *_, caption = lines = table().splitlines()
        assert "python -m benchmarks." in caption
        if caption.startswith("Not measured yet"):
            continue
        assert re.search(r"\d( or \d+)* cores?, .*; threads: [^;]*\w", caption), name
        assert ("images: " in caption) != (name in without_images), name
        assert name in without_images or re.search(
            r"\d+x\d+|tracked at|tracked, across|as above|as in", f"{lines[0]}{caption}"
        )


def test_every_table_is_on_a_page(pages):
    from benchmarks.tables import TABLES

    shown = {found[2] for page in pages.values() for found in report.BLOCK.finditer(page.text)}
    assert shown == TABLES.keys()


def test_a_run_at_full_working_resolution_joins_the_tables(tmp_path, monkeypatch):
    """`python -m benchmarks.throughput --sequence redkitchen --preset accurate` leaves a file of its own."""
    from benchmarks.tables import TABLES, common

    for path in common.RESULTS.glob("throughput_*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    run = json.loads((tmp_path / "throughput_redkitchen.json").read_text())
    run |= {"preset": "accurate", "working_size": "640x480"}
    (tmp_path / "throughput_redkitchen_accurate.json").write_text(json.dumps(run))
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    common.load.cache_clear()
    try:
        tables = {name: TABLES[name]() for name in ("headline", "throughput", "throughput-stages")}
    finally:
        common.load.cache_clear()
    assert "| 7-Scenes redkitchen, `accurate` | 640x480 | 640x480 |" in tables["headline"]
    assert "| 640x480 | 640x480 | accurate |" in tables["throughput"]
    assert "| redkitchen_accurate |" in tables["throughput-stages"]


def test_a_stale_table_is_noticed():
    page = "text\n<!-- table a -->\nold\n<!-- end a -->\nmore"
    renewed = report.renew(page, {"a": lambda: "new"})
    assert renewed == "text\n<!-- table a -->\n\nnew\n\n<!-- end a -->\nmore"
    assert report.renew(renewed, {"a": lambda: "new"}) == renewed


def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)", page.prose):
        assert (page.path.parent / target).exists(), target


def test_every_command_is_on_the_page_of_the_command_line(pages):
    text = pages["docs/command-line.md"].text
    for name in COMMANDS:
        assert f"## {name}\n" in text and f"```{{command-help}} {name}\n" in text, name


def test_the_help_on_the_page_is_plain_text(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "docs" / "_ext")
    from command_help import command_help

    text = command_help("run")
    assert text.startswith("usage: gradslam-ng run") and "--system" in text and "File or folder of a sequence" in text
    assert not re.search("[\x1b│╭╰─]|---", text)


def test_every_demo_has_a_page(pages, root):
    """Modules that can be run, and packages with a `__main__`."""
    scripts = [path for path in (root / "demos").rglob("*.py") if '__name__ == "__main__"' in path.read_text()]
    runnable = [path for path in scripts if path.stem != "__main__"]
    runnable += [path.parent for path in scripts if path.stem == "__main__"]
    assert len(runnable) >= 13
    for path in runnable:
        page = f"docs/demos/{path.stem.replace('_', '-')}.md"
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        assert page in pages and f"python -m {module} " in pages[page].text, module
        assert page in pages["demos/README.md"].text, module


def test_every_status_is_explained(pages):
    """Where a user looks up why a frame was lost."""
    from gradslam_ng.odometry import TrackingStatus

    table = re.search(r"\| status \|.*?\n\n", pages["docs/getting-started.md"].text, re.DOTALL)[0]
    explained = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert explained == {status.name.lower() for status in TrackingStatus} - {"tracked"}


def test_the_glossary_says_where(pages, root):
    """Each row names a file, and its names of code are found there."""
    rows = re.findall(r"^\| (.+?) \| .+ \| `(\S+)` \|$", pages["docs/glossary.md"].text, re.MULTILINE)
    assert len(rows) > 40
    missing = []
    for term, file in rows:
        path = root / "gradslam_ng" / file
        source = path.read_text() if path.is_file() else ""
        missing += [f"{name} in {file}" for name in re.findall(r"`(\w+)`", term) if name not in words(source)]
        missing += [] if path.is_file() else [file]
    assert not missing


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


@pytest.mark.slow
def test_the_documentation_builds_without_warnings(root, tmp_path):
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    folders = ["-D", "nb_execution_mode=off", "-d", str(tmp_path / "trees"), "docs", str(tmp_path / "html")]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", *folders]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path, "html", "api", "slam.html").is_file()
