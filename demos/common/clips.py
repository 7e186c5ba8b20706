"""Recordings in memory at a small size, earlier frames to learn from and later ones to judge by, and clips of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import gradslam_ng as gs
from demos.common import recordings
from demos.common.rooms import walk
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic.noise import kinect
from gradslam_ng.datasets.synthetic.rooms import room
from gradslam_ng.geometry import camera, images
from gradslam_ng.odometry import ProjectiveICP

EMBEDDED = Path(__file__).resolve().parents[2] / "datasets" / "living_room"
FOLDERS = {"living room": EMBEDDED, **recordings.FOLDERS}  # of recordings below their own folder
LEARN, JUDGE = 0.65, 0.7  # shares of a recording: up to which frames teach, and from which on they judge
MOST = 40  # frames to judge by


@dataclass(frozen=True)
class Recording:
    """Frames (N,) of a recording, shrunk, with the poses that came with them."""

    frames: gs.RGBDFrames

    @staticmethod
    def load(name: str, below: Path, width: int, average: bool = True) -> Recording | None:
        """That of `FOLDERS`, see `shrunk`, but for frames without a pose; None where it is not there, which is said."""
        path = below / FOLDERS[name]
        if not path.is_dir():
            print(f"{name}: left out, no {path}; set GRADSLAM_NG_DATA to the folder of recordings")
            return None
        frames = shrunk(gs.datasets.load(path), width, average)
        return Recording(frames[frames.T_wc.isfinite().flatten(1).all(1)])

    @property
    def earlier(self) -> gs.RGBDFrames:
        """Those to learn from."""
        return self.frames[: int(LEARN * len(self.frames))]

    @property
    def later(self) -> gs.RGBDFrames:
        """Those to judge by, `MOST` at most."""
        return self.part(self.frames)

    def part(self, values):
        """Of anything with an entry for each frame those to judge by."""
        return values[int(JUDGE * len(self.frames)) :][:MOST]


@dataclass(frozen=True)
class Training:
    """What a training was like: loss and memory of the process at each step, and its time."""

    losses: list[float]
    megabytes: list[float]
    seconds: float

    def figures(self) -> dict[str, list[float] | float]:
        """For a file of figures."""
        tenth = max(1, len(self.losses) // 10)
        first, last = self.losses[:tenth], self.losses[-tenth:]
        return {
            "loss, first and last tenth of the steps": [sum(first) / tenth, sum(last) / tenth],
            "memory after five steps, a tenth of the steps and all, MB": [
                self.megabytes[:5][-1],
                self.megabytes[len(self.megabytes) // 10],
                self.megabytes[-1],
            ],
            "training, s": self.seconds,
        }


def shrunk(sequence: RGBDSequence, width: int, average: bool = True) -> gs.RGBDFrames:
    """All frames (N,), shrunk by the whole factor that brings them nearest to a width in pixels: by averages, or
    by taking every so many-th pixel, whose noise is that of the sensor."""
    factor = max(1, round(sequence.size[1] / width))
    frames = []
    for i in range(len(sequence)):
        frame = sequence[i]
        if average:
            color, depth = images.downsample_color(frame.color, factor), images.downsample_depth(frame.depth, factor)
            K = camera.scale_intrinsics(frame.K, 1 / factor)
        else:
            color, depth = (x[factor // 2 :: factor, factor // 2 :: factor] for x in (frame.color, frame.depth))
            K = frame.K - frame.K.new_tensor([[0, 0, factor // 2], [0, 0, factor // 2], [0, 0, 0]])
            K = K * K.new_tensor([1 / factor, 1 / factor, 1.0])[:, None]
        frames.append(gs.RGBDFrames(color, depth, K, frame.T_wc, frame.timestamps))
    return gs.RGBDFrames.stack(frames)


def rendered(frames: int, size: tuple[int, int], every: int = 1) -> tuple[Recording, Tensor]:
    """Every so many-th frame of a walk through the living room with Kinect noise, and its exact depth (N, H, W, 1)."""
    view, T_wc, K = walk(room("living_room"), frames, every, size)
    images = [kinect(view.color[i], view.depth[i], view.normal[i], K, seed=i) for i in range(frames)]
    color, depth = (torch.stack(parts) for parts in zip(*images, strict=True))
    times = torch.arange(frames, dtype=torch.float64) * every / 30
    return Recording(gs.RGBDFrames(color, depth, K, T_wc, times)), view.depth


def random_indices(count: int, batch: int, length: int, every: int, generator: torch.Generator) -> Tensor:
    """(B, L) int64: of `count` frames every so many-th, from anywhere."""
    every = min(every, (count - 1) // (length - 1))
    starts = torch.randint(count - (length - 1) * every, (batch, 1), generator=generator)
    return starts + every * torch.arange(length)


def random_clips(
    frames: gs.RGBDFrames, batch: int, length: int, every: int, generator: torch.Generator
) -> gs.RGBDFrames:
    """Clips (B, L) of every so many-th frame of `frames` (N,), without poses."""
    which = random_indices(len(frames), batch, length, every, generator)
    return gs.RGBDFrames(frames.color[which], frames.depth[which], frames.K[which])


@torch.no_grad()
def found_poses(clips: gs.RGBDFrames) -> Tensor:
    """Where PointFusion, by shape alone, puts the frames of clips (B, L). Returns T_wc (B, L, 4, 4)."""
    slam = gs.PointFusion(ProjectiveICP(photometric=False), factor=1)
    clips, state, poses = gs.RGBDFrames(clips.color, clips.depth, clips.K), None, []
    for i in range(clips.shape[1]):
        state = slam.step(state, clips[:, i])
        poses.append(state.T_wc)
    return torch.stack(poses, dim=1)


def trajectory_errors(frames: gs.RGBDFrames, depths: list[Tensor]) -> list[float]:
    """ATE, RMSE in cm, of PointFusion on frames (N,) with each of some depths (N, H, W, 1) in their place."""
    color, K = (x[None].expand(len(depths), *x.shape) for x in (frames.color, frames.K))
    poses = found_poses(gs.RGBDFrames(color, torch.stack(depths), K)).double()
    truth = gs.Trajectory(frames.timestamps, frames.T_wc.double())
    found = (gs.Trajectory(frames.timestamps, T_wc) for T_wc in poses)
    return [100 * gs.evaluation.ate(truth, estimate).rmse for estimate in found]


def resident_memory() -> float:
    """What this process holds in memory now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
