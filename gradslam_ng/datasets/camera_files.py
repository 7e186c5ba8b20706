"""The camera of a recording, from an option, from whichever file in its folder tells it, or from its data set."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.image_files import visible_files
from gradslam_ng.datasets.intrinsics import FORMS, ColorCamera, Intrinsics, parse_intrinsics
from gradslam_ng.datasets.intrinsics_json import read_camera_json
from gradslam_ng.datasets.intrinsics_markup import ENDINGS, read_camera_markup
from gradslam_ng.datasets.intrinsics_text import read_camera_text, read_info
from gradslam_ng.geometry.camera import scale_intrinsics
from gradslam_ng.geometry.lens import LensModel
from gradslam_ng.io.markup import BadMarkup

# Looked for in this order; the first that is there tells the camera.
NAMES: tuple[str, ...] = ("intrinsics.json", "intrinsics.txt", "camera.json", "camera-intrinsics.txt")
NAMES += ("camera_intrinsics.txt", "camera_intrinsics.json", "camera.txt", "cam_params.json")
NAMES += ("camera_intrinsic.json", "intrinsic.json", "camera_info.json", "K.txt")
NAMES += ("calibration.json", "calibration.txt", "calib.txt", "camera_matrix.csv", "cameras.txt")
INFO = ("info.txt", "_info.txt")  # of BundleFusion and ScanNet: lines `name = value`
LISTED = (".json", ".txt", ".yaml", ".yml", ".xml", ".ini", ".cfg", ".toml", ".csv", ".npy", ".npz")
LIKE_A_CAMERA = re.compile(r"calib|camera|intrinsic|cam_?param")
NOT_A_CAMERA = re.compile(r"pose|traj|extrin|path|time")
SAME_SHAPE = 0.01  # relative difference of the horizontal and the vertical scale of an image that was only resized


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with what its file tells besides, and where it comes from."""

    K: Tensor  # (3, 3) float64, pixels
    source: str  # such as "intrinsics.txt"
    size: tuple[int, int] | None = None  # height and width of the images that K belongs to; None: those at hand
    distortion: tuple[float, ...] | None = None  # of the lens, k1, k2, p1, p2, ...
    depth_scale: float | None = None  # units of the depth files in a meter
    scale_source: str = ""  # where that comes from
    findings: tuple[Finding, ...] = ()
    is_assumed: bool = False  # nothing in the recording tells it
    is_certain: bool = False  # if assumed: but for the names of folder and files, which leave no doubt
    lens_model: LensModel = "brown_conrady"
    color: ColorCamera | None = None  # of color images that are not registered to depth, whose camera this is then
    time_offset: float = 0.0  # seconds: time stamps of color less those of depth of the same moment
    depth_distortion: tuple[float, float] | None = None  # 1/m, see `geometry.depth_distortion`

    @property
    def note(self) -> str:
        """One line for the user."""
        undone = self.distortion or (self.color is not None and self.color.distortion)
        registered = "" if self.color is None else ", color registered to depth"
        offset = f", color {1e3 * self.time_offset:+g} ms" if self.time_offset else ""
        depth = ", depth corrected" if self.depth_distortion else ""
        return f"camera: {self.source}" + (", distortion undone" if undone else "") + depth + registered + offset


@overload
def find_camera(
    given: Intrinsics | None,
    folders: Sequence[Path],
    default: Camera,
    *,
    names: Sequence[str] = NAMES,
    y_up: bool = False,
) -> Camera: ...


@overload
def find_camera(
    given: Intrinsics | None,
    folders: Sequence[Path],
    default: Camera | None = None,
    *,
    names: Sequence[str] = NAMES,
    y_up: bool = False,
) -> Camera | None: ...


def find_camera(
    given: Intrinsics | None,
    folders: Sequence[Path],
    default: Camera | None = None,
    *,
    names: Sequence[str] = NAMES,
    y_up: bool = False,
) -> Camera | None:
    """The camera as given, else of a file in the first folder that has one, else the default; None if there is none.

    A camera that is given as numbers is that of images without distortion, which the file's is then taken for too; it
    may also be given as the name of a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is given, or a file, does not tell a camera; names it.
    """
    path = camera_path(given)
    numbers = None if given is None or path is not None else parse_intrinsics(given, y_up=y_up)
    try:
        camera = _found_camera(folders, names, y_up)
    except ValueError as error:
        if given is None:
            raise
        text = f"the camera's file is not used, since the camera is given by option: {error}"
        camera = Camera(torch.eye(3), "", findings=(Finding("note", "camera.broken", text),))
    if path is not None:
        return _given_file(path, camera, y_up)
    if numbers is not None:
        return _override(numbers, camera)
    if camera is not None or default is None:
        return camera
    return replace(default, findings=(*default.findings, *_unread(folders[0], set())))


