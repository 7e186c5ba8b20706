"""`gradslam-ng optimize GRAPH --out FILE`."""

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
from gradslam_ng.graph import g2o
from gradslam_ng.graph.chordal import chordal
from gradslam_ng.graph.gnc import graduated_non_convexity

RULES = {"gauss-newton": optim.GaussNewton(), "levenberg-marquardt": optim.LevenbergMarquardt(damping=1e-9)}
KERNELS = {"none": None, "huber": optim.Huber, "cauchy": optim.Cauchy, "graduated": optim.GemanMcClure}
Graph = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="GRAPH")]


@torch.no_grad()
def optimize(
    graph: Graph,
    /,
    out: Path,
    start: Literal["file", "chordal"] = "file",
    strategy: Literal["gauss-newton", "levenberg-marquardt"] = "gauss-newton",
    kernel: Literal["none", "huber", "cauchy", "graduated"] = "none",
    scale: float = 3.0,
    iterations: int = 100,
) -> None:
    """Optimise a pose graph in a g2o file; the result goes to another, with a picture beside it.

    Args:
        graph: Pose graph in the plane or in space, a g2o file.
        out: Where the result goes, a g2o file; the picture is the same with .png.
        start: The poses in the file, or a chordal relaxation of the edges, where those are far off.
        strategy: How steps are found.
        kernel: Robust kernel on every edge; graduated: Geman-McClure from convex to its full bite, against false loops.
        scale: Standard deviations at which the kernel starts to matter.
        iterations: At most.
    """
    if not scale > 0:
        raise ValueError(f"scale: expected a positive number, got {scale:g}")
    problem = g2o.load(graph)
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    first = problem
    if start == "chordal":
        first = problem.moved(chordal(problem.T, problem.i, problem.j, problem.T_ij, problem.information))
    factors = first.factor_graph(None if kernel == "none" else KERNELS[kernel](scale))
    before = factors.error(factors.x)
    if kernel == "graduated":
        factors = graduated_non_convexity(factors)
    solution = factors.optimize(RULES[strategy], iterations)
    seconds = time.perf_counter() - began
    if not bool(torch.isfinite(solution.error)):
        raise ValueError(f"{graph}: no solution from here; try --start chordal or --strategy levenberg-marquardt")
    result = problem.moved(solution["pose"])
    result.save(out)

    from gradslam_ng.viz.graphs import plot_graphs

    picture = out.with_suffix(".png")
    plot_graphs(picture, {start: first, "optimised": result}, graph.stem)
    table = Table(show_header=False, title=escape(graph.name))
    table.add_row("graph", f"{len(problem.T)} poses, {len(problem.i)} edges")
    table.add_row("error", f"{float(before):.6g} to {float(solution.error):.6f}, half the sum of squares")
    table.add_row("converged", "yes" if bool(solution.solution.converged) else f"not in {iterations} iterations")
    table.add_row("time", f"{seconds:.2f} s")
    table.add_row("written", f"{escape(str(out))}, {escape(picture.name)}")
    Console().print(table)
