"""How well does a recording tell its cameras? `python -m benchmarks.calibration`: a rendered room, and redkitchen.

In the room everything is off at once: focal lengths and centers by 3%, the scale of depth by 2%, color by a shift of
2 pixels, half a degree and 25 mm, and by 20 ms. Images do not tell the scale; the exact poses, in meters, do.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import asdict, dataclass

import torch
import tyro
from torch import Tensor

from benchmarks.report import save
from gradslam_ng.calibration import CameraPair, Scale, calibrate_sequence
from gradslam_ng.calibration.calibrate import rounds
from gradslam_ng.calibration.cameras import lift, see
from gradslam_ng.datasets.synthetic import Miscalibrated
from gradslam_ng.structures import Trajectory

SIZE = 240, 320
FRAMES = 100
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


def main(noises: tuple[str, ...] = ("none", "kinect")) -> None:
    """Write benchmarks/results/calibration.json.

    Args:
        noises: of the rendered room.
    """
    rows = [row for noise in noises for row in room(noise)]
    for row in rows:
        print(row)
    height, width = SIZE
    save("calibration", {"room": [asdict(row) for row in rows]}, images=f"{width}x{height}")


if __name__ == "__main__":
    tyro.cli(main)
