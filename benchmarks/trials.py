"""Is a camera that was carried away found again, and submaps joined rightly? `python -m benchmarks.trials`.

A camera walks through a room of a rendered house of three, is covered, carried 2 m and more, and uncovered: ten times
where the room was seen before, and ten times in the next room, where it has never been, from where it walks back to
where it was covered: on the way home it need not look at anything seen before.
Images are 160x120 with Kinect noise, ten a second.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import tyro
from torch import Tensor

import gradslam_ng as gs
from benchmarks.house import CENTERS, Carried, InHouse, between, house, poses
from benchmarks.report import record
from gradslam_ng.datasets.synthetic import Corrupted, LensCover
from gradslam_ng.geometry import se3
from gradslam_ng.slam import Result

SIZE = (120, 160)
SECONDS = 0.1  # from frame to frame
WALK, COVERED, ELSEWHERE, BACK = 22, 5, 14, 26  # frames
TURN = 6.0  # degrees a frame
NEAR = 0.05, math.radians(3.0)  # of the truth: right


@dataclass
class Trial:
    """One."""

    kind: str
    seed: int
    found_after: int  # frames after the uncovering, or after a seen place came back
    joined: bool
    false: int  # poses given in the map of the first frame that are not right
    lost: int


def around(seed: int, room: int) -> tuple[Carried, Carried]:
    """Where a walk of over 2 m through a room begins and ends."""
    generator = torch.Generator().manual_seed(seed)
    jitter = torch.rand(6, generator=generator).tolist()
    side = 1 if seed % 2 else -1
    x, y = 1.05 + 0.15 * jitter[0], 0.35 + 0.3 * jitter[1]
    start = Carried(CENTERS[room] - x, -side * y, 20 + 40 * side * jitter[2], 1.3 + 0.2 * jitter[3])
    end = Carried(CENTERS[room] + x, side * y, start.yaw + side * (100 + 40 * jitter[4]), 1.3 + 0.2 * jitter[5])
    return start, end


def near(at: Carried, seed: int) -> Carried:
    """A hand's width and some degrees away."""
    a, b, c = (torch.rand(3, generator=torch.Generator().manual_seed(100 + seed)) - 0.5).tolist()
    return Carried(at.x + 0.2 * a, at.y + 0.2 * b, at.yaw + 20 * c, at.z)


def seen_again(seed: int) -> Tensor:
    """Poses of a walk, of a covered camera, and back near the beginning of the walk."""
    start, end = around(seed, seed % 3)
    back = near(start, seed)
    on = Carried(back.x + 0.3, back.y, back.yaw + 15, back.z)
    return poses([*between(start, end, WALK), *[end] * COVERED, *between(back, on, 8)])


def seen_never(seed: int) -> Tensor:
    """Poses of a walk, of a covered camera, in another room that it looks away from the first in, and back to the end
    of the walk."""
    first, away = (0, 1) if seed % 2 else (2, -1)
    start, end = around(seed, first)
    x = CENTERS[first] + away * 3.8
    facing = 0 if away > 0 else 180
    there = [Carried(x + 0.3 * away, 0.0, facing - 50), Carried(x + 0.5 * away, 0.2, facing + 60)]
    turned = Carried(x - 0.3 * away, 0.0, facing + 180)
    home = Carried(CENTERS[first] + 0.4 * away, 0.0, facing + 180)
    round_ = between(there[1], turned, 12) + between(turned, home, BACK - 12)
    last = near(end, seed)
    last = last._replace(yaw=home.yaw + (last.yaw - home.yaw + 180) % 360 - 180)  # the shorter way around
    round_ += between(home, last, math.ceil(abs(last.yaw - home.yaw) / TURN)) + [last] * 3
    return poses([*between(start, end, WALK), *[end] * COVERED, *between(*there, ELSEWHERE), *round_])


def run(T_wc: Tensor, seed: int) -> tuple[Result, Tensor]:
    """A run, and which poses that it gives are right (L,) bool."""
    sequence = InHouse(house(), T_wc, seconds=SECONDS, size=SIZE, seed=seed)
    result = gs.PointFusion().run(Corrupted(sequence, LensCover(WALK, COVERED)), compile=False)
    first = int(result.tracked.int().argmax())  # the map may be of the second room alone
    moved, found = (se3.inverse(T[first]) @ T for T in (T_wc, result.trajectory.T_wc))
    meters, radians = se3.distance(moved, found)
    return result, (meters < NEAR[0]) & (radians < NEAR[1])


def measure(kind: str, seed: int) -> Trial:
    """One trial."""
    T_wc = seen_again(seed) if kind == "seen again" else seen_never(seed)
    result, right = run(T_wc, seed)
    after = (result.tracked & right)[WALK + COVERED :].nonzero().flatten().tolist()
    return Trial(
        kind, seed, 1 + after[0] if after else -1, len(result.submaps) == 1, int((result.tracked & ~right).sum()),
        int((~result.tracked).sum()) - COVERED,
    )  # fmt: skip


KINDS = {"seen again": 10, "never seen": 10}


def main(only: str = "") -> None:
    """Run all trials, or those of a kind; each is saved when it is done.

    Args:
        only: Kinds that contain this.
    """
    torch.set_num_threads(1)
    for kind, count in KINDS.items():
        for seed in range(count if only in kind else 0):
            trial = measure(kind, seed)
            record("trials", ("kind", "seed"), [asdict(trial)], part="trials", images="160x120")
            print(trial, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
