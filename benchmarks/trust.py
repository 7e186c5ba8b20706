"""Is what is called tracked right, and is the covariance? `python -m benchmarks.trust [--only GROUP]`.

Recordings thinned to every so many-th frame, rendered rooms, and both disturbed (`benchmarks.trust_scenes`), by
PointFusion as `run` takes them. A frame is wrong if it moved by more than 5 cm or 5 degrees other than the truth since
the last frame before that has a pose. `called`: tracked, and not uncertain; `silent`: wrong ones among them. A frame
that is lost and would be wrong where the camera was left, or that is uncertain and wrong, has been told; `told` is
their share of all wrong ones.

`NEES`: the normalized error squared of the motion between two frames called tracked that follow one another, by the
covariances of both, in the mean; 6 is right, of six dimensions. Where the truth is exact, others say more of the truth
than of us.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import torch
import tyro
from torch import Tensor

import gradslam_ng as gs
from benchmarks.report import record
from benchmarks.trust_scenes import Scene, recordings, rendered
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.slam import Result

DATA = gs.datasets.data_folder()
CACHE = Path("out/trust")
WRONG = 0.05, math.radians(5.0)


@dataclass
class Row:
    """One sequence."""

    group: str
    name: str
    frames: int
    lost: int
    uncertain: int
    called: int  # tracked, not uncertain, and with a frame before that has a pose
    silent: int  # of these, wrong
    wrong: int  # whatever they are called
    wrong_at: list[str]  # frame and status of the wrong ones
    nees: list[float]  # of each motion, where the truth is exact


def judge(scene: Scene, sequence: RGBDSequence, result: Result) -> Row:
    """What a run made of a scene."""
    statuses, T_wc, truth = result.statuses, result.trajectory.T_wc, sequence.T_wc.double()
    tracked, known = TrackingStatus.is_tracked(statuses), truth.isfinite().flatten(1).all(-1)
    certain = statuses == TrackingStatus.TRACKED
    row = Row(
        scene.group, scene.name, len(statuses), int((~tracked).sum()),
        int(TrackingStatus.is_uncertain(statuses).sum()), 0, 0, 0, [], [],
    )  # fmt: skip
    before = None  # the last frame that has a pose
    for i in range(len(statuses)):
        if known[i] and before is not None:
            off = error(T_wc[[before, i]], truth[[before, i]])
            wrong = bool(off[:3].norm() > WRONG[0] or off[3:].norm() > WRONG[1])
            called = bool(certain[i])
            row.called, row.silent, row.wrong = row.called + called, row.silent + (called and wrong), row.wrong + wrong
            if wrong:
                row.wrong_at.append(f"{i} {TrackingStatus(int(statuses[i])).name.lower()}")
            if scene.exact and called and certain[before] and before == i - 1:
                row.nees.append(squared_error(off, T_wc[[before, i]], result.covariances[[before, i]]))
        if tracked[i] and known[i]:
            before = i
    return row


def error(
    T_wc: Tensor,  # (2, 4, 4)
    truth: Tensor,  # (2, 4, 4)
) -> Tensor:
    """How much other than the truth the camera moved, (6,)."""
    moved, expected = (se3.inverse(T[0]) @ T[1] for T in (T_wc, truth))
    return se3.log(se3.inverse(expected) @ moved)


def squared_error(
    off: Tensor,  # (6,)
    T_wc: Tensor,  # (2, 4, 4)
    covariances: Tensor,  # (2, 6, 6)
) -> float:
    """Normalized by the covariance of the motion, both poses taken to be independent."""
    back = se3.adjoint(se3.inverse(T_wc[1]) @ T_wc[0])
    covariance = covariances[1] + back @ covariances[0] @ back.mT
    return float(off @ torch.linalg.pinv(covariance, hermitian=True) @ off)


def scenes(data: Path, cache: Path, only: str) -> Iterator[Scene]:
    """All, or those of groups and names that contain a text."""
    every = chain(recordings(data), rendered(cache))
    return (scene for scene in every if only in scene.group or only in scene.name)


def main(data: Path = DATA, cache: Path = CACHE, only: str = "") -> None:
    """Measure all, or some; each row is saved when it is done.

    Args:
        data: Folder of the recordings; default: what GRADSLAM_NG_DATA names.
        cache: Folder for the rendered ones.
        only: Sequences whose group or name contains this.
    """
    torch.set_num_threads(1)
    for scene in scenes(data, cache, only):
        sequence = scene.sequence()
        row = judge(scene, sequence, gs.PointFusion(factor=scene.factor).run(sequence, compile=False))
        images = "recordings 640x480, office walk 540x360, rendered 320x240"
        tracked = "thinned recordings by half, all others 160x120"
        record("trust", ("name",), [asdict(row)], images=images, tracked=tracked)
        mean = sum(row.nees) / max(len(row.nees), 1)
        print(
            f"{row.name}: {row.frames} frames, {row.lost} lost, {row.uncertain} uncertain, {row.silent} of {row.called}"
            f" silently wrong, {row.wrong} wrong ({', '.join(row.wrong_at)}), NEES {mean:.1f} of {len(row.nees)}",
            flush=True,
        )


if __name__ == "__main__":
    tyro.cli(main)
