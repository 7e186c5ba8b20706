"""Trajectories: camera poses over time, read and written in the TUM format."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.geometry import se3

COINCIDENT = 1e-6  # seconds; time stamps are written with microseconds, so closer than this is the same moment


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Camera poses in order of time; `T_wc` camera to world, meters, NaN where the pose is not known.

    Time stamps out of order are sorted, with a warning. Both fields are kept in float64.

    Raises:
        ValueError: shapes other than (L,) and (L, 4, 4), or a time stamp that is not finite.
    """

    timestamps: Tensor  # (L,) seconds
    T_wc: Tensor  # (L, 4, 4)

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
        object.__setattr__(self, "timestamps", times)
        object.__setattr__(self, "T_wc", poses)

    def __len__(self) -> int:
        return len(self.timestamps)

    def __getitem__(self, index):
        """One moment as (time, pose (4, 4)); a slice, mask or index tensor gives a Trajectory."""
        if isinstance(index, int):
            return self.timestamps[index], self.T_wc[index]
        return Trajectory(self.timestamps[index], self.T_wc[index])

    @property
    def known(self) -> Tensor:
        """(L,) bool: which poses are known."""
        return self.T_wc.isfinite().all(-1).all(-1)

    def at(self, times: Tensor, max_gap: float = 0.1) -> tuple[Tensor, Tensor]:
        """Poses at other times, on the geodesic between the two neighbors in time.

        A pose is valid between two known poses at most `max_gap` seconds apart, or where the time is that of a known
        pose. Nothing is extrapolated.

        Args:
            times: (N,) seconds.
            max_gap: the longest interval to interpolate across, seconds.

        Returns:
            T_wc (N, 4, 4) float64, NaN where not valid, and valid (N,) bool.
        """
        times = times.to(self.timestamps).contiguous()
        keep = self.known
        known_times, known_poses = self.timestamps[keep], self.T_wc[keep]
        if len(known_times) == 0:
            return self.T_wc.new_full((*times.shape, 4, 4), math.nan), torch.zeros_like(times, dtype=torch.bool)
        after = torch.searchsorted(known_times, times).clamp(max=len(known_times) - 1)
        before = (after - 1).clamp(min=0)
        t0, t1 = known_times[before], known_times[after]
        span = t1 - t0
        s = torch.where(span > 0, (times - t0) / torch.where(span > 0, span, 1), 0).clamp(0, 1)
        poses = se3.interpolate(known_poses[before], known_poses[after], s)
        nearest = torch.minimum((times - t0).abs(), (times - t1).abs())
        valid = (nearest <= COINCIDENT) | ((t0 <= times) & (times <= t1) & (span <= max_gap))
        return torch.where(valid[:, None, None], poses, math.nan), valid

    @classmethod
    def load(cls, path: str | os.PathLike) -> Trajectory:
        """Read the TUM format: one pose a line, `t tx ty tz qx qy qz qw`; `#` starts a comment, commas count as spaces.

        Quaternions that are not of unit length are normalized.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a line without 8 finite numbers or with a zero quaternion (names file and line), or no pose.
        """
        rows = []
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                text = line.partition("#")[0].replace(",", " ")
                if text.strip():
                    rows.append(_parse_pose(text, f"{path}, line {number}"))
        if not rows:
            raise ValueError(f"{path}: no poses; expected lines 't tx ty tz qx qy qz qw'")
        data = torch.tensor(rows, dtype=torch.float64)
        q_xyzw = data[:, 4:] / data[:, 4:].norm(dim=-1, keepdim=True)
        return cls(data[:, 0], se3.from_quaternion(data[:, 1:4], q_xyzw))

    def save(self, path: str | os.PathLike) -> None:
        """Write the TUM format; poses that are not known are left out."""
        keep = self.known
        t_wc, q_xyzw = se3.to_quaternion(self.T_wc[keep].detach().cpu())
        rows = torch.cat([t_wc, q_xyzw], -1).tolist()
        with Path(path).open("w", encoding="utf-8") as file:
            file.write("# timestamp tx ty tz qx qy qz qw\n")
            for time, row in zip(self.timestamps[keep].tolist(), rows, strict=True):
                file.write(f"{time:.6f} " + " ".join(f"{value:.9f}" for value in row) + "\n")


def _parse_pose(text: str, where: str) -> list[float]:
    """The 8 numbers of one line of a TUM trajectory."""
    try:
        row = [float(word) for word in text.split()]
    except ValueError:
        row = []
    if len(row) != 8:
        raise ValueError(f"{where}: expected 8 numbers 't tx ty tz qx qy qz qw', got {text.strip()[:100]!r}")
    if not all(math.isfinite(value) for value in row):
        raise ValueError(f"{where}: expected finite numbers, got {text.strip()[:100]!r}")
    if math.hypot(*row[4:]) < 1e-6:
        raise ValueError(f"{where}: the quaternion is zero; expected a rotation 'qx qy qz qw'")
    return row
