"""Pose graphs against GTSAM in the same run, the price of the gradient, and growth: `python -m benchmarks.posegraph`.

GTSAM (`pip install gtsam`) is no dependency of the package. Both get the same start and the same edges on one thread
and take turns, Gauss-Newton: GTSAM until a step changed the error by less than 1e-5 of itself, ours until one promises
to. What is timed, in seconds of the processor, is from the loaded file's numbers to the optimum: making the graph,
ordering it, and all steps. Of the published times (sphere: GTSAM 0.51 s, g2o 1.9 s, Ceres 5.1 s) g2o takes 3.7 and
Ceres 10 times as long as GTSAM: who needs less than 3.7 times GTSAM's time is faster than both.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from statistics import median

import tyro

CHORDAL = ("torus3D", "sphere_bignoise_vertex3", "M3500", "INTEL")
TOLERANCE = 1e-5
BIAS = ("parking-garage", "sphere", "M3500", "INTEL")  # where the exact Hessian's gradient is found too
SIZES = (1000, 2500, 5000, 10000, 20000)  # poses, of the growth study


def main(
    folder: Path | None = None,
    graphs: tuple[str, ...] = ("parking-garage", "sphere", "torus3D", "sphere_bignoise_vertex3", "M3500", "INTEL"),
    rounds: int = 5,
    largest: int = 20000,
) -> None:
    """Errors, times, gradients and growth, printed, and saved with a plot.

    Args:
        folder: With the g2o files; default: posegraph in the folder that GRADSLAM_NG_DATA names.
        graphs: Which of them.
        rounds: How often both take their turn; medians are shown.
        largest: Poses of the largest graph of the growth study, with three edges each; 0 leaves the study out.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1":
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        arguments = [sys.executable, "-m", "benchmarks.posegraph", *sys.argv[1:]]
        os.execve(sys.executable, arguments, os.environ | dict.fromkeys(names, "1"))
    import torch

    from benchmarks.report import save
    from gradslam_ng.datasets import data_folder
    from gradslam_ng.optim.sparse import cholmod

    folder = data_folder() / "posegraph" if folder is None else folder
    torch.set_num_threads(1)
    figures = {"growth": growth(largest)} if largest else {}  # first: the high-water mark of memory is still low
    figures["graphs"] = {name: duel(folder / f"{name}.g2o", name in CHORDAL, rounds) for name in graphs}
    path = save("posegraph_cholmod" if cholmod.installed() else "posegraph", figures, images="none")
    if largest:
        draw(path.with_suffix(".png"), figures["growth"])
    print(f"written: {path}")


def duel(path: Path, from_chordal: bool, rounds: int) -> dict:
    """Seconds and errors of both on one graph, and what a gradient adds to ours."""
    import gtsam
    import torch

    from gradslam_ng import optim
    from gradslam_ng.geometry import se2
    from gradslam_ng.graph import g2o
    from gradslam_ng.graph.chordal import chordal_initialization

    graph = g2o.load(path)
    began = time.process_time()
    if from_chordal:
        graph = graph.with_poses(chordal_initialization(graph.T, graph.i, graph.j, graph.T_ij, graph.information))
    spent = {"start": time.process_time() - began}

    def pose(T: torch.Tensor):
        return gtsam.Pose2(*se2.components(T).tolist()) if graph.planar else gtsam.Pose3(T.numpy())

    edges, _ = gtsam.readG2o(str(path), not graph.planar)
    first = int(graph.names[0])
    prior, tight = (gtsam.PriorFactorPose2, 3) if graph.planar else (gtsam.PriorFactorPose3, 6)
    edges.add(prior(first, pose(graph.T[0]), gtsam.noiseModel.Isotropic.Sigma(tight, 1e-6)))
    start = gtsam.Values()
    for name, T in zip(graph.names.tolist(), graph.T, strict=True):
        start.insert(name, pose(T))

    def theirs() -> float:
        parameters = gtsam.GaussNewtonParams()
        parameters.setRelativeErrorTol(TOLERANCE)
        parameters.setMaxIterations(100)
        return edges.error(gtsam.GaussNewtonOptimizer(edges, start, parameters).optimize())

    def ours() -> float:
        with torch.no_grad():
            return float(graph.factor_graph().optimize(optim.GaussNewton(), 100, tolerance=TOLERANCE).error)

    found, times = {}, {"gradslam_ng": [], "gtsam": []}
    for _ in range(rounds):
        for name, solve in (("gradslam_ng", ours), ("gtsam", theirs)):
            began = time.process_time()
            try:
                found[name] = solve()
            except RuntimeError as error:
                found[name] = str(error).strip().splitlines()[0]
            times[name].append(time.process_time() - began)
    ratios = [a / b for a, b in zip(times["gradslam_ng"], times["gtsam"], strict=True)]
    shares = [gradient(graph)[0] for _ in range(rounds)]
    figures = {
        "error": found, "seconds": {name: median(t) for name, t in times.items()} | spent,
        "times_gtsam": median(ratios), "backward_of_forward": median(shares),
    }  # fmt: skip
    if path.stem in BIAS:
        exact, cheap = (gradient(graph, backward)[1] for backward in ("implicit", "implicit-gn"))
        figures["bias_of_gauss_newton_gradient"] = float((cheap - exact).norm() / exact.norm())
    print(path.stem, figures)
    return figures


