"""A differentiable solver that solves as well as a classical one: `python -m demos.curves --out out/curves`.

The curve-fitting study of Jatavallabhula et al. 2020, Table 1. Fits exponentials, sines and sincs from random starts by
gradient descent, Gauss-Newton, Levenberg-Marquardt and our soft-damped Levenberg-Marquardt; prints the table beside the
published figures (`benchmarks.curves` says what they leave open) and draws how errors fall with the iterations.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import tyro

from benchmarks.curves import CURVES, ITERATIONS, PUBLISHED, STRATEGIES, errors, sample, show, table

STEPS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def plot(path: Path, draws: int = 4) -> None:
    """Errors and share of problems not solved to 1e-3, against iterations; a column per curve."""
    figure, axes = plt.subplots(2, len(CURVES), figsize=(12, 6.5), sharex=True, layout="constrained")
    for (top, bottom), name in zip(axes.T, CURVES, strict=True):
        problems = sample(name, draws)
        for label, rule in STRATEGIES.items():
            runs = [errors(name, rule, steps, *problems) for steps in STEPS]
            (line,) = top.plot(STEPS, [e.mean().item() for e in runs], label=label)
            draws_apart = [e.mean(-1).aminmax() for e in runs]
            top.fill_between(STEPS, *zip(*draws_apart, strict=True), color=line.get_color(), alpha=0.12, lw=0)
            top.plot(STEPS, [e.median().item() for e in runs], ":", color=line.get_color())
            bottom.plot(STEPS, [(e > 1e-3).double().mean().item() for e in runs])
        top.plot(ITERATIONS, PUBLISHED[name], "kx", label="published soft LM")
        top.set(title=name, yscale="log", ylim=(1e-7, 20))
        bottom.set(xscale="symlog", xlabel="iterations", ylim=(0, 1))
    axes[0, 0].set_ylabel("squared error: mean (solid; of each draw: band), median (dotted)")
    axes[1, 0].set_ylabel("share of problems with an error over 1e-3")
    axes[0, 0].legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(out: Path = Path("out/curves")) -> None:
    """Write curves.png and .json.

    Args:
        out: folder for both.
    """
    out.mkdir(parents=True, exist_ok=True)
    cells = table()
    print(show(cells))
    (out / "curves.json").write_text(json.dumps(cells, indent=2) + "\n")
    plot(out / "curves.png")
    print(f"written to {out}")


if __name__ == "__main__":
    tyro.cli(main)
