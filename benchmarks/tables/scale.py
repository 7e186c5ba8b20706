"""Tables of the first frame, of runs beside each other, and of what grows with a run and with more runs."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.common import found, load, markdown, measured, sequence_name, table

RUNS = ("plain", "from nothing", "all on disk")


def not_measured(command: str) -> str:
    """In the place of a table whose results are not there yet."""
    return f"Not measured yet: `python -m benchmarks.{command}`."


@table
def startup() -> str:
    columns = (
        "sequence", "images", "tracked at", "preset", "run", "frames", "s", "times as fast as plain",
        "to the first frame, s", "longest later frame, s", "functions compiled", "of them twice",
    )  # fmt: skip
    rows, names = [], found("startup_")
    command = "startup --sequence FOLDER --frames 300"
    if not names:
        return not_measured(command)
    for file in map(load, names):
        sequence = sequence_name(file)
        for name in RUNS:
            run = file[name]
            faster = file["times_as_fast_as_plain"].get(name)
            rows.append([
                sequence, file["images"], file["machine"]["working_size"], file["preset"], name, str(run["frames"]),
                f"{run['seconds']:.1f}", "" if faster is None else f"{faster:.2f}", f"{run['first']:.2f}",
                f"{run['longest']:.2f}", str(run["compiled"]), str(run["compiled_twice"]),
            ])  # fmt: skip
    return markdown(columns, rows, measured(command, names, images="as in the columns"))


@table
def side_by_side() -> str:
    columns = ("sequence", "preset", "frames", "alone on one thread, ms a frame", "two at once, ms a frame", "times")
    rows, names = [], found("side_by_side_")
    if not names:
        return not_measured("side_by_side --sequence FOLDER")
    for file in map(load, names):
        sequence = sequence_name(file)
        for row in file["rounds"]:
            both, times = (
                ", ".join(f"{x:{form}}" for x in row[name]) for name, form in (("both", ".1f"), ("times", ".2f"))
            )
            rows.append([sequence, file["preset"], str(file["frames"]), f"{row['alone']:.1f}", both, times])
        rows.append([f"{sequence}, the slower of both, median", "", "", "", "", f"{file['times']:.2f}"])
    machines = [load(name)["machine"] for name in names]
    images = ", ".join(sorted({f"{each['size']}, tracked at {each['working_size']}" for each in machines}))
    return markdown(columns, rows, measured("side_by_side --sequence FOLDER", names, images=images))


@table
def building() -> str:
    columns = (
        "frames", "ms that pass a frame", "ms of the processor, tracking", "looking for loops", "memory, MB",
        "surfels tracked against", "in the archive", "on disk", "keyframes", "loops",
    )  # fmt: skip
    if not found("building"):
        return not_measured("building --frames 20000 --meters 500 --laps 2 --memory 100 --no-unlimited")
    run = load("building")["runs"]["limited"]
    rows = [building_row(row) for row in run["rows"]]
    last = run["last_to_first"]
    rows.append([
        "last by first", f"{last['ms']:.2f}", f"{last['tracking']:.2f}", f"both {last['both']:.2f}",
        f"most {run['peak_mb']:,.0f}", *[""] * 5,
    ])  # fmt: skip
    options = " ".join(f"--{name} {load('building')[name]:g}" for name in ("frames", "meters", "laps", "memory"))
    command = f"building {options} --no-unlimited"
    return markdown(columns, rows, measured(command, ["building"], images=load("building")["machine"]["size"]))


def building_row(row: dict[str, Any]) -> list[str]:
    counts = (f"{row[name]:,}" for name in ("active", "archive", "stored", "keyframes", "loops"))
    processor = row["processor_ms"]
    return [
        f"{row['frames']:,}", f"{row['ms']:.0f}", f"{processor['tracking']:.1f}", f"{processor['detecting']:.1f}",
        f"{row['resident_mb']:,.0f}", *counts,
    ]  # fmt: skip


@table
def join_runs() -> str:
    columns = (
        "runs", "belong together", "joined", "links", "keyframes", "poses off by, cm", "ATE of all, cm",
        "of one run, cm", "times", "s",
    )  # fmt: skip
    if not found("join_runs"):
        return not_measured("join_runs")
    rows = []
    for row in load("join_runs")["rows"]:
        all_, one = row["ate_cm"], row["ate_one_run_cm"]
        joined = f"{row['joined'] if row['joined'] > 1 else 0} of {row['runs']}" + (", falsely" if row["false"] else "")
        off = ", ".join(f"{100 * median:.1f}" for median, _ in row["meters"]) if row["joined"] > 1 else ""
        rows.append([
            row["case"], "yes" if row["together"] else "no", joined, str(row["links"]),
            ", ".join(map(str, row["keyframes"])), off, *("" if x is None else f"{x:.2f}" for x in (all_, one)),
            "" if all_ is None else f"{all_ / one:.2f}", f"{row['seconds']:.0f}",
        ])  # fmt: skip
    images = "640x480 and 540x360, tracked at half; rendered ones 160x120"
    return markdown(columns, rows, measured("join_runs", ["join_runs"], images=images))