def gradient(graph, backward: str = "implicit-gn") -> tuple:
    """Backward pass as a share of the forward, in processor time, and the gradient to motions and information."""
    import torch

    from gradslam_ng import FactorGraph, optim
    from gradslam_ng.graph.information import square_root

    variable = optim.SE2() if graph.planar else optim.SE3()
    z = graph.T_ij.clone().requires_grad_()
    W = square_root(graph.information).requires_grad_()
    problem = FactorGraph()
    problem.add_variables("pose", variable, graph.T)
    problem.add_between("pose", graph.i, graph.j, z, weight=optim.FullWeight(W))
    tolerance = TOLERANCE if backward == "implicit-gn" else 1e-12
    began = time.process_time()
    solution = problem.optimize(optim.GaussNewton(), 100, tolerance=tolerance, backward=backward)
    loss = solution["pose"][..., -1].square().sum()
    between = time.process_time()
    loss.backward()
    share = (time.process_time() - between) / (between - began)
    return share, torch.cat([z.grad.flatten(), W.grad.flatten()])


def tower(count: int, lap: int = 50):
    """A spiral of poses, each tied to the one before and to two of the lap below, with noise: three edges a pose."""
    import torch

    from gradslam_ng.geometry import se3
    from gradslam_ng.graph.g2o import G2OGraph

    generator = torch.Generator().manual_seed(0)
    k = torch.arange(count, dtype=torch.float64)
    angle = 2 * torch.pi * k / lap
    turn = torch.stack([torch.zeros_like(k)] * 5 + [angle], -1)
    truth = se3.exp(turn)
    truth[:, :3, 3] = torch.stack([20 * angle.cos(), 20 * angle.sin(), k / lap], -1)
    k = torch.arange(count)
    i = torch.cat([k[:-1], k[:-lap], k[: -lap - 1]])
    j = torch.cat([k[1:], k[lap:], k[lap + 1 :]])
    noise = 0.01 * torch.randn(len(i), 6, generator=generator, dtype=torch.float64)
    start = se3.exp(0.05 * torch.randn(count, 6, generator=generator, dtype=torch.float64)) @ truth
    information = 1e4 * torch.eye(6, dtype=torch.float64).expand(len(i), 6, 6)
    z = se3.inverse(truth[i]) @ truth[j] @ se3.exp(noise)
    return G2OGraph(k, start, i, j, z, information, torch.zeros(0, dtype=torch.int64))


def growth(largest: int) -> list[dict]:
    """Forward and backward seconds and memory for graphs of ever more poses."""
    import torch

    from gradslam_ng import FactorGraph, optim

    rows = []
    for count in (size for size in SIZES if size <= largest):
        graph = tower(count)
        xi = torch.zeros(len(graph.i), 6, dtype=torch.float64, requires_grad=True)
        z = graph.T_ij @ optim.SE3.group.exp(xi)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        began = time.process_time()
        problem = FactorGraph()
        problem.add_variables("pose", optim.SE3(), graph.T)
        problem.add_between(
            "pose", graph.i, graph.j, z, weight=optim.IsotropicWeight(z.new_full((len(graph.i),), 100.0))
        )
        _ = problem.ordering.pattern.symbolic
        ordered = time.process_time()
        solution = problem.optimize(optim.GaussNewton(), tolerance=TOLERANCE, backward="implicit-gn")
        solved = time.process_time()
        solution["pose"][..., -1].square().sum().backward()
        done = time.process_time()
        rows.append({
            "poses": count, "edges": len(graph.i), "error": float(solution.error.detach()), "analyze": ordered - began,
            "optimize": solved - ordered, "backward": done - solved,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, "memory_before_mb": before,
        })  # fmt: skip
        print(rows[-1])
    return rows


def draw(path: Path, rows: list[dict]) -> None:
    """Time and memory against the number of edges, with slopes of one and two to compare with."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.array([row["edges"] for row in rows])
    for name, color in (("optimize", "#2166ac"), ("analyze", "#4d9221"), ("backward", "#b2182b")):
        left.loglog(edges, [row[name] for row in rows], "o-", ms=4, color=color, label=name)
    last = rows[-1]["optimize"]
    left.loglog(edges, last * edges / edges[-1], ":", color="0.5", label="linear")
    left.loglog(edges, last * (edges / edges[-1]) ** 2, "--", color="0.7", label="quadratic")
    left.set(xlabel="edges", ylabel="seconds, one thread", title="time")
    left.set_xticks(edges, [f"{count / 1000:.1f}k" for count in edges])
    left.minorticks_off()
    left.legend(frameon=False, fontsize=8)
    right.plot(edges, [row["memory_mb"] for row in rows], "o-", ms=4, color="#2166ac")
    right.set(xlabel="edges", ylabel="MB", title="peak memory of the process, gradient included", ylim=(0, None))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
