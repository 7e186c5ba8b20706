"""RGB-D sequences as torch datasets: the base of every loader."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.rectification import Rectification
from gradslam_ng.geometry import se3
from gradslam_ng.structures import RGBDFrames, Trajectory

STRUCTURED_LIGHT_RANGE = 10.0  # meters: farther a Kinect's disparity has steps of 0.3 m, and saturates


class FrameError(ValueError):
    """One frame of a sequence cannot be read; the others may be fine. Has `index`, `path` and `reason`."""

    def __init__(self, index: int, *, path: Path | str, reason: str) -> None:
        super().__init__(index, path, reason)
        self.index, self.path, self.reason = index, path, reason

    def __reduce__(self) -> tuple:
        return functools.partial(type(self), path=self.path, reason=self.reason), (self.index,)

    def __str__(self) -> str:
        return f"frame {self.index}: {self.path}: {self.reason}"


class RGBDSequence(Dataset[RGBDFrames]):
    """RGB-D frames in order of time, with their camera and, where it is known, the ground truth.

    `sequence[i]` reads frame i, an RGBDFrames without leading axes. `sequence[100:200:2]` is a sequence of those
    frames, which are read when asked for. Depth from beyond `max_depth`, the range of the sensor, is left out: where
    a layout does not tell its sensor there is no limit. A loader calls `__init__` and provides `read`.

    Args:
        name: of the sequence, for titles.
        layout: the kind of recording, such as "tum".
        K: (3, 3) intrinsics, pixels.
        size: image height and width.
        timestamps: (L,) seconds, increasing.
        ground_truth: at its full recorded rate and in our axes; None where the sequence has none at all.
        T_wc: (L, 4, 4) pose of each frame, NaN where it is not known; default: interpolated from `ground_truth`.
        max_gap: the longest interval of the ground truth to interpolate a pose across, seconds.
        depth_scale: units of the depth files in a meter, for the record.
        notes: remarks on how the recording was read, for its user.
        findings: what is odd about its files; `validation.validate` has these and more.
    """

    layout: str  # the kind of recording
    expected_files = ""  # by which a loader knows it, for messages
    is_recorded = False  # by a camera; a rendered one has no faults to look for
    max_depth: float = math.inf  # meters, the sensor's range: what is beyond is left out of frames
    T_prior: Tensor | None = None  # (L, 4, 4), see `RGBDFrames.T_prior`; set by `with_prior`
    rectification: Rectification | None = None  # of images as cameras took them; None where they are of one pinhole
    mesh: tuple[Tensor, Tensor] | None = None  # the scene's surface, vertices (V, 3), meters, and faces (F, 3)

    def __init__(
        self,
        *,
        name: str,
        layout: str,
        K: Tensor,
        size: tuple[int, int],
        timestamps: Tensor,
        ground_truth: Trajectory | None = None,
        T_wc: Tensor | None = None,
        max_gap: float = 0.1,
        depth_scale: float | None = None,
        notes: Sequence[str] = (),
        findings: Sequence[Finding] = (),
    ) -> None:
        self.name, self.layout = name, layout
        self.size: tuple[int, int] = (size[0], size[1])
        self.K = K.to(torch.float32)
        self.timestamps = timestamps.to(torch.float64)
        self.ground_truth, self.depth_scale = ground_truth, depth_scale
        self.notes, self.findings = tuple(notes), tuple(findings)
        if T_wc is None and ground_truth is not None:
            T_wc, _ = ground_truth.at(self.timestamps, max_gap)
        self.T_wc = T_wc
        self.recorded_frames = len(timestamps)
        self.indices = range(self.recorded_frames)  # of the recording, of which this may be a slice

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether a file or folder is a recording of this kind."""
        return False

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Color (H, W, 3) in [0, 1] and depth (H, W, 1), meters, of the recording's frame; FrameError if it cannot."""
        raise NotImplementedError

    def read_apart(self, index: int) -> tuple[Tensor, Tensor]:
        """Color (H', W', 3) and depth (H, W, 1), meters, of the recording's frame, each as its own pinhole camera sees
        it; of images of one camera, as `read`."""
        return self.read(index)

    def image_files(self) -> dict[str, list[Path]]:
        """The files of the recording's frames by kind, "color" and "depth", where each image has its own."""
        return {}

    def __len__(self) -> int:
        return len(self.indices)

    @mode_free
    def __getitem__(self, index: int | slice):
        if isinstance(index, slice):
            if index.step is not None and index.step < 0:
                raise ValueError(
                    f"sequence: expected a positive step, since frames are in order of time, got {index.step}"
                )
            view = copy.copy(self)
            view.indices = self.indices[index]
            view.timestamps = self.timestamps[index]
            view.T_wc = None if self.T_wc is None else self.T_wc[index]
            view.T_prior = None if self.T_prior is None else self.T_prior[index]
            return view
        color, depth = self.read(self.indices[index])
        if self.max_depth < math.inf:  # NumPy, not torch, which would bring more threads into those that read ahead
            pixels = depth.numpy()
            depth = torch.from_numpy(np.where(pixels <= self.max_depth, pixels, np.zeros((), pixels.dtype)))
        T_wc = None if self.T_wc is None else self.T_wc[index].double()
        T_prior = None if self.T_prior is None else self.T_prior[index].double()
        return RGBDFrames(color, depth, self.K, T_wc, self.timestamps[index], T_prior)

    @mode_free
    def with_prior(
        self, prior: Trajectory, T_bc: Tensor | None = None, *, translates: bool = True, max_gap: float = 0.2
    ) -> RGBDSequence:
        """A sequence of the same frames, each with the pose that another source tells, `RGBDFrames.T_prior`.

        Args:
            prior: poses of a body b in a world of their own, at their own times on the frames' clock.
            T_bc: (4, 4) where the camera is on that body; default: it is the body.
            translates: False for a source that tells of rotation alone, such as a gyroscope.
            max_gap: the longest interval of the prior to interpolate across, seconds.

        Raises:
            ValueError: a T_bc that is no rigid motion, or poses at the time of no frame.
        """
        T_bc = torch.eye(4, dtype=torch.float64) if T_bc is None else T_bc.double()
        if T_bc.shape != (4, 4) or not bool(se3.is_rigid(T_bc, tol=1e-3)):
            raise ValueError(f"T_bc: expected a rigid motion (4, 4), got {T_bc.tolist()}")
        T_prior, valid = prior.at(self.timestamps, max_gap)
        if not bool(valid.any()):
            first, last = (f"{float(t[0]):.3f} to {float(t[-1]):.3f} s" for t in (prior.timestamps, self.timestamps))
            raise ValueError(f"prior: expected poses at the times of frames, {last}, got {first}")
        view = copy.copy(self)
        view.T_prior = T_prior @ T_bc
        if not translates:
            view.T_prior[:, :3, 3] = torch.nan
        return view

    def clips(self, length: int, stride: int | None = None) -> RGBDClips:
        """Dataset of clips of `length` frames, one beginning every `stride` frames (default: end to end)."""
        return RGBDClips(self, length=length, stride=length if stride is None else stride)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} frames, {self.size[1]}x{self.size[0]})"


class RGBDClips(Dataset[RGBDFrames]):
    """Runs of `length` consecutive frames of a sequence, each an RGBDFrames with one leading axis."""

    def __init__(self, sequence: RGBDSequence, *, length: int, stride: int) -> None:
        if not 1 <= length <= len(sequence):
            raise ValueError(f"length of a clip: expected 1 to {len(sequence)} frames, got {length}")
        if stride < 1:
            raise ValueError(f"stride between clips: expected at least 1 frame, got {stride}")
        self.sequence, self.length = sequence, length
        self.starts = range(0, len(sequence) - length + 1, stride)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> RGBDFrames:
        start = self.starts[index]
        return RGBDFrames.stack([self.sequence[i] for i in range(start, start + self.length)])
