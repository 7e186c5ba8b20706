"""How well does a recording tell its cameras? `python -m benchmarks.calibration [--recordings] [--only NAME]`.

In the room everything is off at once: focal lengths and centers by 3%, the scale of depth by 2%, color by a shift of
2 pixels, half a degree and 25 mm, and by 20 ms. Images do not tell the scale; the exact poses, in meters, do.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

import gradslam_ng as gs
from benchmarks.refinement import RECORDINGS
from benchmarks.report import record
from gradslam_ng import evaluation
from gradslam_ng.calibration import CameraPair, Scale, calibrate_sequence
from gradslam_ng.calibration.calibrate import rounds
from gradslam_ng.calibration.camera_file import describe_cameras
from gradslam_ng.calibration.cameras import lift, see
from gradslam_ng.calibration.second_run import DEPTH_ALONE
from gradslam_ng.datasets.synthetic import Miscalibrated
from gradslam_ng.structures import Trajectory

DATA = gs.datasets.data_folder()
SIZE = 240, 320
FRAMES = 100
NOISES = "none", "kinect"  # of the sensor
DISTANCES = 1.0, 2.0, 4.0  # meters, at which registration is compared


@dataclass
class Row:
    """How far off cameras are: the greater of both axes, where there are two."""

    noise: str
    cameras: str  # as told, or as found
    focal_percent: float
    center_px: float
    scale_percent: float  # by poses in meters
    distance_percent: float  # between the cameras, in the meters that depth is told in; of what is told, none
    registration_px: float  # mean over the image, and over `DISTANCES`
    time_ms: float


def truth(sequence: Miscalibrated) -> CameraPair:
    """The cameras of a rendered recording, in the meters that its depth is told in."""
    zero = torch.zeros(2, dtype=torch.float64)
    T = sequence.T_color_depth.clone()
    T[:3, 3] *= sequence.scale
    time = torch.tensor(sequence.time_offset, dtype=torch.float64)
    return CameraPair(sequence.K_depth, sequence.K_color, T, zero, time)


def appears(cameras: CameraPair, size: tuple[int, int]) -> Tensor:
    """Where in the color image pixels of depth lie, (N, 2), at several depths."""
    v, u = torch.meshgrid(torch.arange(0, size[0], 10.0), torch.arange(0, size[1], 10.0), indexing="ij")
    uv = torch.stack([u, v], -1).reshape(-1, 2).double()
    depths = [lift(uv, torch.full_like(uv[:, 0], z), cameras)[0] for z in DISTANCES]
    return torch.cat([see(p, cameras)[0] for p in depths])


def compare(which: str, cameras: CameraPair, sequence: Miscalibrated, scale: Scale | None = None) -> Row:
    """One row: cameras against the truth."""
    true = truth(sequence)
    off = true.local(cameras).abs()
    factor = 1.0 if scale is None else scale.factor
    distance, length = true.T_color_depth[:3, 3].norm(), cameras.T_color_depth[:3, 3].norm()
    registration = (appears(cameras, SIZE) - appears(true, SIZE)).norm(dim=-1).mean()
    return Row(
        noise=sequence.noise,
        cameras=which,
        focal_percent=100 * float(off[:2].max()),
        center_px=float(off[2:4].max()),
        scale_percent=100 * abs(factor * sequence.scale - 1),
        distance_percent=100 * abs(float(length / distance) - 1),
        registration_px=float(registration),
        time_ms=1000 * float(off[-1]),
    )


def room(noise: str) -> list[Row]:
    """Before and after."""
    sequence = Miscalibrated("living_room", frames=FRAMES, size=SIZE, noise=noise)
    sequence.read = functools.cache(sequence.read)  # each frame is read by every run
    posed = sequence.with_prior(Trajectory(sequence.timestamps, sequence.T_w_depth))
    report = lambda done: print(f"round {done} of {rounds()}", file=sys.stderr, flush=True)  # noqa: E731
    found = calibrate_sequence(posed, on_round=report)
    print(found.misfit, found.open, file=sys.stderr)
    return [compare("told", found.told, sequence), compare("found", found.cameras, sequence, found.scale)]


def recording(name: str, folder: Path, frames: int) -> dict:
    """ATE, cm, of runs by depth alone, with brightness and the cameras as told, and with those found."""
    sequence = gs.datasets.load(folder)[:frames]
    found = calibrate_sequence(sequence)
    print(found.misfit, found.certainty, found.open, found.cameras, file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "camera.json"
        path.write_text(json.dumps(describe_cameras(found, sequence)))
        corrected = gs.datasets.load(folder, intrinsics=path)[:frames]
    alone = gs.PointFusion(settings=DEPTH_ALONE)
    systems = {"depth_alone": (alone, sequence), "told": (gs.PointFusion(), sequence)}
    if not found.is_as_told:
        systems["found"] = gs.PointFusion(), corrected
    paths = {which: system.run(images, compile=False).localized for which, (system, images) in systems.items()}
    ate_cm, scale_free_cm = (
        {which: 100 * evaluation.ate(sequence.ground_truth, path, align=align).rmse for which, path in paths.items()}
        for align in ("se3", "sim3")
    )
    return {
        "recording": name,
        "frames": len(sequence),
        "changed": not found.is_as_told,
        "taken": found.is_better and not found.astray,  # as `gradslam-ng calibrate` has it
        "misfit": found.misfit,
        "ate_cm": ate_cm,
        "scale_free_cm": scale_free_cm,
    }


def main(recordings: bool = False, only: str = "", data: Path = DATA) -> None:
    """Write benchmarks/results/calibration.json, or with `recordings` calibration_recordings.json, row by row.

    Args:
        recordings: recordings instead of the room: what their cameras are is not known, but what runs gain is.
        only: recordings, or the sensor noise of the room, whose name contains this.
        data: folder of the recordings.
    """
    torch.set_num_threads(1)
    if recordings:
        for name, (folder, frames) in RECORDINGS.items():
            if only in name and (data / folder).is_dir():
                print(row := recording(name, data / folder, frames), flush=True)
                record("calibration_recordings", ("recording",), [row], images="640x480", tracked="320x240")
        return
    for noise in NOISES:
        if only in noise:
            found = [asdict(row) for row in room(noise)]
            print(*found, sep="\n", flush=True)
            record("calibration", ("noise", "cameras"), found, part="room", images=f"{SIZE[1]}x{SIZE[0]}")


if __name__ == "__main__":
    tyro.cli(main)
