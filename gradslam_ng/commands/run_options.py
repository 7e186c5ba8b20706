"""Options of `gradslam-ng run`: what is run on a recording, and what it runs on; for what is read see `recording`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import torch
import tyro
from rich.console import Console

from gradslam_ng.commands.arguments import OptionalFloat, OptionalPath
from gradslam_ng.commands.config import format_config
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.recording import RecordingOptions, image_reader
from gradslam_ng.commands.settings import all_settings, make_system, parse_scale
from gradslam_ng.compute.kernel_files import stamped_folder
from gradslam_ng.compute.kernel_library import compiler_missing
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.loops import LoopCloser, VolumeLoopCloser
from gradslam_ng.loops.surfel_store import SurfelStore
from gradslam_ng.slam.loop_closure import LoopClosure
from gradslam_ng.slam.saved_run import SAVE_EVERY
from gradslam_ng.slam.stream import StreamingSystem
from gradslam_ng.viz.browser import BrowserView, announce

Name = TypeVar("Name", str, str | None)  # of a source or a file
LONG = 600  # frames, from which a sequence is expected to come back to where it was
CLOSERS = {"pointfusion": LoopCloser, "kinectfusion": VolumeLoopCloser}  # of loops, by system


@dataclass(frozen=True)
class SystemOptions:
    """What is run on it.

    Args:
        system: What to run.
        odometry: How a frame finds its pose: soft-damped or classical Levenberg-Marquardt ICP, or the given poses.
        preset: How much work for how much accuracy: images 320, 160 or 640 pixels across, and iterations to suit.
        scale: Working resolution relative to the images', 1, 0.5, 0.25, ...; default: the preset's.
        config: TOML file with the tables [odometry] and [mapping]: settings of ProjectiveICP, and of PointFuser
            or KinectFusion; --dump-config prints one.
        loops: Close loops, in sequences of 600 frames and more that pointfusion or kinectfusion tracks by itself.
        refine: After the run, refine the poses of keyframes together, by depth and brightness, and fuse the map anew.
    """

    system: Literal["pointfusion", "kinectfusion", "icpslam", "icp-odometry"] = "pointfusion"
    odometry: Literal["gradicp", "icp", "ground-truth"] = "gradicp"
    preset: Literal["default", "fast", "accurate"] = "default"
    scale: OptionalFloat = None
    config: OptionalPath = None
    loops: bool = True
    refine: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

    def make(self, max_depth: float | None) -> StreamingSystem:
        """The system, which leaves out depth beyond that, meters, None for its own limit."""
        return make_system(self.system, self.odometry, parse_scale(self.scale), self.config, self.preset, max_depth)

    def closes_loops(self, frames: int | None) -> bool:
        """Whether loops are looked for in a sequence of so many frames; None: nobody knows how many, or they count as
        many."""
        return (
            self.loops
            and (frames is None or frames >= LONG)
            and self.system in CLOSERS
            and self.odometry != "ground-truth"
        )

    def format(self) -> str:
        """A configuration file with every setting."""
        options = f"--system {self.system} --odometry {self.odometry} --preset {self.preset}"
        tables = all_settings(self.system, self.odometry, self.config, self.preset)
        return f"# gradslam-ng run {options}\n{format_config(tables)}"


@dataclass(frozen=True)
class ComputeOptions:
    """What it runs on.

    Args:
        device: Where to compute; auto takes a GPU where there is one.
        compile: Use compiled functions: what is on disk from the first frame on, what is not once another process of
            low priority has compiled it.
        save_every: Seconds between two times that the state is saved, from which resume goes on; 0: after each frame.
        memory: MB of surfels that stay in memory beside those around the camera; the rest of a long run's map, and
            images of its keyframes, lie on disk, and come back where the camera does. Default: all stays in memory.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = True
    save_every: float = SAVE_EVERY
    memory: OptionalFloat = None

    def check(self, method: SystemOptions) -> None:
        """Raise UsageError where a number means nothing, or a limit of memory does not go with what is run."""
        if not self.save_every >= 0:
            raise UsageError(f"save_every: expected a number of seconds, got {self.save_every:g}")
        if self.memory is None:
            return
        if not self.memory >= 0:
            raise UsageError(f"memory: expected a number of megabytes, got {self.memory:g}")
        if method.system != "pointfusion" or not method.loops or method.odometry == "ground-truth":
            raise UsageError("memory: expected pointfusion that tracks by itself and closes loops, which keep the map")
        if method.refine:
            raise UsageError("memory: --refine needs all of the map in memory")

    def loop_closer(self, system: str, folder: Path) -> LoopClosure:
        """What closes loops of a system; where memory is limited the map is in a folder."""
        if self.memory is None:
            return CLOSERS[system]()
        return LoopCloser(store=SurfelStore(folder, limit=1e6 * self.memory))

    def choose_device(self) -> str:
        """The device that is meant.

        Raises:
            ValueError: a GPU is asked for, and there is none.
        """
        has_gpu = torch.cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise ValueError("device: expected a CUDA device for 'cuda', but torch finds none")
        if self.device != "auto":
            return self.device
        return "cuda" if has_gpu else "cpu"

    def describe_compilation(self) -> str:
        """Whether compiled functions are used, and why not."""
        if not self.compile:
            return "not used, as --no-compile says"
        if self.choose_device() != "cpu":
            return "not used, they are for a CPU"
        missing = compiler_missing(stamped_folder())
        return f"those on disk alone, {missing}" if missing else "those on disk, others once they are compiled"


