"""A recording as the commands load it, and what they say about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from gradslam_ng import datasets
from gradslam_ng.cameras import CAMERAS, LiveSequence, is_camera
from gradslam_ng.commands.arguments import OPTIONAL, OptionalFloat
from gradslam_ng.commands.errors import RefusedError, UsageError
from gradslam_ng.commands.prior import add_prior
from gradslam_ng.commands.settings import parse_frames
from gradslam_ng.datasets.camera_files import camera_path
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.intrinsics import parse_intrinsics
from gradslam_ng.datasets.sampling import sample_frames
from gradslam_ng.datasets.sequence import FrameError, RGBDSequence
from gradslam_ng.datasets.validation import FAR, validate
from gradslam_ng.viz.scene_files import read_metrics

CameraOption = Annotated[
    str | None,
    tyro.conf.arg(name="camera", aliases=["--intrinsics"], metavar="K|FILE", help_behavior_hint=OPTIONAL),
]
Topics = Annotated[str | None, tyro.conf.arg(metavar="COLOR,DEPTH", help_behavior_hint="(bags only)")]
Noise = Annotated[
    Literal["none", "kinect"] | None, tyro.conf.arg(metavar="{none,kinect}", help_behavior_hint="(synthetic only)")
]
Prior = Annotated[str | None, tyro.conf.arg(metavar="FILE|TOPIC", help_behavior_hint=OPTIONAL)]
Place = Annotated[str | None, tyro.conf.arg(metavar="PLACE", help_behavior_hint=OPTIONAL)]
COLORS = {"note": "cyan", "warning": "yellow", "error": "red"}
SAMPLED = 8  # frames that are looked at before a run


def is_synthetic(source: str) -> bool:
    """Whether a source is a scene that is rendered."""
    return source.startswith("synthetic:")


@dataclass(frozen=True)
class SourceOptions:
    """What is read.

    Args:
        frames: FIRST:LAST:STEP, any of them left out; LAST is not included.
        intrinsics: fx,fy,cx,cy in pixels, or a file of one or two cameras (JSON, YAML, XML, text), instead of its own.
        depth_scale: Units of the depth files in a meter; overrides the layout's.
        max_depth: Depth beyond this, meters, is left out; default: the range of the layout's sensor.
        topics: COLOR,DEPTH of a bag of ROS; default: the likeliest ones.
        noise: Of the depth and color that a synthetic scene is rendered with.
    """

    frames: str = "::"
    intrinsics: CameraOption = None
    depth_scale: OptionalFloat = None
    max_depth: OptionalFloat = None
    topics: Topics = None
    noise: Noise = None

    @classmethod
    def of_run(cls, settings: Mapping[str, Any], source: str) -> SourceOptions:
        """Those of an earlier run, as its `metrics.json` has them, for its recording or another source."""
        names = {field.name for field in fields(SourceOptions)} - (set() if is_synthetic(source) else {"noise"})
        return cls(**{name: settings[name] for name in names if settings.get(name) is not None})

    def load(self, source: str) -> RGBDSequence:
        """The frames of a sequence, what is questionable about it in its findings.

        Raises:
            UsageError: no frame is left, or an option out of range.
            FileNotFoundError, ValueError: see `datasets.load`.
        """
        frames = parse_frames(self.frames)
        self._check(source)
        options = {name: getattr(self, name) for name in ("depth_scale", "topics", "noise")}
        given = {name: value for name, value in options.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            whole = datasets.load(source, intrinsics=self.intrinsics, max_depth=self.max_depth, **given)
        sequence = whole[frames]
        if not len(sequence):
            raise UsageError(f"frames: {self.frames!r} leaves none of the {len(whole)} frames of the sequence")
        return sequence

    def _check(self, source: str) -> None:
        if self.intrinsics is not None and camera_path(self.intrinsics) is None:
            try:
                parse_intrinsics(self.intrinsics, y_up=True)
            except ValueError as error:
                raise UsageError(str(error)) from None
        scale, reach = self.depth_scale, self.max_depth
        if scale is not None and not 0 < scale < float("inf"):
            raise UsageError(f"depth_scale: expected a positive number of units in a meter, got {scale:g}")
        if reach is not None and not reach > 0:
            raise UsageError(f"max_depth: expected a positive number of meters, got {reach:g}")
        kind, colon, _ = source.partition(":")
        if colon and len(kind) > 1 and not is_synthetic(source) and not Path(source).exists():  # C: is a drive
            cameras = " or ".join(f"{name}:" for name in CAMERAS)
            expected = f"expected a recording or synthetic:SCENE, or for run and record a camera, {cameras}"
            raise UsageError(f"source: {expected}; got {source}")
        if self.noise is not None and not is_synthetic(source):
            raise UsageError(f"noise: expected a rendered scene, synthetic:NAME, for it; got {source}")


@dataclass(frozen=True)
class RecordingOptions(SourceOptions):
    """What is read, and whether it must be beyond doubt.

    Args:
        strict: Refuse a recording about which there is any warning, with exit status 4.
        prior: File of poses from elsewhere (wheels, an IMU, another tracker), on the frames' clock, or a topic of the
            bag that has them: frames are looked for where it says, and what images leave open stays there.
        prior_extrinsics: tx,ty,tz,qx,qy,qz,qw: the camera on the body whose poses these are; default: where tf of the
            bag has it, else it is the camera.
    """

    strict: bool = False
    prior: Prior = None
    prior_extrinsics: Place = None

    def load(self, source: str) -> RGBDSequence:
        """As `SourceOptions.load`, with the poses of `prior`."""
        if self.prior is None and self.prior_extrinsics is not None:
            raise UsageError("prior_extrinsics: expected --prior FILE beside it")
        sequence = super().load(source)
        return sequence if self.prior is None else add_prior(sequence, self.prior, self.prior_extrinsics)

    def inspect(self, source: str, sequence: RGBDSequence, console: Console) -> list[Finding]:
        """Print what was found, in one line, and what is odd about it, which is returned.

        Raises:
            RefusedError: something is, and must not be.
        """
        console.print(escape(describe(sequence)), soft_wrap=True)
        findings = inspect(sequence)
        print_findings(findings, console)
        serious = [finding.message for finding in findings if finding.is_serious]
        if self.strict and serious:
            raise RefusedError(f"{source}: refused by --strict: {'; '.join(serious)}")
        return findings


def inspect(sequence: RGBDSequence) -> list[Finding]:
    """What is odd about a recording; of rendered scenes, whose images are right, none is looked at."""
    count = SAMPLED if sequence.is_recorded else 0
    return validate(sequence, sample_frames(sequence, count, FAR))


def describe(sequence: RGBDSequence) -> str:
    """What was found, in one line."""
    height, width = sequence.size
    seconds = float(sequence.timestamps[-1] - sequence.timestamps[0])
    return f"{sequence.name}: {sequence.layout}, {len(sequence)} frames of {width}x{height}, {seconds:.1f} s"


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print one line for each."""
    for finding in findings:
        color = COLORS[finding.severity]
        console.print(f"[{color}]{finding.severity}:[/{color}] {escape(finding.message)}", soft_wrap=True)


def image_reader(sequence: RGBDSequence) -> Callable[[float], np.ndarray | None]:
    """Function (seconds) -> the color image (H, W, 3) uint8 of the frame of that time, None where it cannot be read."""
    if isinstance(sequence, LiveSequence):
        return sequence.image

    def read(seconds: float) -> np.ndarray | None:
        index = int((sequence.timestamps - seconds).abs().argmin())
        try:
            return (sequence[index].color.clamp(0, 1) * 255).byte().numpy()
        except (FrameError, OSError, ValueError):
            return None

    return read


def load_recording(folder: Path) -> RGBDSequence:
    """The recording that the run in a folder was of.

    Raises:
        FileNotFoundError, ValueError: no run is in the folder, the recording is no longer where it was, or there is
            none, since the run was of a camera.
    """
    settings = read_metrics(folder)["settings"]
    if is_camera(settings["source"]):
        raise ValueError(f"{folder}: the run was of a camera, {settings['source']}, of which no recording was kept")
    options = replace(SourceOptions.of_run(settings, settings["source"]), frames="::")
    return options.load(settings["source"])
