"""`gradslam-ng optimize GRAPH --out DIR`: pose graph optimization of a g2o file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradslam_ng import optim
from gradslam_ng.commands.console import working
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.run_folder import check_writable
from gradslam_ng.graph import g2o
from gradslam_ng.graph.chordal import chordal_initialization
from gradslam_ng.graph.gnc import graduated_non_convexity
from gradslam_ng.viz.graphs import plot_graphs

STRATEGIES = {"gauss-newton": optim.GaussNewton(), "levenberg-marquardt": optim.LevenbergMarquardt(damping=1e-9)}
KERNELS = {"none": None, "huber": optim.Huber, "cauchy": optim.Cauchy, "graduated": optim.GemanMcClure}
GraphFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GRAPH")]


@torch.no_grad()
def optimize(
    graph: GraphFile,
    /,
    *,
    out: Path,
    start: Literal["file", "chordal"] = "file",
    strategy: Literal["gauss-newton", "levenberg-marquardt"] = "gauss-newton",
    kernel: Literal["none", "huber", "cauchy", "graduated"] = "none",
    scale: float = 3.0,
    iterations: int = 100,
) -> None:
    """Optimize a pose graph in a g2o file; the result goes to another, with a picture beside it.

    Args:
        graph: Pose graph in the plane or in space, a g2o file.
        out: Folder where the result goes under the graph's name, or a .g2o file; the picture is the same with .png.
        start: The poses in the file, or a chordal relaxation of the edges, where those are far off.
        strategy: How steps are found.
        kernel: Robust kernel on every edge; graduated: graduated non-convexity, Geman-McClure's, for false loops.
        scale: Standard deviations at which the kernel starts to matter.
        iterations: At most.
    """
    if not scale > 0:
        raise UsageError(f"scale: expected a positive number, got {scale:g}")
    if iterations < 1:
        raise UsageError(f"iterations: expected at least 1, got {iterations}")
    problem = g2o.load(graph)
    if out.suffix.lower() != ".g2o" or out.is_dir():
        out = out / f"{graph.stem}.g2o"
    if out.exists() and out.samefile(graph):
        raise UsageError(f"out: expected another file than the graph itself, got {out}")
    check_writable(out.parent)
    began = time.perf_counter()
    first = problem
    with working(f"{len(problem.T)} poses, {len(problem.i)} edges"):
        if start == "chordal":
            first = problem.with_poses(
                chordal_initialization(problem.T, problem.i, problem.j, problem.T_ij, problem.information)
            )
        factors = first.factor_graph(None if kernel == "none" else KERNELS[kernel](scale))
        before = factors.error(factors.initial)
        if kernel == "graduated":
            factors = graduated_non_convexity(factors)
        solution = factors.optimize(STRATEGIES[strategy], iterations)
    seconds = time.perf_counter() - began
    if not bool(torch.isfinite(solution.error)):
        raise ValueError(f"{graph}: no solution from here; try --start chordal or --strategy levenberg-marquardt")
    result = problem.with_poses(solution["pose"])
    result.save(out)
    picture = out.with_suffix(".png")
    plot_graphs(picture, {start: first, "optimized": result}, graph.stem)
    converged = "yes" if bool(solution.solution.converged) else f"not in {iterations} iterations"
    _print_summary(
        graph.name,
        {
            "graph": f"{len(problem.T)} poses, {len(problem.i)} edges",
            "error": f"{float(before):.6g} to {float(solution.error):.6f}, half the sum of squares",
            "converged": converged,
            "time": f"{seconds:.2f} s",
            "written": f"{escape(str(out))}, {escape(picture.name)}",
        },
    )


def _print_summary(title: str, rows: dict[str, str]) -> None:
    table = Table(show_header=False, title=escape(title))
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)