@dataclass(frozen=True)
class ViewOptions:
    """Where it is seen while it runs.

    Args:
        view: Show map, camera and path as they grow on a page in the browser.
        host: Where that page is served; 0.0.0.0 lets other machines see it.
        port: The next free one is taken where it is in use.
    """

    view: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    host: str = "127.0.0.1"
    port: int = 8080

    @contextlib.contextmanager
    def open(self, sequence: RGBDSequence, console: Console) -> Iterator[BrowserView | None]:
        """The page, where one is asked for, served as long as the block lasts.

        Raises:
            ImportError: viser is missing.
        """
        if not self.view:
            yield None
            return
        images = image_reader(sequence)
        page = BrowserView(
            sequence.name, host=self.host, port=self.port, K=sequence.K, size=sequence.size, images=images
        )
        with contextlib.closing(page):
            announce(page, console)
            yield page


@dataclass(frozen=True)
class RunRecord:
    """The options of one run as `metrics.json` keeps them."""

    source: str
    system: str
    odometry: str
    preset: str
    frames: str
    scale: float | None
    device: str
    config: str | None
    intrinsics: str | None
    depth_scale: float | None
    max_depth: float | None
    topics: str | None
    noise: str | None
    strict: bool
    prior: str | None
    prior_extrinsics: str | None
    loops: bool
    refine: bool
    realtime: bool
    map: str | None  # folder of the run that it went on from
    command: str  # that runs it again


def from_root(value: Name) -> Name:
    """The path of what is there, from the root, so that it is found from other folders; anything else as it is."""
    return str(Path(value).resolve()) if value is not None and Path(value).exists() else value


def as_arguments(*groups: RecordingOptions | SystemOptions | ComputeOptions) -> tuple[str, ...]:
    """Options as `gradslam-ng run` takes them, without those that are as by default; paths of files from the root."""
    found = []
    for group in groups:
        for field in fields(group):
            name, value = field.name.replace("_", "-"), getattr(group, field.name)
            if value == field.default:
                continue
            if isinstance(value, bool):
                found.append(f"--{name}" if value else f"--no-{name}")
            else:
                is_file = isinstance(value, str | Path) and Path(value).is_file()
                found.append(f"--{name}={Path(value).resolve() if is_file else value}")
    return tuple(found)
