"""Figure of the visual odometry demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

SHOWN = {
    "network alone": "#999999",
    "LSTM both ways": "#4daf4a",
    "extended Kalman filter, noise by input": "#2166ac",
    "smoother, surrogate loss of the pose, noise by input": "#b2182b",
}


def draw(path: Path, rows: dict, shown: dict) -> None:
    """What the robot sees, one drive as found by four methods, the learned noise along it, and all methods' errors."""
    clips, poses, sigma = shown["clips"], shown["poses"], shown["sigma"][0]
    figure = Figure(figsize=(14, 7.5), dpi=90, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 3.2))
    steps = np.linspace(1, len(sigma) - 1, 8).astype(int)
    for axes, t in zip(above.subplots(1, 8), steps, strict=True):
        axes.imshow(shown["images"][t + 1].permute(1, 2, 0).numpy())
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"step {t}\nsigma {float(sigma[t, 0]):.2f} m/s", fontsize=9)
    left, middle, right = below.subplots(1, 3, width_ratios=(1.1, 1, 1.6))
    left.plot(*clips.T[0, :, :2, 2].T.numpy(), color="0.2", lw=2.5, label="truth")
    for name, color in SHOWN.items():
        left.plot(*poses[name][0, :, :2, 2].T.numpy(), color=color, lw=1.3, label=name)
    left.set(xlabel="x [m]", ylabel="y [m]", aspect="equal")
    left.legend(frameon=False, fontsize=7)
    k = np.arange(len(sigma))
    middle.plot(k, (clips.z[0] - clips.velocity[0])[:, 0].abs(), ".", color="0.4", label="|error of the network|, m/s")
    middle.plot(k, sigma[:, 0], color="#b2182b", lw=1.2, label="learned sigma, m/s")
    middle.set(xlabel="step", yscale="log")
    middle.legend(frameon=False, fontsize=7)
    length = list(next(iter(rows.values())))[-1]
    names = sorted(rows, key=lambda name: -rows[name][length]["m/m"]["mean"])
    values = [rows[name][length]["m/m"] for name in names]
    color = ["#b2182b" if name in SHOWN and "smoother" in name else "#92c5de" for name in names]
    right.barh(names, [v["mean"] for v in values], xerr=[v["standard error"] or 0.0 for v in values], color=color)
    right.tick_params(axis="y", labelsize=7)
    right.set(xlabel=f"position error after {length}, meters a meter driven")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
