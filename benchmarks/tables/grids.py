"""Tables of shortest paths, travel times and value iteration."""

from __future__ import annotations

from benchmarks.tables.common import load, markdown, measured, number, table

MEASURED = "planning.grids", ["planning_grids"]


@table
def grids_values() -> str:
    columns = ("8 actions, a quarter walls", "forward, ms", "steps", "backward, ms", "kept, MB", "gradient off by")
    rows = [
        [
            " x ".join([name.split()[0]] * 2) + f", {name.split()[1]}",
            f"{row['forward_ms']:.0f}",
            str(row["iterations"]),
            f"{row['backward_ms']:.1f}",
            f"{row['kept_mb']:.1f}",
            number(row["error"]) if "error" in row else "-",
        ]
        for name, row in load("planning_grids")["values"].items()
    ]
    return markdown(columns, rows, measured(*MEASURED))


@table
def grids_sweeps() -> str:
    columns = ("sweeps", *(f"{way}: {what}" for way in ("implicit", "unroll") for what in ("backward, ms", "kept, MB")))
    rows = [
        [count] + [f"{row[way][key]:.1f}" for way in ("implicit", "unroll") for key in ("backward_ms", "kept_mb")]
        for count, row in load("planning_grids")["sweeps"].items()
    ]
    return markdown(columns, rows, measured(*MEASURED))


@table
def grids_home() -> str:
    columns = ("mazes, and a winding corridor", "starts that arrive", "longest path, steps")
    rows = [
        [f"{size} x {size}", f"{100 * row['success']:.0f}%", f"{row['longest']:,}"]
        for size, row in load("planning_grids")["home"].items()
    ]
    return markdown(columns, rows, measured(*MEASURED))


@table
def grids_travel() -> str:
    columns = ("cost", "ours, ms", "gradient, ms", "scikit-fmm, order 1, ms", "order 2, ms")
    keys = ("forward_ms", "backward_ms", "skfmm_1_ms", "skfmm_2_ms")
    rows = [
        [name, *(f"{row[key]:.0f}" if key in row else "-" for key in keys)]
        for name, row in load("planning_grids")["travel"]["rows"].items()
    ]
    return markdown(columns, rows, measured(*MEASURED))


@table
def grids_learned() -> str:
    sizes = ("15", "27", "49")
    columns = ("noise of a pixel", "seconds", *(f"{size} x {size}" for size in sizes))
    rows = [
        [noise, f"{row['seconds']:.0f}", *(f"{100 * row[size]['success']:.1f}%" for size in sizes)]
        for noise, row in load("planning_learned_map")["rows"].items()
    ]
    return markdown(columns, rows, measured("planning.learned_map", ["planning_learned_map"]))


def convolutional(part: str) -> str:
    return measured("planning.convolutional", [f"planning_convolutional_{part}"])


@table
def grids_runtime() -> str:
    columns = ["iterations", "implicit: taken", "converged", "forward, ms", "backward, ms", "kept, MB"]
    columns += ["unroll: forward, ms", "backward, ms", "kept, MB"]
    rows = []
    for count, row in load("planning_convolutional_runtime")["runtime"].items():
        one, other = row["implicit"], row["unroll"]
        cells = [count, f"{one['taken']:.0f}", f"{100 * one['converged']:.0f}%"]
        cells += [f"{one['forward_ms']:.0f}", f"{one['backward_ms']:.0f}" if one["converged"] else "-"]
        cells += [f"{one['kept_mb']:.0f}", *(f"{other[key]:.0f}" for key in ("forward_ms", "backward_ms", "kept_mb"))]
        rows.append(cells)
    return markdown(columns, rows, convolutional("runtime"))


@table
def grids_success() -> str:
    sizes = ("15", "27", "49")
    columns = ("trained at 15 x 15", "steps", "converged", "tried with iterations", *(f"{x} x {x}" for x in sizes))
    rows = [
        [name, str(row["steps"]), f"{100 * row['converged']:.0f}%", tried]
        + [f"{100 * row[tried][size]['success']:.1f}%" for size in sizes]
        for name, row in load("planning_convolutional_success")["success"].items()
        for tried in ("as trained", "more")
    ]
    return markdown(columns, rows, convolutional("success"))
