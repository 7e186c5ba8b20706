"""Open3D's dense SLAM (`o3d.t.pipelines.slam`) over our sequences: `python -m benchmarks.open3d_slam SOURCE`.

Beside it, for `benchmarks.throughput`, its RGB-D odometry from frame to frame.

One frame goes as in Open3D's own example: tracked against the ray-cast model, integrated into the voxel grid, the
model ray-cast anew. Voxels, truncation and gates are the example's too; it looks 4 m far instead of 3, without which
it loses accuracy on the ICL-NUIM office (2.97 cm instead of 1.55).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import open3d as o3d
import torch
import tyro

from benchmarks.report import save, stored
from gradslam_ng import datasets, evaluation
from gradslam_ng.structures import RGBDFrames, Trajectory

DEPTH_SCALE = 5000.0  # units of the 16-bit depth images in a meter, as in the TUM sequences
STAGES = ("track", "integrate", "synthesize")


@dataclass
class Frame:
    """A frame as Open3D takes it."""

    depth: o3d.t.geometry.Image  # uint16
    color: o3d.t.geometry.Image  # uint8

    @staticmethod
    def of(frame: RGBDFrames) -> Frame:
        depth = (frame.depth * DEPTH_SCALE).round().clamp(0, 65535).numpy().astype(np.uint16)
        color = (frame.color * 255).round().numpy().astype(np.uint8)
        return Frame(o3d.t.geometry.Image(o3d.core.Tensor(depth)), o3d.t.geometry.Image(o3d.core.Tensor(color)))


@dataclass
class DenseSLAM:
    """Open3D's system, on the CPU. Poses are camera to world, the first the identity."""

    K: torch.Tensor  # (3, 3)
    size: tuple[int, int]
    voxel_size: float = 3.0 / 512  # meters
    depth_max: float = 4.0  # meters, nothing beyond is used
    truncation: float = 8.0  # voxels
    depth_diff: float = 0.07  # meters, gate of the tracking
    blocks: int = 40_000  # of 16^3 voxels, allocated at first
    poses: list[np.ndarray] = field(default_factory=list)
    lost: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        device = o3d.core.Device("CPU:0")
        self.T_wc = o3d.core.Tensor(np.eye(4))
        self.model = o3d.t.pipelines.slam.Model(self.voxel_size, 16, self.blocks, self.T_wc, device)
        K = o3d.core.Tensor(self.K.double().numpy())
        self.live, self.predicted = (o3d.t.pipelines.slam.Frame(*self.size, K, device) for _ in range(2))

    def step(self, frame: Frame) -> torch.Tensor:
        """One frame: its pose (4, 4). A frame that cannot be tracked keeps the last one."""
        start = time.perf_counter()
        self.live.set_data_from_image("depth", frame.depth)
        self.live.set_data_from_image("color", frame.color)
        if self.poses:
            try:
                tracked = self.model.track_frame_to_model(
                    self.live, self.predicted, DEPTH_SCALE, self.depth_max, self.depth_diff
                )
                self.T_wc = self.T_wc @ tracked.transformation
            except RuntimeError:  # Open3D's word for a singular system
                self.lost += 1
        self.poses.append(self.T_wc.numpy().copy())
        tracked_at = time.perf_counter()
        self.model.update_frame_pose(len(self.poses) - 1, self.T_wc)
        self.model.integrate(self.live, DEPTH_SCALE, self.depth_max, self.truncation)
        integrated_at = time.perf_counter()
        self.model.synthesize_model_frame(
            self.predicted, DEPTH_SCALE, 0.1, self.depth_max, self.truncation, enable_color=False
        )
        for stage, spent in zip(STAGES, np.diff([start, tracked_at, integrated_at, time.perf_counter()]), strict=True):
            self.seconds[stage] += spent
        return torch.from_numpy(self.poses[-1])


@dataclass
class HybridOdometry:
    """Open3D's RGB-D odometry, geometry and brightness together, from frame to frame; settings are its own.

    It keeps no map and looks no farther than `depth_max`. A frame that cannot be tracked keeps the last pose.
    """

    K: torch.Tensor  # (3, 3)
    depth_max: float = 4.0  # meters
    lost: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        self.T_wc, self.last = np.eye(4), None
        self.intrinsics = o3d.core.Tensor(self.K.double().numpy())

    def step(self, frame: Frame) -> torch.Tensor:
        """One frame: its pose (4, 4)."""
        start = time.perf_counter()
        image = o3d.t.geometry.RGBDImage(frame.color, frame.depth)
        if self.last is not None:
            still = o3d.core.Tensor(np.eye(4))
            try:
                tracked = o3d.t.pipelines.odometry.rgbd_odometry_multi_scale(
                    image, self.last, self.intrinsics, still, DEPTH_SCALE, self.depth_max,
                    method=o3d.t.pipelines.odometry.Method.Hybrid,
                )  # fmt: skip
                self.T_wc = self.T_wc @ tracked.transformation.numpy()
            except RuntimeError:
                self.lost += 1
        self.last = image
        self.seconds["track"] += time.perf_counter() - start
        return torch.from_numpy(self.T_wc.copy())


def run(slam: DenseSLAM, frames: Iterable[RGBDFrames]) -> Trajectory:
    """All frames, which must have time stamps."""
    timestamps = []
    for frame in frames:
        slam.step(Frame.of(frame))
        timestamps.append(frame.timestamps)
    return Trajectory(torch.stack(timestamps), torch.from_numpy(np.stack(slam.poses)))


def main(
    source: tyro.conf.Positional[str],
    /,
    frames: int | None = None,
    voxel_size: float = DenseSLAM.voxel_size,
    depth_max: float = DenseSLAM.depth_max,
    keep: bool = False,
) -> None:
    """Open3D's trajectory error and time per frame on one sequence, with as many cores as it finds.

    Args:
        source: Folder of a sequence, or synthetic:NAME.
        frames: The first so many; default all.
        voxel_size: Meters.
        depth_max: Meters; nothing beyond is used.
        keep: Write the trajectory error to results/accuracy_open3d.json, from which the documentation takes it.
    """
    sequence = datasets.load(source)[:frames]
    slam = DenseSLAM(sequence.K, sequence.size, voxel_size, depth_max)
    trajectory = run(slam, (sequence[i] for i in range(len(sequence))))
    stages = ", ".join(f"{stage} {1e3 * spent / len(sequence):.0f}" for stage, spent in slam.seconds.items())
    total = 1e3 * sum(slam.seconds.values()) / len(sequence)
    print(f"{sequence.name}: {len(sequence)} frames, {total:.0f} ms a frame ({stages}), {slam.lost} lost")
    if sequence.ground_truth is not None:
        error = evaluation.ate(sequence.ground_truth, trajectory)
        print(f"ATE RMSE {100 * error.rmse:.2f} cm over {len(error.errors)} poses")
        if keep:
            name = "accuracy_open3d"
            rows = stored(name).get("rows", {})
            row = {"frames": len(sequence), "lost": slam.lost, "depth_max": depth_max, "ate": error.rmse}
            save(
                name,
                {"open3d": o3d.__version__, "rows": rows | {sequence.name: row}},
                images=f"{sequence.size[1]}x{sequence.size[0]}",
            )


if __name__ == "__main__":
    tyro.cli(main)
