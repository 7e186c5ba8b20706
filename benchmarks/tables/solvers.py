"""Tables of pose graphs, gradients and curve fitting."""

from __future__ import annotations

import statistics

from benchmarks.tables.common import BY_DEFAULT, load, markdown, measured, number, table

SOLVERS = ("gradslam_ng", "gtsam", "gtsam_lm")


@table
def posegraph() -> str:
    columns = (
        "graph", "sparse solver", "error", "GTSAM's error", "seconds", "GTSAM's", "times GTSAM's",
        "backward / forward", "`implicit-gn` gradient off by",
    )  # fmt: skip
    rows = []
    for name, solver in (("posegraph", "SciPy"), ("posegraph_cholmod", "CHOLMOD")):
        for graph, row in load(name)["graphs"].items():
            theirs = row["error"]["gtsam"]
            bias = row.get("bias_of_gauss_newton_gradient")
            biased = "-" if bias is None else f"{bias:.1%}"
            rows.append([
                graph, solver, f"{row['error']['gradslam_ng']:.6g}",
                "indeterminate" if isinstance(theirs, str) else f"{theirs:.6g}",
                f"{row['seconds']['gradslam_ng']:.2f}", f"{row['seconds']['gtsam']:.2f}",
                f"{row['times_gtsam']:.2f}", f"{row['backward_of_forward']:.0%}", biased,
            ])  # fmt: skip
    return markdown(columns, rows, measured("posegraph", ["posegraph", "posegraph_cholmod"], "1"))


@table
def posegraph_growth() -> str:
    columns = ("poses", "edges", "analyze, s", "optimize, s", "backward, s", "process memory, MB")
    seconds = ("analyze", "optimize", "backward")
    rows = [
        [f"{row['poses']:,}", f"{row['edges']:,}", *(f"{row[name]:.2f}" for name in seconds), f"{row['memory_mb']:.0f}"]
        for row in load("posegraph")["growth"]
    ]
    return markdown(columns, rows, measured("posegraph", ["posegraph"], "1"))


@table
def posegraph_large() -> str:
    names = ("ours", "GTSAM", "GTSAM LM")
    columns = ("edges", *(f"{name}, {figure}" for figure in ("s", "MB", "error") for name in names))
    data = load("posegraph_large")
    rows = []
    for row in data["rows"]:
        found = [row.get(name, {}) for name in SOLVERS]
        figures = [
            format(each[name], form) if name in each else "ended" if "ended" in each else "-"
            for name, form in (("seconds", ".1f"), ("memory_mb", ".0f"), ("error", ".7g"))
            for each in found
        ]
        rows.append([f"{row['edges']:,}", *figures])
    exponents = (_exponents(data, name, figure) for figure in ("seconds", "memory_mb") for name in SOLVERS)
    rows.append(["growth exponents", *exponents, *[""] * len(names)])
    return markdown(columns, rows, measured("posegraph_large --peers PYTHON", ["posegraph_large"], "1"))


def _exponents(data: dict, name: str, figure: str) -> str:
    return ", ".join(f"{value:.2f}" for value in data["growth"][name][figure])


@table
def gradients() -> str:
    data = load("gradients")
    columns = (
        "`backward=`", "forward, ms (20 iterations)", "backward, ms", "backward / forward",
        "peak memory, MB, 10 / 20 / 200 iterations", "difference from `unroll`, least squares",
        "difference from `unroll`, tight robust kernel",
    )  # fmt: skip
    loose, tight = data["relative_error"].values()
    rows = []
    for mode in dict.fromkeys(name.split()[0] for name in data["cost"]):
        few, usual, many = (data["cost"][f"{mode} {n}"] for n in (10, 20, 200))
        error = [part[mode]["4"] if mode == "truncated" else part.get(mode) for part in (loose, tight)]
        rows.append([
            f"`{mode}`" + (", last 5" if mode == "truncated" else ""), f"{usual['forward_ms']:.0f}",
            f"{usual['backward_ms']:.0f}", f"{usual['backward_over_forward']:.2f}",
            " / ".join(f"{row['peak_memory_mb']:.1f}" for row in (few, usual, many)),
            *("-" if e is None else number(e, 3) for e in error),
        ])  # fmt: skip
    caption = "16 point-to-plane problems of 1,000 points. " + measured("gradients", ["gradients"], "1")
    return markdown(columns, rows, caption)


