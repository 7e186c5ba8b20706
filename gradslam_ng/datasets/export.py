"""Export of any sequence to the TUM layout."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.io.atomic import whole_file
from gradslam_ng.io.ply import write_ply
from gradslam_ng.structures import RGBDFrames

DEPTH_SCALE = 5000.0  # units in a meter, as TUM has it
LARGEST = 65535


def write_tum(
    sequence: RGBDSequence,
    folder: str | os.PathLike,
    jpeg: int | None = None,
    mesh: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> Path:
    """Write color, depth (16 bit PNG, 1/5000 m), lists, poses, intrinsics, and the surface as `mesh.ply` if known.

    Depth beyond the 13.1 m that 16 bits hold is left out as not measured. Time stamps are rounded to microseconds,
    unless frames are closer in time. Whatever ends the writing, the folder can be read as far as it goes: camera and
    poses come first, the lists name what is there, the mesh comes last.

    Args:
        folder: is made; must be empty if it is there.
        jpeg: quality of the color images, 1 to 100; default PNG, without loss.
        mesh: whether to write `mesh.ply`.
        progress: called with the number of frames done.

    Raises:
        FileExistsError: something is in the folder already.
        ValueError: a quality out of range.
        FrameError: a frame that cannot be read.
    """
    if jpeg is not None and not 1 <= jpeg <= 100:
        raise ValueError(f"jpeg: expected a quality of 1 to 100, got {jpeg}")
    folder = new_folder(folder)
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_intrinsics(folder, sequence)
    if sequence.ground_truth is not None:
        sequence.ground_truth.save(folder / "groundtruth.txt")
    suffix = "png" if jpeg is None else "jpg"
    stamps, names = stamps_and_names(sequence.timestamps.tolist())
    with growing_lists(folder, suffix) as add:
        for index, (stamp, name) in enumerate(zip(stamps, names, strict=True)):
            color, depth = folder / "rgb" / f"{name}.{suffix}", folder / "depth" / f"{name}.png"
            write_images(sequence[index], color, depth, DEPTH_SCALE, jpeg)
            add(stamp, name)
            progress(index + 1)
    if mesh and sequence.mesh is not None:
        vertices, faces = sequence.mesh
        write_ply(folder / "mesh.ply", dict(zip("xyz", vertices.float().unbind(-1), strict=True)), faces)
    return folder


def new_folder(folder: str | os.PathLike) -> Path:
    """The folder, which may be there if it is empty; FileExistsError where something is in it."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: expected a new or empty folder, found something in it")
    return folder


def write_images(frame: RGBDFrames, color: Path, depth: Path, scale: float, jpeg: int | None) -> None:
    """Write the images of a frame: color as PNG, or as JPEG of that quality, depth as PNG of 16 bit.

    Depth beyond what 16 bits hold, in units of which `scale` are a meter, is left out.
    """
    options = {} if jpeg is None else {"quality": jpeg, "subsampling": 0}
    pixels = (frame.color.clamp(0, 1) * 255).round().byte().cpu().numpy()
    units = np.round(frame.depth[..., 0].double().cpu().numpy() * scale)
    with whole_file(color) as part:
        iio.imwrite(part, pixels, plugin="pillow", extension=color.suffix, **options)
    with whole_file(depth) as part:
        within = np.where(units <= LARGEST, units, 0).astype(np.uint16)
        iio.imwrite(part, within, plugin="pillow", extension=depth.suffix)


def write_intrinsics(folder: Path, sequence: RGBDSequence) -> None:
    """Write K as `intrinsics.txt`, three lines of three numbers."""
    with whole_file(folder / "intrinsics.txt") as part:
        np.savetxt(part, sequence.K.double().numpy(), fmt="%.9g")


@contextlib.contextmanager
def growing_lists(folder: Path, suffix: str) -> Iterator[Callable[[str, str], None]]:
    """Inside, `rgb.txt` and `depth.txt`, which are there from the start: without them the folder would be taken for one
    of the layout `folder`, whose depth has other units.

    Yields a function (stamp, name) that adds the images of a frame, which are there.
    """
    with open(folder / "rgb.txt", "x") as rgb, open(folder / "depth.txt", "x") as depth:
        for file in (rgb, depth):
            file.write("# timestamp filename\n")
            file.flush()

        def add(stamp: str, name: str) -> None:
            for file, path in ((rgb, f"rgb/{name}.{suffix}"), (depth, f"depth/{name}.png")):
                file.write(f"{stamp} {path}\n")
                file.flush()

        yield add


def stamps_and_names(times: list[float]) -> tuple[list[str], list[str]]:
    """Time stamps as written, and names of files: the stamps, or numbers where frames are too close in time."""
    stamps = [f"{time:.6f}" for time in times]
    if len(set(stamps)) == len(stamps):
        return stamps, stamps
    stamps = [np.format_float_positional(time, unique=True, min_digits=6) for time in times]
    return stamps, [f"{index:06d}" for index in range(len(times))]