def camera_path(given: Intrinsics | None) -> Path | None:
    """The file that an option names, None where it has numbers."""
    if isinstance(given, os.PathLike):
        return Path(given)
    if isinstance(given, str) and (
        re.search(r"\.(?:json|txt|ya?ml|xml)$", given, re.IGNORECASE) or Path(given).is_file()
    ):
        return Path(given)
    return None


def _given_file(path: Path, found: Camera | None, y_up: bool) -> Camera:
    """The camera of a file that is given; the depth scale may be that of the folder's own file."""
    camera = read_camera(path, y_up)
    if camera is None:
        raise ValueError(f"{path}: expected a camera, got a file that tells none")
    if camera.depth_scale is None and found is not None:
        return replace(camera, depth_scale=found.depth_scale, scale_source=found.scale_source)
    return camera


def _found_camera(folders: Sequence[Path], names: Sequence[str], y_up: bool) -> Camera | None:
    """The camera of the first file in the first folder that has any, with what is odd about the others.

    Raises:
        ValueError: a file that should tell a camera does not; names it.
    """
    read = _read_files(folders, names, y_up)
    if not read:
        return None
    camera = replace(read[0], findings=(*read[0].findings, *_unread(folders[0], {found.source for found in read})))
    for other in read[1:]:
        if not torch.allclose(other.K, camera.K, atol=1e-3):
            text = f"{other.source} tells another camera than {camera.source}, which is used"
            camera = replace(camera, findings=(*camera.findings, Finding("warning", "camera.contradiction", text)))
    return camera


def assumed(values: Intrinsics, size: tuple[int, int], data_set: str, is_certain: bool) -> Camera:
    """The camera of a data set, of images of `size` (H, W), for recordings that have its layout but tell no camera.

    is_certain: the names of folder and files leave no doubt that it is one of that data set.
    """
    K = parse_intrinsics(values)
    return Camera(K, f"that of {data_set}, assumed", size, is_assumed=True, is_certain=is_certain)


def read_camera(path: Path, y_up: bool = False) -> Camera | None:
    """The camera in a file, by its ending and form; None where a file that may hold other things too tells none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file does not hold a camera; names it.
    """
    if path.name in INFO or path.name == f"{path.parent.name}.txt":
        told = read_info(path)
    elif path.suffix.lower() in ENDINGS:
        told = read_camera_markup(path, y_up)
    else:
        is_json = path.suffix.lower() == ".json"
        told = read_camera_json(path, y_up) if is_json else read_camera_text(path, y_up)
    if told is None:
        return None
    unused = ", ".join(told.unused)
    findings = (Finding("warning", "camera.unused", f"{path.name}: not understood and not used: {unused}"),)
    return Camera(
        told.K,
        path.name,
        told.size,
        told.distortion,
        told.depth_scale,
        path.name,
        findings if unused else (),
        lens_model=told.lens_model,
        color=told.color,
        time_offset=told.time_offset,
        depth_distortion=told.depth_distortion,
    )


