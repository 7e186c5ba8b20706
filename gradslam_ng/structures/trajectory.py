"""Trajectories: camera poses over time, read from files of TUM, EuRoC or KITTI, written in the format of TUM."""

from __future__ import annotations

import math
import operator
import os
import warnings
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.geometry import se3
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.io.text import BadLine, NoContent, parse_each, read_lines, read_text
from gradslam_ng.structures.trajectory_columns import TUM, recognize_columns

COINCIDENT = 1e-6  # seconds; recordings write time stamps with microseconds, so closer than this is the same moment
NOT_UNIT = 0.01  # a quaternion whose length is off by more was not just rounded
NO_POSE = "# no pose is known"  # in a file that is written without one, which is no file cut short


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Camera poses in order of time; `T_wc` camera to world, meters, NaN where the pose is not known.

    Time stamps out of order are sorted, with a warning. Poses that are no rigid motions (zeros, scaled, mirrored) count
    as not known, with a warning. Both fields are kept in float64.

    Raises:
        ValueError: shapes other than (L,) and (L, 4, 4), or a time stamp that is not finite.
    """

    timestamps: Tensor  # (L,) seconds
    T_wc: Tensor  # (L, 4, 4)

    @mode_free
    def __post_init__(self) -> None:
        times = torch.as_tensor(self.timestamps, dtype=torch.float64)
        poses = torch.as_tensor(self.T_wc, dtype=torch.float64)
        if times.ndim != 1 or poses.shape != (len(times), 4, 4):
            got = f"{tuple(times.shape)} and {tuple(poses.shape)}"
            raise ValueError(f"trajectory: expected timestamps (L,) and T_wc (L, 4, 4), got {got}")
        if not bool(times.isfinite().all()):
            raise ValueError("trajectory: every time stamp must be finite")
        if bool((times.diff() < 0).any()):
            warnings.warn("trajectory: time stamps out of order, sorted", stacklevel=3)
            times, order = times.sort(stable=True)
            poses = poses[order]
        wrong = poses.isfinite().all(-1).all(-1) & ~se3.is_rigid(poses, tol=1e-2)
        if bool(wrong.any()):
            count, first = int(wrong.sum()), float(times[wrong][0])
            message = f"trajectory: {count} of {len(times)} poses are no rigid motions, the first at time {first:.6f}"
            warnings.warn(f"{message}; they count as unknown", stacklevel=3)
            poses = torch.where(wrong[:, None, None], torch.nan, poses)
        object.__setattr__(self, "timestamps", times)
        object.__setattr__(self, "T_wc", poses)

    def __len__(self) -> int:
        return len(self.timestamps)

    def __repr__(self) -> str:
        """In one line; a trajectory prints pages otherwise."""
        known, times = int(self.known.sum()), self.timestamps
        span = f", {float(times[0]):.3f} s to {float(times[-1]):.3f} s" if len(times) else ""
        return f"Trajectory({len(self)} poses{span}{f', {known} known' * (known < len(self))})"

    def __getitem__(self, index):
        """One moment as (time, pose (4, 4)) for an integer of any kind; a slice, mask or indices give a Trajectory."""
        if not isinstance(index, slice) and np.ndim(index) == 0:
            index = operator.index(index)
            return self.timestamps[index], self.T_wc[index]
        if not isinstance(index, Tensor):  # torch has no slices with a negative step
            index = torch.as_tensor(np.arange(len(self))[index].copy())
        return Trajectory(self.timestamps[index], self.T_wc[index])

    @property
    def known(self) -> Tensor:
        """(L,) bool: which poses are known."""
        return self.T_wc.isfinite().all(-1).all(-1)

    def at(self, times: Tensor, max_gap: float = 0.1) -> tuple[Tensor, Tensor]:
        """Poses at other times, on the geodesic between the two neighbors in time.

        A pose is valid between two known poses at most `max_gap` seconds apart, or where the time is that of a known
        pose. It is not valid at the time of a pose that is given as not known. Nothing is extrapolated.

        Args:
            times: (N,) seconds.
            max_gap: the longest interval to interpolate across, seconds.

        Returns:
            T_wc (N, 4, 4) float64, NaN where not valid, and valid (N,) bool.

        Raises:
            ValueError: times of another shape.
        """
        times = torch.as_tensor(times, dtype=torch.float64, device=self.timestamps.device).contiguous()
        if times.ndim != 1:
            raise ValueError(f"times: expected (N,) seconds, got shape {tuple(times.shape)}")
        keep = self.known
        known_times, known_poses = self.timestamps[keep], self.T_wc[keep]
        if len(known_times) == 0:
            return self.T_wc.new_full((*times.shape, 4, 4), math.nan), torch.zeros_like(times, dtype=torch.bool)
        after = torch.searchsorted(known_times, times).clamp(max=len(known_times) - 1)
        same = known_times[after] == times
        if bool((times.diff() >= 0).all()):  # of poses of one time the first goes with the first that is asked for
            repeated = torch.searchsorted(known_times, times, right=True) - 1 - after
            after = torch.where(same, after + torch.minimum(repetitions(times), repeated), after)
        before = (after - 1).clamp(min=0)
        t0, t1 = known_times[before], known_times[after]
        span = t1 - t0
        s = torch.where(span > 0, (times - t0) / torch.where(span > 0, span, 1), same.to(span)).clamp(0, 1)
        poses = se3.interpolate(known_poses[before], known_poses[after], s)
        nearest = torch.minimum((times - t0).abs(), (times - t1).abs())
        valid = (nearest <= COINCIDENT) | (
            (t0 <= times) & (times <= t1) & (span <= max_gap + COINCIDENT) & ~self._is_unknown(times)
        )
        return torch.where(valid[:, None, None], poses, math.nan), valid

    def _is_unknown(self, times: Tensor) -> Tensor:
        """(N,) bool: whether the time is that of a pose that is not known. times (N,), seconds."""
        unknown = self.timestamps[~self.known]
        if len(unknown) == 0:
            return torch.zeros_like(times, dtype=torch.bool)
        after = torch.searchsorted(unknown, times).clamp(max=len(unknown) - 1)
        before = (after - 1).clamp(min=0)
        return torch.minimum((times - unknown[before]).abs(), (times - unknown[after]).abs()) <= COINCIDENT

    @classmethod
    @mode_free
    def load(cls, path: str | os.PathLike) -> Trajectory:
        """Read a file of poses, one a line; `gradslam_ng.io.text` says how it is written. Told apart by their columns:

        - TUM: `t tx ty tz qx qy qz qw`.
        - EuRoC: `t, tx, ty, tz, qw, qx, qy, qz` and, in its ground truth, more; time in nanoseconds. Its poses are
          those of the body, not of a camera.
        - KITTI: the upper three rows of the matrix; a line a frame, whose number stands for the time stamp.

        A pose with a zero quaternion, or with a number that is not finite, is not known, and neither is one whose line
        has a time and nothing else that can be read. Other lines are left out. Quaternions that are not of unit length
        are normalized. One warning counts all of these. What `save` writes of a trajectory without a known pose has
        none.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no line in another file, a file of which more than half cannot be read (names the first such
                line), or quaternions ahead of the positions.
        """
        try:
            file = read_lines(path, TUM)
        except NoContent:
            if NO_POSE not in read_text(path, TUM).split("\n"):
                raise
            return cls(torch.zeros(0), torch.zeros(0, 4, 4))
        columns = recognize_columns(file)
        parsed, bad = parse_each(file.lines, columns.parse)
        if not columns.has_times:
            return cls._of_matrices(parsed, bad, path)
        rows = [row or columns.parse_time(line) for row, line in zip(parsed, file.lines, strict=True)]
        data = torch.tensor([row for row in rows if row is not None], dtype=torch.float64)
        length = data[:, 4:].norm(dim=-1, keepdim=True)
        is_unit = ((length[:, 0] - 1).abs() <= NOT_UNIT) | length[:, 0].isnan()
        if not file.is_ended and is_unit[:-1].tolist() == [True] * max(len(data) - 1, 1) and not bool(is_unit[-1]):
            data[-1, 1:], is_unit[-1] = math.nan, True  # cut within its last number
        first = data[:, 1:5].norm(dim=-1)
        if 2 * int(is_unit.sum()) < len(data) < 2 * int(((first - 1).abs() <= NOT_UNIT).sum()):
            raise ValueError(f"{path}: expected {TUM}, got quaternions in columns 2 to 5, before the positions")
        order = data[:, 0].argsort(stable=True)
        trajectory = cls(data[order, 0], se3.from_quaternion(data[:, 1:4], data[:, 4:] / length)[order])
        counts = {
            f"of {len(trajectory)} poses are not known": len(trajectory) - int(trajectory.known.sum()),
            "quaternions are not of unit length, and normalized": int((~is_unit).sum()),
            "time stamps out of order, sorted": int((data[:, 0].diff() < 0).sum()),
            "time stamps are those of the pose before": int((trajectory.timestamps.diff() == 0).sum()),
            f"lines cannot be read, the first: {bad[0] if bad else ''}": len(bad),
        }
        if told := "; ".join(f"{count} {what}" for what, count in counts.items() if count):
            warnings.warn(f"{path}: {told}", stacklevel=2)
        return trajectory

    @classmethod
    def _of_matrices(cls, rows: list[list[float] | None], bad: list[BadLine], path: str | os.PathLike) -> Trajectory:
        """Poses of a file of KITTI's format, by the number of the line."""
        T_wc = torch.full((len(rows), 4, 4), math.nan, dtype=torch.float64)
        for T, row in zip(T_wc, rows, strict=True):
            if row is not None and all(map(math.isfinite, row)):
                T[:3] = torch.tensor(row, dtype=torch.float64).reshape(3, 4)
                T[3] = torch.tensor([0, 0, 0, 1], dtype=torch.float64)
        if bad:
            warnings.warn(f"{path}: {len(bad)} lines cannot be read, the first: {bad[0]}", stacklevel=4)
        return cls(torch.arange(len(rows), dtype=torch.float64), T_wc)

    def save(self, path: str | os.PathLike) -> None:
        """Write the TUM format with all digits; poses that are not known are left out."""
        with whole_file(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
            self.write(file)

    def write(self, file: TextIO) -> None:
        """Write the TUM format to a file that is open for text."""
        keep = self.known
        t_wc, q_xyzw = se3.to_quaternion(self.T_wc[keep].detach().cpu())
        rows = torch.cat([t_wc, q_xyzw], -1).tolist()
        file.write("# timestamp tx ty tz qx qy qz qw\n" if rows else f"{NO_POSE}\n")
        for time, row in zip(self.timestamps[keep].tolist(), rows, strict=True):
            stamp = np.format_float_positional(time, unique=True, min_digits=6)
            file.write(f"{stamp} {' '.join(map(repr, row))}\n")


def repetitions(times: Tensor) -> Tensor:
    """How many entries before each have the same time, (N,) int64. times (N,), seconds, in order."""
    return torch.arange(len(times), device=times.device) - torch.searchsorted(times, times)
