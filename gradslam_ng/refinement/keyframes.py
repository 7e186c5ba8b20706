"""Keyframes of a finished run: frames spread evenly over it, read once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.compute.discrete import discrete
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.preprocessing import Noise, measure_surface

WIDTH = 640  # pixels: images are shrunk by the whole factor that brings them nearest to it


@dataclass(frozen=True, eq=False)
class Keyframes:
    """K frames as they were measured."""

    number: Tensor  # (K,) int64, of the frames of the run
    vertices: Tensor  # (K, H, W, 3), meters, in their camera
    normals: Tensor  # (K, H, W, 3)
    sigma: Tensor  # (K, H, W), meters, standard deviation of the depth; infinite where there is none
    intensity: Tensor  # (K, H, W), in [0, 1]
    K: Tensor  # (K, 3, 3)


def frames_of_run(
    timestamps: Tensor,  # (L,), seconds, of the trajectory
    sequence: RGBDSequence,
) -> list[int]:
    """Which frame of the sequence each pose of a run belongs to: frames that could not be read have no pose."""
    found, there = [], sequence.timestamps.tolist()
    start = 0
    for seconds in timestamps.tolist():
        start = next((i for i in range(start, len(there)) if there[i] == seconds), len(there))
        if start == len(there):
            raise ValueError(f"sequence: expected the one that was run, got one without a frame at {seconds:.6f} s")
        found.append(start)
        start += 1
    return found


@discrete
def choose_keyframes(
    tracked: Tensor,  # (L,) bool
    count: int,
) -> Tensor:
    """At most `count` of the tracked frames (K,) int64, evenly spread, the first and the last among them."""
    frames = tracked.nonzero()[:, 0]
    picked = torch.linspace(0, len(frames) - 1, min(count, len(frames)), dtype=torch.float64, device=frames.device)
    return frames[picked.round().long()]


def read_keyframes(
    sequence: RGBDSequence,
    numbers: Sequence[int],  # of the frames of the run
    frames: Sequence[int],  # of the sequence, for each pose of the run
    noise: Noise,
    max_depth: float,
    device: torch.device,
) -> Keyframes:
    """Those frames with their surfaces, measured on a device and kept on the CPU, but for those that cannot be read.

    Raises:
        ValueError: none can be read.
    """
    factor = max(1, round(sequence.size[1] / WIDTH))
    rows, read = [], []
    for number in numbers:
        try:
            frame = sequence[frames[number]]
        except FrameError:
            continue
        frame = frame.map(lambda value: value[None]).to(device, torch.float32)
        live = measure_surface(frame, factor, noise, max_depth)
        surface, intensity = live.surface, live.surface.intensity
        assert intensity is not None  # of a frame that was measured
        sigma = torch.where(surface.weights > 0, live.sigma, torch.inf)
        images = (surface.vertices, surface.normals, sigma, intensity, surface.K)
        rows.append([image.cpu() for image in images])
        read.append(number)
    if not rows:
        raise ValueError(f"{sequence.name}: none of its keyframes could be read")
    return Keyframes(torch.tensor(read, device="cpu"), *(torch.cat(parts) for parts in zip(*rows, strict=True)))
