"""Tables of linear-quadratic and model predictive control."""

from __future__ import annotations

from benchmarks.tables.common import load, markdown, measured, number, table

COMMAND = "planning.control", ["planning_control"]
NAMES = {"ours": "gradslam_ng", "ours, one system": "gradslam_ng, one system", "recorded": "its recursion recorded"}


@table
def control_lqr() -> str:
    columns = (
        "n = 8, m = 2",
        "solver",
        "forward, ms",
        "backward, ms",
        "times as long as ours",
        "differs by (gradient)",
    )
    rows = []
    for shape, row in load("planning_control")["lqr"].items():
        for who, figures in row.items():
            like = row["ours, one system" if who in ("PyPose", "ours, one system") else "ours"]
            times = [figures[f"{way}_ms"] for way in ("forward", "backward")]
            ratio = sum(times) / (like["forward_ms"] + like["backward_ms"])
            difference = f"{number(figures['difference'])} ({number(figures['gradient_difference'])})"
            rows.append([
                shape, NAMES.get(who, who), *(f"{t:.1f}" for t in times), f"{ratio:.1f}",
                "-" if figures is like else difference,
            ])  # fmt: skip
    return markdown(columns, rows, measured(*COMMAND))


@table
def control_memory() -> str:
    columns = ("float64, batch 32", "inputs and outputs, MB", "kept for the backward pass, MB")
    rows = [
        [name.replace("recorded", NAMES["recorded"]), f"{row['data_mb']:.2f}", f"{row['kept_mb']:.2f}"]
        for name, row in load("planning_control")["memory"].items()
    ]
    return markdown(columns, rows, measured(*COMMAND))


@table
def control_box() -> str:
    columns = ("solver", "forward, ms", "backward, ms", "ours takes", "error of the solution", "of the gradient")
    solvers = {name: row for name, row in load("planning_control")["box"].items() if name != "active"}
    mine = solvers["ours"]["forward_ms"] + solvers["ours"]["backward_ms"]
    rows = [
        [
            NAMES.get(name, name), f"{row['forward_ms']:.1f}", f"{row['backward_ms']:.1f}",
            "-" if name == "ours" else f"{mine / (row['forward_ms'] + row['backward_ms']):.3f} of it",
            number(row["error"]), number(row["gradient_error"]),
        ]
        for name, row in solvers.items()
    ]  # fmt: skip
    return markdown(columns, rows, measured(*COMMAND))


@table
def control_gradients() -> str:
    names = ("constants", "weights", "linear", "x0")
    columns = ("pendulum, T = 20", "way", "gravity, mass, length", "quadratic weights", "linear weights", "start")
    ways = {"implicit": '`"implicit"`', "implicit-gn": '`"implicit-gn"`'}
    rows = []
    for case, parts in load("planning_control")["nonlinear"].items():
        for way, row in parts.items():
            errors = [number(row[name]) if name in row else "-" for name in names]
            rows.append([case.removeprefix("pendulum "), ways.get(way, way), *errors])
    return markdown(columns, rows, measured(*COMMAND))


@table
def control_imitation() -> str:
    columns = ("learned", "error of parameters at most", "control MSE on the test", "before", "plans of ten", "seconds")
    learned = {"dx": "mass, length", "cost": "three weights, goal angle and rate", "joint": "all of these at once"}
    rows = []
    for mode, runs in load("planning_imitation")["modes"].items():
        worst = {key: max(run[key] for run in runs) for key in runs[0]}
        rows.append([
            learned[mode], *(number(worst[key]) for key in ("parameters", "control_mse", "first_mse")),
            str(worst["evaluations"]), f"{worst['seconds']:.1f}",
        ])  # fmt: skip
    return markdown(columns, rows, measured("planning.imitation", ["planning_imitation"]))
