"""Export of any sequence to the TUM layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.io.atomic import whole_file, write_whole
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
    unless frames are closer in time.

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
    if mesh and sequence.mesh is not None:
        vertices, faces = sequence.mesh
        write_ply(folder / "mesh.ply", dict(zip("xyz", vertices.float().unbind(-1), strict=True)), faces)
    write_intrinsics(folder, sequence)
    if sequence.ground_truth is not None:
        sequence.ground_truth.save(folder / "groundtruth.txt")
    suffix = "png" if jpeg is None else "jpg"
    stamps, names = stamps_and_names(sequence.timestamps.tolist())
    for index, file_name in enumerate(names):
        color, depth = folder / "rgb" / f"{file_name}.{suffix}", folder / "depth" / f"{file_name}.png"
        write_images(sequence[index], color, depth, DEPTH_SCALE, jpeg)
        progress(index + 1)
    write_lists(folder, stamps, names, suffix)
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


def write_lists(folder: Path, stamps: list[str], names: list[str], suffix: str) -> None:
    """Write `rgb.txt` and `depth.txt`, last: a folder has them when all that they name is there."""
    for name, ending in (("rgb", suffix), ("depth", "png")):
        lines = [f"{stamp} {name}/{file}.{ending}\n" for stamp, file in zip(stamps, names, strict=True)]
        write_whole(folder / f"{name}.txt", "# timestamp filename\n" + "".join(lines))


def stamps_and_names(times: list[float]) -> tuple[list[str], list[str]]:
    """Time stamps as written, and names of files: the stamps, or numbers where frames are too close in time."""
    stamps = [f"{time:.6f}" for time in times]
    if len(set(stamps)) == len(stamps):
        return stamps, stamps
    stamps = [np.format_float_positional(time, unique=True, min_digits=6) for time in times]
    return stamps, [f"{index:06d}" for index in range(len(times))]