@table
def pipeline_gradients() -> str:
    columns = (
        "system and odometry",
        "forward, ms",
        "backward, ms",
        "backward / forward",
        "gradient's difference from `unroll`",
    )
    rows = [
        [name.replace("ground-truth", "known poses"), f"{row['forward_ms']:.0f}", f"{row['backward_ms']:.0f}",
         f"{row['ratio']:.2f}", number(row["deviation"], 3) if row.get("deviation") else "-"]
        for name, row in load("pipeline_gradients")["rows"].items()
    ]  # fmt: skip
    images = "four frames of 320x240, tracked as they are"
    return markdown(columns, rows, measured("pipeline_gradients", ["pipeline_gradients"], "1", images))


@table
def gradient_errors() -> str:
    columns = "scene", "system", "pairs of output and input", "off by more than 1e-3", "median relative error"
    rows = [
        [*name.split(", "), str(row["pairs"]), str(row["off"]), number(row["median"], 3)]
        for name, row in load("gradient_errors")["rows"].items()
    ]
    images = "two frames of 32x24, float64"
    return markdown(columns, rows, measured("gradient_errors", ["gradient_errors"], "1", images))


@table
def memory() -> str:
    gradslam = {"5": "180", "20": "1,312", "50": "6,920"}
    data = load("memory")["rows"]
    columns = (
        "frames", "tensors, MB", "with `checkpoint=True`", "process, MB", "with `checkpoint=True`", "target",
        "target with `checkpoint=True`", "gradSLAM 0.1.0, MB",
    )  # fmt: skip
    rows = []
    for frames, theirs in gradslam.items():
        plain, kept = data[f"{frames} plain"], data[f"{frames} checkpoint"]
        rows.append([
            frames, f"{plain['tensors_mb']:.0f}", f"{kept['tensors_mb']:.0f}", f"{plain['process_mb']:.0f}",
            f"{kept['process_mb']:.0f}", f"{plain['mark_mb']:.0f}", f"{kept['mark_mb']:.0f}", theirs,
        ])  # fmt: skip
    grown = load("memory")["training"]
    images = "320x240, fused as they are"
    caption = (
        f"Training, {grown['steps']} steps: {grown['after_warm_up_mb']:.0f} MB after warming up, "
        f"{grown['last_mb']:.0f} MB at the end. "
    )
    return markdown(columns, rows, caption + measured("memory", ["memory"], BY_DEFAULT, images))


@table
def curves() -> str:
    columns = (
        "curve", "iterations", "gradient descent", "Gauss-Newton", "LM", "soft-damped LM (least and greatest draw)",
        "its median", "published, soft-damped",
    )  # fmt: skip
    cells = {(c["curve"], c["iterations"], c["rule"]): c for c in load("curves")["cells"]}
    rows = []
    for curve, iterations in dict.fromkeys((curve, iterations) for curve, iterations, _ in cells):
        descent, newton, hard, soft = (cells[curve, iterations, rule] for rule in ("GD", "GN", "LM", "soft LM"))
        low, high = soft["mean_of_draws"]
        rows.append([
            curve, str(iterations), *(number(c["mean"], 3) for c in (descent, newton, hard)),
            f"{number(soft['mean'], 3)} ({number(low, 3)} to {number(high, 3)})", number(soft["median"], 3),
            number(soft["published_soft"], 3),
        ])  # fmt: skip
    caption = "Mean squared error, means of ten draws of 100 problems. " + measured("curves", ["curves"], BY_DEFAULT)
    return markdown(columns, rows, caption)


