"""The camera of a recording, from an option, from whichever file in its folder tells it, or from its data set."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import torch

from gradslam_ng.datasets.camera import Camera
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.image_files import visible_files
from gradslam_ng.datasets.intrinsics import FORMS, Intrinsics, parse_intrinsics
from gradslam_ng.datasets.intrinsics_json import read_camera_json
from gradslam_ng.datasets.intrinsics_markup import ENDINGS, read_camera_markup
from gradslam_ng.datasets.intrinsics_text import read_camera_text, read_info
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

    What is given may be the name of a file; see `with_given`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is given, or a file, does not tell a camera; names it.
    """
    try:
        camera = _found_camera(folders, names, y_up)
    except ValueError as error:
        if given is None:
            raise
        text = f"the camera's file is not used, since the camera is given by option: {error}"
        camera = Camera(torch.eye(3), "", findings=(Finding("note", "camera.broken", text),))
    if given is not None:
        return read_given(given, y_up) if camera is None else with_given(camera, given, y_up)
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


def read_given(given: Intrinsics, y_up: bool = False) -> Camera:
    """The camera that the user gives: numbers, which are of images without distortion, or a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is given does not tell a camera; names it.
    """
    path = camera_path(given)
    if path is None:
        return Camera(parse_intrinsics(given, y_up=y_up), "as given")
    told = read_camera(path, y_up)
    if told is None:
        raise ValueError(f"{path}: expected a camera, got a file that tells none")
    return told


def with_given(camera: Camera, given: Intrinsics | None, y_up: bool = False) -> Camera:
    """The camera of a recording, or the one that the user gives: its K, its size and its lens; what that one does not
    tell of the scale and the distortion of depth, and of a color camera and its time, is the recording's.

    Raises:
        FileNotFoundError, ValueError: see `read_given`.
    """
    if given is None:
        return camera
    told = read_given(given, y_up)
    findings = tuple(finding for finding in camera.findings if finding.code in ("camera.unused", "camera.broken"))
    if camera.distortion and camera_path(given) is None:
        text = f"the distortion in {camera.source} is not undone, since the camera is given by option"
        findings += (Finding("warning", "camera.distortion", text),)
    if told.depth_scale is None:
        told = replace(told, depth_scale=camera.depth_scale, scale_source=camera.scale_source)
    if told.depth_distortion is None:
        told = replace(told, depth_distortion=camera.depth_distortion)
    if told.color is None:
        told = replace(told, color=camera.color, time_offset=told.time_offset or camera.time_offset)
    return replace(told, findings=(*told.findings, *findings))


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
