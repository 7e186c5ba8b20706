"""`--prior`: where another source says that the camera was, wheels, an IMU or another tracker; a file or a topic."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng.commands.errors import UsageError
from gradslam_ng.datasets.bags.bag import Bag
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory


def add_prior(sequence: RGBDSequence, path: str, camera_on_body: str | None) -> RGBDSequence:
    """The sequence with the poses of a file, or of a topic of its bag, of a body on which the camera is.

    How many there are is told in its findings.

    Poses of which none moves tell of rotation alone, as a gyroscope does.

    Raises:
        UsageError: no such file or topic, one without poses, a place of the camera that is none or not known, or
            poses of other times.
    """
    T_bc = parse_place(camera_on_body)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            prior, T_bc = _read(sequence, path, T_bc)
        positions = prior.T_wc[prior.known][:, :3, 3]
        translates = bool((positions != positions[:1]).any())
        posed = sequence.with_prior(prior, T_bc, translates=translates)
    except ValueError as error:
        raise UsageError(str(error) if str(error).startswith("prior") else f"prior: {error}") from None
    assert posed.T_prior is not None
    known = int(posed.T_prior[:, 0, 0].isfinite().sum())
    what = "pose" if translates else "rotation, not a position,"
    text = f"{known} of {len(posed)} frames have a {what} from {path}, from which they are looked for"
    posed.findings = (*posed.findings, Finding("note", "poses.prior", text))
    return posed


def _read(sequence: RGBDSequence, path: str, T_bc: Tensor | None) -> tuple[Trajectory, Tensor | None]:
    """Poses of a body, and T_bc (4, 4) of the camera on it: as given, else as the bag's tf tells.

    None: the body is the camera.

    Raises:
        ValueError: no such file or topic, none that can be read, or a body of which nothing tells where the camera is.
    """
    if Path(path).is_file():
        return Trajectory.load(path), T_bc
    if not isinstance(sequence, Bag):
        raise UsageError(f"prior: expected a file of poses, or a topic of a recording that is a bag, got {path}")
    poses = sequence.poses
    prior, body = poses.read(path)
    if T_bc is not None or not body:
        return prior, T_bc
    T_bc = poses.place_of_camera(body)
    if T_bc is None:
        expected = "expected --prior-extrinsics, since tf in the bag does not tell"
        raise ValueError(f"{path} has the poses of {body!r}: {expected} where the camera is on it")
    return prior, T_bc


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
