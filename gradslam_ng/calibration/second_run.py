"""A second run of SLAM over a recording, with the cameras that a first one's poses led to."""

from __future__ import annotations

from collections.abc import Callable

from gradslam_ng.calibration.cameras import CameraPair
from gradslam_ng.calibration.corrected import CorrectedSequence
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.odometry import ICPSettings, TrackingStatus
from gradslam_ng.slam import PointFusion, Result
from gradslam_ng.slam.settings import Settings
from gradslam_ng.slam.stream import StreamingSystem

DEPTH_ALONE = Settings(icp=ICPSettings(photometric=False))
Track = Callable[[StreamingSystem, RGBDSequence], Result]


def track_plainly(system: StreamingSystem, sequence: RGBDSequence) -> Result:
    """A run as it is, without progress to see."""
    return system.run(sequence, compile=False)


def run_again(sequence: RGBDSequence, cameras: CameraPair, first: Result, track: Track) -> Result:
    """A run with cameras that are nearly right, after a first one without.

    By depth alone, since where color lies on it is what is sought; with color, registered as far as it is known, where
    depth alone finds fewer frames than the first run did.
    """
    corrected = CorrectedSequence(sequence, cameras=cameras, trajectory=first.trajectory)
    alone = track(PointFusion(settings=DEPTH_ALONE), corrected)
    return alone if _found(alone) >= _found(first) else track(PointFusion(), corrected)


def _found(result: Result) -> int:
    """Frames whose poses are beyond doubt."""
    return int((result.statuses == TrackingStatus.TRACKED).sum())
