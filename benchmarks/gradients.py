"""What the ways to differentiate a solution cost, and how right they are: `python -m benchmarks.gradients`.

16 point-to-plane alignments of 1,000 points each with 2 cm of noise, Levenberg-Marquardt. Times are processor time of
one thread, the least of several runs, numbers of iterations taking turns; peak memory is the least of three processes
each of which runs once. Beside the figures, truncated.png: how the gradient through the last k iterations becomes that
of the optimum as k grows.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.report import RESULTS, save
from gradslam_ng import optim
from gradslam_ng.geometry import se3

ITERATIONS = (10, 20, 200)
MODES = ("unroll", "truncated", "implicit", "implicit-gn", "direct")


def alignment(
    dtype: torch.dtype, kernel: optim.Kernel | None = None, points: int = 1000
) -> tuple[optim.LeastSquares, list[Tensor], Tensor]:
    """The problems, their inputs with a gradient (points, partners, normals, weights), and where to start."""
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(16, points, 3, generator=generator, dtype=torch.float64) * 4 - 2
    n = torch.nn.functional.normalize(torch.randn(16, points, 3, generator=generator, dtype=torch.float64), dim=-1)
    T = se3.exp(0.1 * torch.randn(16, 6, generator=generator, dtype=torch.float64))
    q = se3.transform(T, p) + 0.02 * torch.randn(16, points, 3, generator=generator, dtype=torch.float64)
    w = torch.rand(16, points, generator=generator, dtype=torch.float64) + 0.5
    p, q, n, w = inputs = [tensor.to(dtype).requires_grad_() for tensor in (p, q, n, w)]

    def residual(T: Tensor) -> Tensor:
        return ((se3.transform(T, p) - q) * n).sum(-1, keepdim=True)

    def jacobian(T: Tensor) -> Tensor:
        return torch.cat([n, torch.linalg.cross(se3.transform(T, p), n)], -1)[..., None, :]

    cost = optim.Cost(residual, jacobian, optim.IsotropicWeight(w), kernel)
    return optim.LeastSquares([cost], optim.SE3()), inputs, torch.eye(4, dtype=dtype).expand(16, 4, 4)


def differentiate(mode: str, iterations: int, points: int = 1000) -> tuple[float, float]:
    """Seconds forward and backward."""
    problem, inputs, x = alignment(torch.float32, points=points)
    start = time.process_time()
    found = optim.solve(problem, x, optim.LevenbergMarquardt(), iterations, backward=mode).x
    between = time.process_time()
    torch.autograd.grad(found.square().sum(), inputs)
    return between - start, time.process_time() - between


def seconds(mode: str) -> dict[int, tuple[float, float]]:
    """Forward and backward, by number of iterations."""
    torch.set_num_threads(1)
    runs = [{iterations: differentiate(mode, iterations) for iterations in ITERATIONS} for _ in range(7)]
    return {n: tuple(min(run[n][way] for run in runs) for way in (0, 1)) for n in ITERATIONS}


def peak_memory(mode: str, iterations: int) -> float:
    """What one run adds to the memory of its process at its peak, in MB (on Linux)."""
    torch.set_num_threads(1)
    differentiate(mode, 5, points=10)  # libraries are in memory now
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is in use
    before = high_water()
    differentiate(mode, iterations)
    return (high_water() - before) / 1024


def high_water() -> int:
    """Peak resident memory of this process, kB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def errors(kernel: optim.Kernel | None) -> dict:
    """Of the gradients of each mode, relative to 100 unrolled iterations, in float64."""
    problem, inputs, x = alignment(torch.float64, kernel)
    weights = torch.randn(16, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradients(iterations: int = 60, **options) -> list[Tensor]:
        found = optim.solve(problem, x, optim.LevenbergMarquardt(), iterations, **options).x
        return torch.autograd.grad((found * weights).sum(), inputs)

    reference = gradients(100)

    def error(**options) -> float:
        pairs = zip(gradients(**options), reference, strict=True)
        return max(((a - b).norm() / b.norm()).item() for a, b in pairs)

    modes = {mode: error(backward=mode) for mode in ("implicit", "implicit-gn", "direct")}
    truncated = {k: error(backward="truncated", backward_iterations=k) for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)}
    return {**modes, "truncated": truncated}


def draw(path: Path, accuracy: dict[str, dict]) -> None:
    """Errors of "truncated" against k, and those of the other modes, which have no k, as lines across."""
    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    for ax, (name, found) in zip(figure.subplots(1, 2, sharey=True), accuracy.items(), strict=True):
        ax.plot([int(k) for k in found["truncated"]], found["truncated"].values(), "o-", label="truncated")
        for mode, style in (("implicit", "-"), ("implicit-gn", "--"), ("direct", ":")):
            ax.axhline(found[mode], color="0.4", ls=style, label=mode)
        ax.set(title=name, xlabel="k, iterations that the gradient passes", yscale="log", ylim=(1e-16, 2))
        ax.grid(alpha=0.3)
    ax.legend()
    figure.supylabel("relative error of the gradient")
    figure.savefig(path)


def main() -> None:
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(1, maxtasksperchild=1) as pool:
        times = dict(zip(MODES, pool.map(seconds, MODES, chunksize=1), strict=True))
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # freed blocks go back at once, so that the peak is what is in use
    costs = {}
    with fresh.Pool(1, maxtasksperchild=1) as pool:
        for mode, iterations in [(mode, iterations) for mode in MODES for iterations in ITERATIONS]:
            forward, backward = times[mode][iterations]
            costs[f"{mode} {iterations}"] = figures = {
                "forward_ms": 1e3 * forward,
                "backward_ms": 1e3 * backward,
                "backward_over_forward": backward / forward,
                "peak_memory_mb": min(pool.starmap(peak_memory, [(mode, iterations)] * 3, chunksize=1)),
            }
            print(f"{mode:12} {iterations:4} iterations ", "  ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    accuracy = {"least squares": errors(None), "Geman-McClure, scale 0.05": errors(optim.GemanMcClure(0.05))}
    for name, figures in accuracy.items():
        print(name, figures)
    print("written to", save("gradients", {"cost": costs, "relative_error": accuracy}, images="none", threads=1))
    draw(RESULTS / "truncated.png", accuracy)


if __name__ == "__main__":
    main()
