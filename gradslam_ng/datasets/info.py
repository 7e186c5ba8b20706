"""Facts about a sequence, and what is odd about it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.sampling import DepthStatistics, sample_frames
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.datasets.validation import FAR, validate


@dataclass(frozen=True)
class Info:
    """What `info` found. Rates in frames a second, lengths in meters, times in seconds."""

    name: str
    layout: str
    frames: int
    size: tuple[int, int]  # height and width
    duration: float
    rate: float
    K: list[list[float]]
    depth_scale: float | None  # units of the depth files in a meter
    depth: DepthStatistics | None  # None where no sampled frame could be read
    sampled: int
    posed: int | None  # frames with a ground truth pose; None where the sequence has no ground truth
    path: float | None  # length of the ground truth over the frames
    notes: list[str]
    findings: list[Finding]

    @property
    def warnings(self) -> list[str]:
        """The sentences of those findings that are no mere notes."""
        return [finding.message for finding in self.findings if finding.is_serious]


@mode_free
def info(sequence: RGBDSequence, sample: int = 20) -> Info:
    """Facts and findings about a sequence; images are read from `sample` frames spread over it."""
    steps = sequence.timestamps.diff()
    frames = sample_frames(sequence, sample, FAR)
    known = None if sequence.T_wc is None else sequence.T_wc.isfinite().all(-1).all(-1)
    return Info(
        name=sequence.name,
        layout=sequence.layout,
        frames=len(sequence),
        size=sequence.size,
        duration=float(sequence.timestamps[-1] - sequence.timestamps[0]),
        rate=1 / float(steps.median()) if len(steps) and steps.median() > 0 else 0.0,
        K=sequence.K.tolist(),
        depth_scale=sequence.depth_scale,
        depth=frames.depth,
        sampled=frames.read,
        posed=None if known is None else int(known.sum()),
        path=None if sequence.T_wc is None else path_length(sequence.T_wc[known]),
        notes=list(sequence.notes),
        findings=validate(sequence, frames),
    )


def path_length(T_wc: Tensor) -> float:
    """Meters along poses (L, 4, 4)."""
    return float(T_wc[:, :3, 3].diff(dim=0).norm(dim=-1).sum())
