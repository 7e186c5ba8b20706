"""The table of what planning was to reach, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.tables.common import load, markdown, measured, number, table

Row = tuple[str, str, str, bool]  # what, the figure, the mark, whether it is met
FILES = [f"planning_{name}" for name in ("control", "imitation", "grids", "learned_map", "harmonic", "room_memory")]


@table
def planning_marks() -> str:
    columns = ("", "figure", "mark", "", "`python -m benchmarks.planning.`")
    ways = {"control": _control, "imitation": _imitation, "grids": _grids, "learned_map": _learned,
            "harmonic": _harmonic, "room_memory": _memory}  # fmt: skip
    return markdown(columns, against_marks(ways), measured("planning.NAME", FILES, images="128x96, of the last row"))


def against_marks(ways: dict[str, Callable[[], Iterator[Row]]]) -> list[list[str]]:
    """Lines of a table: what commands measured, and whether it meets its mark."""
    return [
        [what, figure, mark, "met" if met else "**missed**", f"`{command}`"]
        for command, way in ways.items()
        for what, figure, mark, met in way()
    ]


def _both(row: dict[str, float]) -> float:
    return row["forward_ms"] + row["backward_ms"]


def _control() -> Iterator[Row]:
    results = load("planning_control")
    for shape, row in results["lqr"].items():
        own = _both(row["ours"])
        large = "1024" in shape
        if not large:
            most = 20.0 if "T 20" in shape else 130.0
            yield f"lqr, {shape}, forward and backward", f"{own:.1f} ms", f"≤ {most:.0f} ms", own <= most
        peers = (
            {"mpc.pytorch": ("ours", 12)} if large else {"mpc.pytorch": ("ours", 5), "PyPose": ("ours, one system", 5)}
        )
        for peer, (like, least) in peers.items():
            times = _both(row[peer]) / _both(row[like])
            yield f"lqr, {shape}, beside {peer}", f"{times:.1f} times as fast", f"≥ {least}", times >= least
    share = max(row["ours"]["backward_ms"] / row["ours"]["forward_ms"] for row in results["lqr"].values())
    yield "lqr, backward over forward", f"{share:.2f}", "≤ 1.1", share <= 1.1
    kept = max(row["kept_mb"] / row["data_mb"] for name, row in results["memory"].items() if name.startswith("ours"))
    yield "lqr, kept over inputs and outputs", f"{kept:.2f}", "≤ 2", kept <= 2
    own = results["box"]["ours"]
    yield "box MPC, forward and backward", f"{_both(own):.1f} ms", "≤ 110 ms", _both(own) <= 110
    for peer, most in (("mpc.pytorch", results["marks"]["box_mpc"]), ("qpth", results["marks"]["box_qpth"])):
        part = _both(own) / _both(results["box"][peer])
        yield f"box MPC, time over that of {peer}", f"{part:.3f}", f"≤ {most}", part <= most
    yield "box MPC, error", number(own["error"]), "≤ 1e-9", own["error"] <= 1e-9
    error = own["gradient_error"]
    yield "box MPC, gradient against differences", number(error), "≤ 1e-6", error <= 1e-6
    worst = max(max(ways["implicit"].values()) for ways in results["nonlinear"].values())
    yield "pendulum, gradient against differences", number(worst), "≤ 1e-6", worst <= 1e-6


def _imitation() -> Iterator[Row]:
    runs = [run for some in load("planning_imitation")["modes"].values() for run in some]
    for key, what, most in (("parameters", "parameters off by", 0.01), ("control_mse", "control MSE", 1e-4)):
        worst = max(run[key] for run in runs)
        yield f"imitation, {what}", number(worst), f"≤ {most:g}", worst <= most
    seconds = max(run["seconds"] for run in runs)
    yield "imitation, weights and goal at once", f"{seconds:.1f} s", "≤ 300 s", seconds <= 300


def _grids() -> Iterator[Row]:
    results = load("planning_grids")
    for size, most in ((64, 10), (128, 30), (256, 150)):
        time = results["values"][f"{size} soft"]["backward_ms"]
        yield f"ValueIteration, backward at {size} x {size}", f"{time:.1f} ms", f"≤ {most} ms", time <= most
    times = [row["implicit"]["backward_ms"] for row in results["sweeps"].values()]
    spread = (max(times) - min(times)) / (max(times) + min(times))
    yield "the same after 50 to 1,000 sweeps", f"± {100 * spread:.0f}%", "± 10%", spread <= 0.1
    row = results["values"]["64 soft"]
    yield "kept at 64 x 64", f"{row['kept_mb']:.2f} MB", "≤ 1 MB", row["kept_mb"] <= 1
    yield "its gradient against differences", number(row["error"]), "≤ 1e-8", row["error"] <= 1e-8
    share = min(row["success"] for row in results["home"].values())
    yield "starts that arrive on given maps, 15 to 255", f"{100 * share:.0f}%", "100%", share == 1
    plane, space = list(results["travel"]["rows"].values())[:2]
    for name, row, most in (("256 x 256", plane, 150), ("64 x 64 x 64", space, 800)):
        for order in (1, 2):
            times = row["forward_ms"] / row[f"skfmm_{order}_ms"]
            yield f"travel_time, {name}, over scikit-fmm, order {order}", f"{times:.1f}", "≤ 2", times <= 2
        time = row["backward_ms"]
        yield f"its gradient, {name}", f"{time:.0f} ms", f"≤ {most} ms", time <= most
    error = results["travel"]["errors"]["ours"]
    yield "travel_time in constant cost, error in cells", number(error), "≤ 0.3", error <= 0.3


def _learned() -> Iterator[Row]:
    row = load("planning_learned_map")["rows"]["0.35"]
    for size, least in (("15", 99), ("27", 98), ("49", 97)):
        share = 100 * row[size]["success"]
        yield f"map learned at 15 x 15, starts that arrive at {size}", f"{share:.1f}%", f"≥ {least}%", share >= least
    yield "time to learn it", f"{row['seconds']:.0f} s", "≤ 120 s", row["seconds"] <= 120


def _harmonic() -> Iterator[Row]:
    results = load("planning_harmonic")
    row = results["grid"]["absorbing, log"]
    for what, key, most in (("potential", "forward_ms", 550), ("all gradients", "backward_ms", 120)):
        yield f"ResistorGrid 256 x 256, {what}", f"{row[key]:.0f} ms", f"≤ {most} ms", row[key] <= most
    share = min(row["ours, log"] for row in results["home"].values())
    least = min(row["least_log10"] for row in results["home"].values())
    yield f"cells led home, down to 1e{least:.0f}", f"{100 * share:.0f}%", "100% to 1e-300", share == 1
    exact = [row for name, row in results["coelho"]["rows"].items() if name.startswith("exact")]
    above, step = (max(row[key] for row in exact) for key in ("best_percent", "ms_a_step"))
    yield "Coelho, 11 starts, above the optimum", f"{number(above)}%", "≤ 0.1%", above <= 0.1
    yield "Coelho, 11 starts, a step", f"{step:.1f} ms", "≤ 15 ms", step <= 15
    gain = min(row["least_gain"] for row in results["coelho"]["rows"].values())
    yield "Coelho, least drop at any step", number(gain), "> 0", gain > 0
    own, other = (results["top_k"][name] for name in ("ours", "locuslab"))
    part = own["both_ms"] / other["both_ms"]
    yield "soft_top_k, time over that of locuslab", f"{part:.2f}", "≤ 1", part <= 1
    yield "soft_top_k, sum off by, float32", number(own["error"]), "≤ 1e-5", own["error"] <= 1e-5


def _memory() -> Iterator[Row]:
    peak = load("planning_room_memory")["rows"]["24"]["peak_mb"] / 1e3
    yield "plan in the room and its pixels, 24 frames, peak", f"{peak:.2f} GB", "≤ 1.2 GB", peak <= 1.2
