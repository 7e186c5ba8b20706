"""Pose graphs of up to a million edges beside GTSAM: `python -m benchmarks.posegraph_large --peers PYTHON`.

The spiral of `benchmarks.posegraph`, three edges a pose, from the same start, one thread, Gauss-Newton to a relative
change of the error below 1e-5; GTSAM by Levenberg-Marquardt, too. Each solver and size has a process of its own:
seconds of the processor from the loaded numbers to the optimum, and the process's peak memory, less what it had before.
A process over --memory or --seconds is ended, and told so. --peers is the Python of an environment with `pip install
gtsam numpy`; without it ours alone is run. Ceres is not here: its wheel (pyceres 2.x) has no factor of two poses, and
one in Python would measure Python. The growth exponent is between neighboring sizes.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

TOLERANCE = 1e-5
SQRT_INFORMATION = 100.0


def ours(graph: dict[str, np.ndarray]) -> float:
    """The error at the optimum."""
    import torch

    from gradslam_ng import FactorGraph, optim

    torch.set_num_threads(1)
    z = torch.from_numpy(graph["z"])
    with torch.no_grad():
        problem = FactorGraph()
        problem.add_variables("pose", optim.SE3(), torch.from_numpy(graph["start"]))
        weight = optim.IsotropicWeight(z.new_full((len(z),), SQRT_INFORMATION))
        problem.add_between("pose", torch.from_numpy(graph["i"]), torch.from_numpy(graph["j"]), z, weight=weight)
        return float(problem.optimize(optim.GaussNewton(), 30, tolerance=TOLERANCE).error)


def gtsam(graph: dict[str, np.ndarray], method: str = "GaussNewton") -> float:
    """The error at the optimum."""
    import gtsam as peer

    edges, start = peer.NonlinearFactorGraph(), peer.Values()
    noise = peer.noiseModel.Isotropic.Sigma(6, 1 / SQRT_INFORMATION)
    for i, j, z in zip(graph["i"].tolist(), graph["j"].tolist(), graph["z"], strict=True):
        edges.add(peer.BetweenFactorPose3(i, j, peer.Pose3(z), noise))
    first = peer.Pose3(graph["start"][0])
    edges.add(peer.PriorFactorPose3(0, first, peer.noiseModel.Isotropic.Sigma(6, 1e-6)))
    for k, T in enumerate(graph["start"]):
        start.insert(k, peer.Pose3(T))
    parameters = getattr(peer, f"{method}Params")()
    parameters.setRelativeErrorTol(TOLERANCE)
    parameters.setMaxIterations(30)
    return edges.error(getattr(peer, f"{method}Optimizer")(edges, start, parameters).optimize())


SOLVERS = {"gradslam_ng": ours, "gtsam": gtsam, "gtsam_lm": partial(gtsam, method="LevenbergMarquardt")}


def peak_memory() -> float:
    """MB of this process so far; what `getrusage` tells is that of the process that began it, if that is more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1e3


def solve(name: str, path: str, memory_gb: float) -> None:
    """Print what a solver comes to on a graph in a file, as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_gb * 1e9),) * 2)
    graph = dict(np.load(path))
    before = peak_memory()
    began, wall = time.process_time(), time.perf_counter()
    error = SOLVERS[name](graph)
    spent, wall = time.process_time() - began, time.perf_counter() - wall
    print(json.dumps({"error": error, "seconds": spent, "wall": wall, "memory_mb": peak_memory() - before}))


def write_graph(path: Path, edges: int) -> int:
    """Write a graph of about so many edges. Returns how many they are."""
    from benchmarks.posegraph import tower

    graph = tower(edges // 3 + 34)
    np.savez(path, start=graph.T.numpy(), i=graph.i.numpy(), j=graph.j.numpy(), z=graph.T_ij.numpy())
    return len(graph.i)


def said_last(errors: str) -> str:
    """What an exception says, which may have several lines, after those of where it was raised."""
    lines = errors.strip().splitlines()
    raised = [k for k, line in enumerate(lines) if line.startswith("  ")]
    return " ".join(" ".join(lines[raised[-1] + 1 if raised else 0 :]).split())


def measure(name: str, python: str, graph: Path, memory: float, seconds: float) -> dict:
    """What one process comes to."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, "1")
    command = [python, str(Path(__file__).resolve()), "--worker", name, str(graph), str(memory)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=environment, cwd=Path(__file__).parents[1]
        )
    except subprocess.TimeoutExpired:
        return {"ended": f"not done in {seconds:g} s"}
    if done.returncode or not done.stdout.strip():
        told = said_last(done.stderr) or f"status {done.returncode}"
        return {"ended": f"{told[:100]}, with at most {memory:g} GB"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def exponents(rows: list[dict], name: str, figure: str) -> list[float]:
    """Between neighboring sizes that a solver was done with."""
    done = [(row["edges"], row[name][figure]) for row in rows if figure in row.get(name, {})]
    return [math.log(y1 / y0) / math.log(x1 / x0) for (x0, y0), (x1, y1) in pairwise(done) if min(y0, y1) > 0]


def growths(rows: list[dict]) -> dict[str, dict[str, list[float]]]:
    """Exponents of time and memory of each solver."""
    return {name: {figure: exponents(rows, name, figure) for figure in ("seconds", "memory_mb")} for name in SOLVERS}


def main(
    edges: tuple[int, ...] = (10_000, 100_000, 1_000_000),
    peers: str = "",
    memory: float = 20.0,
    seconds: float = 3600.0,
    name: str = "posegraph_large",
) -> None:
    """Write results/NAME.json, after every size.

    Args:
        edges: Sizes of the graphs.
        peers: Python that has gtsam.
        memory: GB of addresses that a process may have.
        seconds: That it may take.
        name: Of the results' file.
    """
    from benchmarks.report import save

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in edges:
            path = Path(folder) / "graph.npz"
            rows.append({"edges": write_graph(path, size)})
            for solver in SOLVERS if peers else ("gradslam_ng",):
                python = sys.executable if solver == "gradslam_ng" else peers
                rows[-1][solver] = measure(solver, python, path, memory, seconds)
                print(solver, rows[-1]["edges"], rows[-1][solver], flush=True)
            save(name, {"rows": rows, "growth": growths(rows)}, images="none")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        solve(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        import tyro  # which an environment of peers lacks

        tyro.cli(main, description=__doc__)
