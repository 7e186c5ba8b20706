"""`--prior`: where another source says that the camera was, wheels, an IMU or another tracker."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.commands.errors import UsageError
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory


def add_prior(sequence: RGBDSequence, path: str, camera_on_body: str | None) -> RGBDSequence:
    """The sequence with the poses of a file, of a body on which the camera is, which is told in its findings.

    A file in which nothing moves tells of rotation alone, as a gyroscope does.

    Raises:
        UsageError: no such file, one without poses, a place of the camera that is none, or poses of other times.
    """
    if not Path(path).is_file():
        raise UsageError(f"prior: expected a file of poses, got {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            prior = Trajectory.load(path)
        positions = prior.T_wc[prior.known][:, :3, 3]
        translates = bool((positions != positions[:1]).any())
        posed = sequence.with_prior(prior, parse_place(camera_on_body), translates=translates)
    except ValueError as error:
        raise UsageError(str(error) if str(error).startswith("prior") else f"prior: {error}") from None
    assert posed.T_prior is not None
    known = int(posed.T_prior[:, 0, 0].isfinite().sum())
    what = "pose" if translates else "rotation, not a position,"
    text = f"{known} of {len(posed)} frames have a {what} from {path}, from which they are looked for"
    posed.findings = (*posed.findings, Finding("note", "poses.prior", text))
    return posed


def parse_place(text: str | None) -> Tensor | None:
    """T_bc (4, 4) float64 of "tx,ty,tz,qx,qy,qz,qw", meters and a quaternion.

    Raises:
        UsageError: a text that is not seven numbers, or a quaternion of another length than 1.
    """
    if text is None:
        return None
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 7 or not all(map(math.isfinite, numbers)) or abs(math.hypot(*numbers[3:]) - 1) > 0.01:
        raise UsageError(f"prior_extrinsics: expected tx,ty,tz,qx,qy,qz,qw of the camera on its body, got {text!r}")
    values = torch.tensor(numbers, dtype=torch.float64)
    return se3.from_quaternion(values[:3], values[3:] / values[3:].norm())
