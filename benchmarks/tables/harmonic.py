"""Tables of harmonic functions, policy iteration and top-k selection."""

from __future__ import annotations

from benchmarks.tables.common import load, markdown, measured, number, table

MEASURED = "planning.harmonic", ["planning_harmonic"]


@table
def harmonic_grid() -> str:
    columns = ("256 x 256, a fifth walls", "cells", "first call, s", "potential, ms", "all gradients, ms")
    rows = [
        [name, f"{row['cells']:,}", f"{row['first_ms'] / 1e3:.1f}"]
        + [f"{row[key]:.0f}" for key in ("forward_ms", "backward_ms")]
        for name, row in load("planning_harmonic")["grid"].items()
    ]
    return markdown(columns, rows, measured(*MEASURED))


@table
def harmonic_home() -> str:
    found = load("planning_harmonic")["home"]
    solvers = [name for name in next(iter(found.values())) if name not in ("cells", "least_log10")]
    columns = ("winding corridor", "least probability", *solvers)
    rows = [
        [f"{size} x {size}", f"1e{row['least_log10']:.0f}"]
        + ["refused" if row[name] is None else f"{100 * row[name]:.0f}%" for name in solvers]
        for size, row in found.items()
    ]
    return markdown(columns, rows, measured(*MEASURED))


@table
def harmonic_coelho() -> str:
    columns = ("gradient, start", "above the optimum, %", "best", "last", "90% of the gain", "ms a step", "least gain")
    rows = [
        [
            name,
            *(number(row[f"{key}_percent"]) for key in ("start", "best", "last")),
            str(row["steps_to_90"]),
            f"{row['ms_a_step']:.1f}",
            number(row["least_gain"]),
        ]
        for name, row in load("planning_harmonic")["coelho"]["rows"].items()
    ]
    return markdown(columns, rows, measured(*MEASURED))


@table
def harmonic_top_k() -> str:
    columns = ("10 of 100, batch 32, float32", "forward, ms", "forward and backward, ms", "sum off by")
    rows = [
        [name, *(f"{row[key]:.2f}" for key in ("forward_ms", "both_ms")), number(row["error"])]
        for name, row in load("planning_harmonic")["top_k"].items()
    ]
    return markdown(columns, rows, measured(*MEASURED))
