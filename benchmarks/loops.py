"""What closing loops is worth on synthetic rooms walked around twice: `python -m benchmarks.loops`.

The same rendered frames with and without loops: ATE, time per frame, and every loop that was accepted against the true
motion between its two keyframes. A loop is false if it is off by more than 5 cm or 3 degrees.
"""

from __future__ import annotations

import math

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng.backend import LoopCloser
from gradslam_ng.datasets import Sequence, Synthetic
from gradslam_ng.geometry import se3


class InMemory(Sequence):
    """All frames of a sequence, read once."""

    def __init__(self, source: Sequence) -> None:
        super().__init__(
            name=source.name, layout="memory", K=source.K, size=source.size, timestamps=source.timestamps,
            ground_truth=source.ground_truth, T_wc=source.T_wc,
        )  # fmt: skip
        self.frames = [source.read(index) for index in range(len(source))]

    def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.frames[index]


def main(
    rooms: tuple[str, ...] = ("living_room", "corridor"), frames: int = 1500, size: tuple[int, int] = (240, 320),
    window: int = 200, seed: int = 0,
) -> None:  # fmt: skip
    """ATE with and without loops, and how true the loops are.

    Args:
        rooms: Synthetic rooms.
        frames: In which each is walked around twice.
        size: Image height and width.
        window: Of `LoopCloser`.
        seed: Of the walk and of the Kinect's noise.
    """
    figures = {}
    for room in rooms:
        sequence = InMemory(Synthetic(room, frames, size, noise="kinect", path="loop", seed=seed))
        rows = {}
        for name, closer in (("without", None), ("with", LoopCloser(window=window))):
            result = gs.PointFusion().run(sequence, loops=closer)
            rows[name] = {
                "ate_cm": 100 * gs.evaluation.ate(sequence.ground_truth, result.trajectory).rmse,
                "lost": int((~result.tracked).sum()),
                "ms": sum(result.milliseconds.values()),
                "ms_loops": result.milliseconds.get("loops", 0.0),
            }
        errors = [off(closer, sequence.T_wc, loop) for loop in closer.loops]
        rows["loops"] = {
            "accepted": len(errors),
            "false": sum(metres > 0.05 or degrees > 3 for metres, degrees in errors),
            "worst_cm": 100 * max((metres for metres, _ in errors), default=0.0),
            "worst_degrees": max((degrees for _, degrees in errors), default=0.0),
        }
        figures[room] = rows
        print(room, rows)
    save("loops", {"frames": frames, "size": size, "window": window, "seed": seed, **figures})


def off(closer: LoopCloser, T_wc: torch.Tensor, loop) -> tuple[float, float]:
    """Metres and degrees between a loop and the truth."""
    i, j = (closer.keyframes.frames[k] for k in (loop.i, loop.j))
    xi = se3.log(se3.inverse(se3.inverse(T_wc[i]) @ T_wc[j]) @ loop.T_ij)
    return float(xi[:3].norm()), math.degrees(float(xi[3:].norm()))


if __name__ == "__main__":
    tyro.cli(main)
