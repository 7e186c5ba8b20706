"""The table of a sweep, as CSV and as a page with pictures, written anew after each run."""

from __future__ import annotations

import csv
import html
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradslam_ng.commands.sweep_runs import Outcome, Run
from gradslam_ng.io.atomic import write_whole

STYLE = """body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child, th:nth-last-child(-n+2), td:nth-last-child(-n+2) { text-align: left; }
td { overflow-wrap: anywhere; } img { height: 6rem; }
.failed td { background: #fdecea; } .unreliable td { background: #fff6e0; } .waiting td { color: #999; }"""
COLUMNS = {  # of the table, and where metrics.json has them
    "frames": "frames.in_sequence",
    "tracked": "frames.tracked",
    "lost": "frames.lost",
    "ate_m": "ate.rmse",
    "rpe_m": "rpe.translation.rmse",
    "rpe_degrees": "rpe.rotation.rmse",
    "ms_per_frame": "milliseconds_per_frame.total",
    "memory_mb": "peak_memory_mb",
}


def write_tables(root: Path, outcomes: dict[Run, Outcome | None]) -> None:
    """results.csv and results.html; None for a run that has not ended."""
    rows = [_row(run, outcome) for run, outcome in outcomes.items()]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    for name, text in (("results.csv", file.getvalue()), ("results.html", _page(list(outcomes), rows))):
        write_whole(root / name, text)


def state_of(outcome: Outcome | None) -> str:
    """A word for what came of a run."""
    if outcome is None:
        return "waiting"
    return {0: "done", 3: "unreliable"}.get(outcome.exit_status, "failed")


def read_metrics(run: Run) -> dict[str, Any]:
    """What the run measured; nothing where it left no figures."""
    try:
        return json.loads((run.out / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def why_failed(run: Run) -> str:
    """The first line of the last error that the run printed, else the last line."""
    try:
        text = run.log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [""])[-1]


def _row(run: Run, outcome: Outcome | None) -> dict[str, Any]:
    state = state_of(outcome)
    metrics = read_metrics(run) if outcome is not None and outcome.has_results else {}
    row: dict[str, Any] = {"name": run.name, "state": state}
    row |= {column: _find(metrics, key) for column, key in COLUMNS.items()}
    row["seconds"] = "" if outcome is None else outcome.seconds
    row["remark"] = why_failed(run) if state == "failed" else metrics.get("unreliable_because") or ""
    return row


def _find(metrics: dict[str, Any], key: str) -> Any:
    """A figure by its keys with points between them, empty where there is none."""
    value: Any = metrics
    for name in key.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return round(value, 5) if isinstance(value, float) else value


def _page(runs: list[Run], rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0]) + "<th></th>"
    body = []
    for run, row in zip(runs, rows, strict=True):
        values, folder = [html.escape(str(value)) for value in row.values()], quote(run.name)
        if (run.out / "report.html").is_file() and row["frames"] != "":
            values[0] = f'<a href="{folder}/report.html">{values[0]}</a>'
        cells = [f"<td>{value}</td>" for value in values]
        shown = [name for name in ("map.png", "trajectory.png") if (run.out / name).is_file() and row["frames"] != ""]
        pictures = "".join(
            f'<a href="{folder}/{name}"><img src="{folder}/{name}" alt="{name} of {html.escape(run.name)}"></a>'
            for name in shown
        )
        body.append(f'<tr class="{row["state"]}">{"".join(cells)}<td>{pictures}</td></tr>')
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return f"<!doctype html>{meta}<title>sweep</title><style>{STYLE}</style>{table}\n"
