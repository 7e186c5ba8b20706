"""Keyframes of a recording for calibration: spread over its motion, and paired where they see the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.calibration.association import MAX_DISTANCE
from gradslam_ng.calibration.cameras import CameraPair, lift
from gradslam_ng.calibration.motion import LocalMotion, interpolate_motion
from gradslam_ng.compute.discrete import discrete
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry import images, se3
from gradslam_ng.slam import Result
from gradslam_ng.structures import Trajectory

SPACING = 0.05, 0.07  # meters and radians, the least between neighbors
MIN_KEYFRAMES = 4
REACH = 5  # poses before and after a keyframe that tell how the camera moves
GRID = 16  # pixels across of the points by which overlap is judged
MIN_OVERLAP = 0.4
PARTNERS = 6  # of each keyframe, at most


@dataclass(frozen=True, eq=False)
class KeyframeImages:
    """What N keyframes recorded, float64, and how the camera moves at them."""

    depth: Tensor  # (N, H, W), meters
    intensity: Tensor  # (N, H', W')
    T_wc: Tensor  # (N, 4, 4), as tracked
    motion: LocalMotion
    frames: Tensor  # (N,), which of the sequence's frames they are


@discrete
def choose_keyframes(
    T_wc: Tensor,  # (L, 4, 4)
    tracked: Tensor,  # (L,) bool
    count: int,
) -> Tensor:
    """At most `count` frames (N,) spread over the camera's motion, each with tracked neighbors before and after it."""
    around = torch.nn.functional.avg_pool1d(tracked[None].double(), 2 * REACH + 1, 1, REACH)[0]  # 0 beyond the ends
    inner = (around > 1 - 1e-9).nonzero()[:, 0]
    chosen: list[int] = []
    for k in inner.tolist():
        if chosen:
            moved = se3.log(se3.inverse(T_wc[chosen[-1]]) @ T_wc[k])
            if moved[:3].norm() < SPACING[0] and moved[3:].norm() < SPACING[1]:
                continue
        chosen.append(k)
    picked = torch.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().long()
    return torch.tensor(chosen, dtype=torch.long)[picked]


def read_keyframes(sequence: RGBDSequence, result: Result, count: int) -> KeyframeImages:
    """The keyframes of a run.

    Raises:
        ValueError: the camera moves too little, or is lost too often.
    """
    T_wc = result.trajectory.T_wc
    chosen = choose_keyframes(T_wc, result.tracked, count)
    if len(chosen) < MIN_KEYFRAMES:
        meters, radians = SPACING
        raise ValueError(
            f"recording: expected {MIN_KEYFRAMES} views or more, {100 * meters:g} cm or {radians:g} rad apart and "
            f"tracked without a break, got {len(chosen)}: nothing of the camera can be told"
        )
    motion = interpolate_motion(result.trajectory.timestamps, T_wc, chosen, REACH)
    numbers = frames_of(result.trajectory, sequence)[chosen]
    frames = [read_apart(sequence, k) for k in numbers.tolist()]
    depth = torch.stack([depth[..., 0] for _, depth in frames]).double()
    intensity = torch.stack([images.intensity(color)[..., 0] for color, _ in frames]).double()
    return KeyframeImages(depth, intensity, T_wc[chosen], motion, numbers)


def frames_of(trajectory: Trajectory, sequence: RGBDSequence) -> Tensor:
    """Of which frames of a sequence a run over it has found poses, (L,) int64: some may not be readable."""
    return torch.searchsorted(sequence.timestamps, trajectory.timestamps)


def told_cameras(sequence: RGBDSequence) -> CameraPair:
    """The cameras that a recording is taken to have; depth is corrected on loading already."""
    registered = CameraPair.registered(sequence.K)
    taken = sequence.rectification
    if taken is None or taken.is_registered:
        return registered
    return registered._replace(K_color=taken.K_color.double(), T_color_depth=taken.T_color_depth.double())


def read_apart(sequence: RGBDSequence, index: int) -> tuple[Tensor, Tensor]:
    """Color (H', W', 3) and depth (H, W, 1) of a frame as `told_cameras` see them, not registered."""
    color, depth = sequence.read_apart(sequence.indices[index])
    return color, torch.where(depth <= sequence.max_depth, depth, 0.0)


@discrete
def choose_pairs(keyframes: KeyframeImages, cameras: CameraPair) -> tuple[Tensor, Tensor]:
    """Pairs i < j (M,) of keyframes of which j sees most of what i does; few for each i, near and far ones.

    Raises:
        ValueError: there are none.
    """
    n, height, width = keyframes.depth.shape
    v, u = torch.meshgrid(torch.arange(0, height, GRID), torch.arange(0, width, GRID), indexing="ij")
    uv = torch.stack([u, v], -1).reshape(-1, 2).to(keyframes.depth)
    z = keyframes.depth[:, v, u].flatten(1)
    p, _ = lift(uv.expand(n, -1, 2), z, cameras)
    K = cameras.K_depth
    i, j = [], []
    for a in range(n - 1):
        T = se3.inverse(keyframes.T_wc[a + 1 :]) @ keyframes.T_wc[a]
        q = se3.transform(T, p[a])
        front = q[..., 2].clamp(min=1e-3)
        x = (K[0, 0] * q[..., 0] / front + K[0, 2]).round().long()
        y = (K[1, 1] * q[..., 1] / front + K[1, 2]).round().long()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z[a] > 0) & (q[..., 2] > 0)
        later = torch.arange(a + 1, n)[:, None]
        seen = keyframes.depth[later, y.clamp(0, height - 1), x.clamp(0, width - 1)]
        fits = inside & (seen > 0) & ((seen - q[..., 2]).abs() < 2 * MAX_DISTANCE * seen)
        overlap = fits.sum(-1) / (z[a] > 0).sum().clamp(min=1)
        good = (overlap > MIN_OVERLAP).nonzero()[:, 0]
        picked = good[torch.linspace(0, len(good) - 1, min(PARTNERS, len(good))).round().long()]
        i += [a] * len(picked)
        j += (picked + a + 1).tolist()
    if len(i) < MIN_KEYFRAMES:
        raise ValueError(f"recording: expected keyframes that see the same surfaces, got {len(i)} pairs of {n}")
    return torch.tensor(i), torch.tensor(j)