@table
def curves_ways() -> str:
    cells = load("curves_ways")["cells"]
    problems = list(dict.fromkeys((c["curve"], c["iterations"]) for c in cells))
    means = {(c["way"], c["curve"], c["iterations"]): c for c in cells}
    rows = [
        [way, *(number(means[way, curve, n]["mean"], 3) for curve, n in problems)]
        for way in dict.fromkeys(c["way"] for c in cells)
    ]
    rows.append(["published", *(number(means[cells[0]["way"], *problem]["published_soft"], 3) for problem in problems)])
    columns = ("way", *(f"{curve}, {n}" for curve, n in problems))
    return markdown(columns, rows, measured("curves_ways", ["curves_ways"], BY_DEFAULT))


@table
def finite_steps() -> str:
    rows = load("finite_steps")["rows"]
    systems = sorted({name.split("/")[1].removesuffix(", plan") for name in rows})
    scenes = {name.split("/")[0] for name in rows}
    columns = ("system, association", "loss", "0.1 mm", "1 mm", "5 mm", "10 mm", "forward and backward, s")
    lines = []
    for system in systems:
        every = [row for name, row in rows.items() if name.endswith((f"/{system}", f"/{system}, plan"))]
        for loss in dict.fromkeys(loss for row in every for loss in row["correlation"]):
            parts = [row for row in every if row["correlation"].get(loss)]
            kinds = [kind for row in parts for kind in row["correlation"][loss].values()]
            cells = []
            for step in kinds[0]:
                values = [kind[step] for kind in kinds]
                cells.append(f"{statistics.median(values):.2f} ({min(values):.2f})")
            seconds = statistics.median(row["seconds"] for row in parts)
            lines.append([f"{system}, {len(parts)} scenes", loss, *cells, f"{seconds:.1f}"])
    counts = " or ".join(map(str, sorted({row["count"] for row in rows.values()})))
    caption = (
        "Correlation of the change of a loss with what its gradient foretells, median (least) over scenes "
        f"({', '.join(sorted(scenes))}) and kinds of noise, {counts} disturbances each. "
    )
    return markdown(columns, lines, caption + measured("finite_steps", ["finite_steps"], "1", "three frames of 80x60"))


@table
def learning() -> str:
    rows = load("learning")["rows"]
    columns = (
        "learned",
        "backward",
        "error before, mm",
        "after",
        "loss before",
        "after",
        "gradient through depth",
        "through poses",
    )
    lines = []
    for name, row in rows.items():
        task, way = name.split("/")
        losses = [number(row[key], 3) if key in row else "-" for key in ("loss before", "loss after")]
        parts = [number(row[key], 3) for key in ("through depth", "through poses")]
        if "cosine to what is wrong" in row:
            cosines = [row["cosine to what is wrong"][key] for key in ("through depth", "through poses")]
            parts = [f"{part} ({cosine:.2f})" for part, cosine in zip(parts, cosines, strict=True)]
        lines.append([task, f"`{way}`", f"{row['error before']:.1f}", f"{row['error after']:.1f}", *losses, *parts])
    caption = "Length of the first gradient's parts, in brackets their cosine to what is wrong with depth. "
    return markdown(columns, lines, caption + measured("learning", ["learning"], "1", "clips of 80x60"))


@table
def training() -> str:
    return _training("training", "training")


@table
def training_double() -> str:
    return _training("training_float64", "training --float64")


def _training(name: str, command: str) -> str:
    data = load(name)
    rows = [
        [f"`{way}`", f"{row['plain']:.2f}", f"{row['compiled']:.2f}", f"{row['times_as_fast']:.1f}",
         f"{row['recorded_of_forward']:.1f}", f"{row['step_of_forward']:.1f}", f"{row['plain_mb']:.0f}",
         f"{row['compiled_mb']:.0f}", f"{row['difference']:.0e}",
         f"{row['plain_error']:.1e} / {row['compiled_error']:.1e}"]
        for way, row in data["rows"].items()
    ]  # fmt: skip
    columns = (
        "`backward=`", "plain, s of the processor", "compiled", "times as fast",
        "forward, recorded, of one that is not",
        "forward and backward of one that is not", "plain, MB, three frames", "compiled",
        "difference of the gradients", "plain / compiled from those in double precision",
    )  # fmt: skip
    images = f"{data['batch']} clips of {data['length']} frames, {data['machine']['size']}"
    return markdown(columns, rows, measured(command, [name], "1", images))