def fit_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of images of `size` (H, W), scaled where it belongs to images of another size and the same shape.

    Raises:
        ValueError: images of another shape, or a principal point outside of them.
    """
    height, width = size
    if camera.is_assumed:
        camera = replace(camera, findings=(*camera.findings, _assumption(camera, size)))
    if camera.size is not None and camera.size != size:
        scale = width / camera.size[1], height / camera.size[0]
        sizes = f"belongs to images of {camera.size[1]}x{camera.size[0]}, these are {width}x{height}"
        same_shape = abs(scale[0] / scale[1] - 1) <= SAME_SHAPE
        if not same_shape and not camera.is_assumed:
            raise ValueError(f"camera: {camera.source} {sizes}, of another shape; give that of these images")
        shape = ": scaled to them" if same_shape else ", of another shape, so that it cannot be right: scaled to them"
        text = f"the camera, {camera.source}, {sizes}{shape}"
        finding = Finding("warning" if same_shape else "error", "camera.resized", text)
        K = scale_intrinsics(camera.K, scale)
        camera = replace(camera, K=K, size=size, findings=(*camera.findings, finding))
    cx, cy = camera.K[:2, 2].tolist()
    if not (0 < cx < width - 1 and 0 < cy < height - 1):
        raise ValueError(
            f"camera: {camera.source}: expected a principal point inside of the images, which are {width}x{height}; "
            f"got ({cx:g}, {cy:g}): is it the camera of images of another size?"
        )
    if camera.distortion and camera.K[0, 1] != 0:
        raise ValueError(f"camera: {camera.source}: expected no skew together with distortion, got {camera.K[0, 1]:g}")
    return camera


def _assumption(camera: Camera, size: tuple[int, int]) -> Finding:
    """That a camera is that of a data set; a mere note where names and the size of the images are its too."""
    K = camera.K
    numbers = " ".join(f"{value:g}" for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    data_set = camera.source.removesuffix(", assumed")
    if camera.is_certain and camera.size == size:
        text = f"the camera is {data_set} (fx fy cx cy {numbers}), by the names of folder and files"
        return Finding("note", "camera.assumed", text)
    text = (
        f"the camera is assumed to be {data_set} (fx fy cx cy {numbers}), since nothing in the recording tells it; "
        "give it by --camera or in a file intrinsics.txt"
    )
    return Finding("warning", "camera.assumed", text)


def _override(K: Tensor, file: Camera | None) -> Camera:
    """The camera that is given, with the depth scale of the file, whose distortion is not undone."""
    if file is None:
        return Camera(K, "as given")
    findings = tuple(finding for finding in file.findings if finding.code in ("camera.unused", "camera.broken"))
    if file.distortion:
        text = f"the distortion in {file.source} is not undone, since the camera is given by option"
        findings += (Finding("warning", "camera.distortion", text),)
    given = Camera(K, "as given", None, None, file.depth_scale, file.source, findings)
    return replace(given, color=file.color, time_offset=file.time_offset)


def _read_files(folders: Sequence[Path], names: Sequence[str], y_up: bool) -> list[Camera]:
    """The cameras that files tell, of the first folder where any does; YAML and XML files have any name, and come last.

    Raises:
        ValueError: a file that should tell a camera does not; names it.
    """
    for folder in folders:
        named = [path for name in (*names, *INFO) if (path := folder / name).is_file()]
        found = [camera for path in named if (camera := read_camera(path, y_up)) is not None]
        for path in visible_files(folder):
            if path.suffix.lower() in ENDINGS and (other := _read_markup(path, y_up, bool(found))) is not None:
                found.append(other)
        if named or found:
            return found
    return []


def _read_markup(path: Path, y_up: bool, is_known: bool) -> Camera | None:
    """The camera of a file that may be of anything; ValueError where it tells one that cannot be used and is needed."""
    try:
        return read_camera(path, y_up)
    except BadMarkup:
        if is_known or not LIKE_A_CAMERA.search(path.name.lower()):
            return None
        raise
    except ValueError:
        if is_known:
            return None
        raise


def unknown_camera(folder: Path) -> str:
    """What to say of a recording whose camera nothing tells."""
    text = f"{folder}: the camera is not known. Give it as the option intrinsics ({FORMS}, or a file), or in a file "
    unread = "".join(f"; {finding.message}" for finding in _unread(folder, set()))
    return f"{text}intrinsics.txt or intrinsics.json in the folder{unread}"


def _unread(folder: Path, read: set[str]) -> tuple[Finding, ...]:
    """Files that may tell a camera, and are not read."""
    names = [path.name for path in visible_files(folder) if path.suffix.lower() in LISTED and path.name not in read]
    like = [name for name in names if LIKE_A_CAMERA.search(name.lower()) and not NOT_A_CAMERA.search(name.lower())]
    if not like:
        return ()
    text = f"{', '.join(like[:3])}: may tell the camera, and is not read; intrinsics.json and intrinsics.txt are"
    return (Finding("warning", "camera.unread", text),)
