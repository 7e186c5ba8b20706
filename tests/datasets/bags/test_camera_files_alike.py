"""What a camera file says holds alike for folders of images, bags and files of many: the same frames come out."""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.calibration.keyframes import read_apart, told_cameras
from gradslam_ng.datasets import RecordingWarning
from gradslam_ng.geometry import se3

pytest.importorskip("rosbags", reason="the extra [rosbag] is not installed")

SIZE, FRAMES = (120, 160), 3  # a size by which raw images of a .klg are told
START = 1_700_000_000
ONE = {"fx": 140.0, "fy": 141.0, "cx": 80.5, "cy": 58.5, "width": 160, "height": 120}
HALF = {"fx": 70.0, "fy": 70.5, "cx": 40.0, "cy": 29.0, "width": 80, "height": 60}
LENS = {"distortion": {"model": "brown_conrady", "coefficients": [0.05, -0.02, 0.004, -0.003]}}
FISHEYE = {"distortion": {"model": "kannala_brandt", "coefficients": [0.05, -0.02, 0.004, -0.003]}}
T = se3.exp(torch.tensor([-0.03, 0.01, 0.0, 0.0, 0.02, 0.0], dtype=torch.float64)).tolist()
TWO = {"color": ONE | {"fx": 150.0, "cx": 77.5}, "T_color_depth": T}
FILES = {
    "one camera": ONE,
    "of images of another size": HALF,
    "lens": ONE | LENS,
    "fisheye": ONE | FISHEYE,
    "depth scale": ONE | {"depth_scale": 1250},
    "distortion of depth": ONE | {"depth_distortion": [0.01, -0.03]},
    "distortion of depth and lens": ONE | LENS | {"depth_distortion": [0.01, -0.03], "depth_scale": 900},
    "two cameras": ONE | TWO,
    "two cameras at one place": ONE | TWO | {"T_color_depth": np.eye(4).tolist()},
    "two cameras and all": ONE | LENS | {"color": ONE | FISHEYE, "T_color_depth": T, "depth_distortion": [0.01, 0.02]},
}
KINDS = ("tum", "scannet", "transforms", "bag", "klg", "sens")


def images(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Color (H, W, 3) uint8 and depth (H, W) uint16: a slope with a step in it."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    color = np.stack([u, 2 * v, 50 * index + u // 8], -1).astype(np.uint8)
    depth = 1500 + 2 * u + v + 400 * (u > 90) - 10 * index
    depth[40:50, 20:30] = 0
    return color, depth.astype(np.uint16)


def write_folder(folder: Path, _bags) -> Path:
    for i, time in enumerate(times()):
        for name, image in zip(("color", "depth"), images(i), strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            iio.imwrite(folder / name / f"{time:.6f}.png", image)
    return folder


def times() -> list[float]:
    return [START + i / 32 for i in range(FRAMES)]


def write_tum(folder: Path, bags) -> Path:
    write_folder(folder, bags)
    for name, listed in (("color", "rgb"), ("depth", "depth")):
        lines = [f"{time:.6f} {name}/{time:.6f}.png" for time in times()]
        (folder / f"{listed}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_scannet(folder: Path, _bags) -> Path:
    for i in range(FRAMES):
        for name, image in zip(("color", "depth"), images(i), strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            iio.imwrite(folder / name / f"{i}.png", image)
    (folder / "intrinsic").mkdir()
    (folder / "intrinsic" / "intrinsic_depth.txt").write_text("99 0 79.5 0\n0 99 59.5 0\n0 0 1 0\n0 0 0 1\n")
    return folder


def write_transforms(folder: Path, bags) -> Path:
    write_folder(folder, bags)
    names = [(f"color/{time:.6f}.png", f"depth/{time:.6f}.png") for time in times()]
    frames = [
        {"file_path": color, "depth_file_path": depth, "transform_matrix": np.eye(4).tolist()} for color, depth in names
    ]
    camera = {"fl_x": 99.0, "fl_y": 99.0, "cx": 80.0, "cy": 60.0, "w": 160, "h": 120}
    (folder / "transforms.json").write_text(json.dumps(camera | {"frames": frames}))
    return folder


def write_bag(folder: Path, bags) -> Path:
    def fill(bag):
        for i, time in enumerate(times()):
            color, depth = images(i)
            bag.info("/camera/color/camera_info", int(time * 1e9), "optical", SIZE, 99.0)
            bag.image("/camera/color/image_raw", color, "rgb8", int(time * 1e9), "optical")
            bag.image("/camera/aligned_depth_to_color/image_raw", depth, "16UC1", int(time * 1e9), "optical")

    return bags.write("ros1", filling=fill)


def write_klg(folder: Path, _bags) -> Path:
    data = struct.pack("<i", FRAMES)
    for i, time in enumerate(times()):
        color, depth = (image.tobytes() for image in images(i))
        depth = zlib.compress(depth)
        data += struct.pack("<qii", int(time * 1e6), len(depth), len(color)) + depth + color
    folder.with_suffix(".klg").write_bytes(data)
    return folder.with_suffix(".klg")


def write_sens(folder: Path, _bags) -> Path:
    K = [99.0, 0, 79.5, 0, 0, 99.0, 59.5, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    eye = np.eye(4).ravel().tolist()
    data = struct.pack("<IQ", 4, 1) + b"S" + struct.pack("<64f", *K, *eye, *K, *eye)
    data += struct.pack("<2i4IfQ", 0, 0, 160, 120, 160, 120, 1000.0, FRAMES)
    for i, time in enumerate(times()):
        color, depth = (image.tobytes() for image in images(i))
        data += struct.pack("<16f4Q", *eye, int(time * 1e6), int(time * 1e6), len(color), len(depth)) + color + depth
    folder.with_suffix(".sens").write_bytes(data + struct.pack("<Q", 0))
    return folder.with_suffix(".sens")


WRITERS = {"folder": write_folder, "tum": write_tum, "scannet": write_scannet, "transforms": write_transforms}
WRITERS |= {"bag": write_bag, "klg": write_klg, "sens": write_sens}


@pytest.fixture
def load(tmp_path, bags):
    """Function (kind, content of a camera file, **options) -> a sequence that is loaded with it."""

    def load(kind: str, content: dict, **options):
        camera = tmp_path / "camera.json"
        camera.write_text(json.dumps(content))
        source = WRITERS[kind](tmp_path / kind, bags)
        if kind == "tum":  # whose own scale is another
            options["depth_scale"] = content.get("depth_scale", 1000)
        return datasets.load(source, intrinsics=camera, **options)

    return load


@pytest.mark.filterwarnings("ignore::gradslam_ng.datasets.RecordingWarning")
@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_a_folder(load, kind, what):
    expected, sequence = load("folder", FILES[what]), load(kind, FILES[what])
    assert len(sequence) == FRAMES and torch.equal(sequence.K, expected.K) and sequence.size == expected.size
    assert sequence.depth_scale == expected.depth_scale
    for i in (0, FRAMES - 1):
        assert torch.equal(sequence[i].depth, expected[i].depth)
        assert torch.equal(sequence[i].color, expected[i].color)
        for one, other in zip(read_apart(sequence, i), read_apart(expected, i), strict=True):
            assert torch.equal(one, other)
    for one, other in zip(told_cameras(sequence), told_cameras(expected), strict=True):
        assert torch.equal(one, other)
    codes = [sorted(finding.code for finding in each.findings) for each in (sequence, expected)]
    assert codes[0] == codes[1]


@pytest.mark.filterwarnings("ignore::gradslam_ng.datasets.RecordingWarning")
@pytest.mark.parametrize("what", ["distortion of depth", "two cameras and all", "depth scale"])
def test_the_file_changes_the_frames(load, what):
    """What the others are compared with does what the file says."""
    frames = [load("folder", content)[0] for content in (ONE, FILES[what])]
    assert (frames[0].depth - frames[1].depth).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_keep_what_they_do_not_tell(load, tmp_path, kind):
    """Of the recording's own: the scale of depth."""
    sequence = load(kind, ONE)
    given = datasets.load(
        sequence_path(tmp_path, kind),
        intrinsics=[140.0, 141.0, 80.5, 58.5],
        **({"depth_scale": 1000} if kind == "tum" else {}),
    )
    assert torch.equal(given.K, sequence.K) and torch.equal(given[0].depth, sequence[0].depth)


def sequence_path(folder: Path, kind: str) -> Path:
    return folder / {"bag": "walk.bag", "klg": "klg.klg", "sens": "sens.sens"}.get(kind, kind)


@pytest.mark.parametrize("kind", ["folder", "tum", "bag"])
def test_time_of_color_where_images_have_times_of_their_own(load, kind):
    """Color is late by a frame: each frame has the color that was recorded after it, the last one none."""
    sequence = load(kind, ONE | {"time_offset": 1 / 32})
    assert len(sequence) == FRAMES - 1 and not any(finding.code == "time.offset" for finding in sequence.findings)
    for i in range(FRAMES - 1):
        assert math.isclose(float(sequence[i].timestamps), START + i / 32, abs_tol=1e-5)
        assert round(255 * float(sequence[i].color[0, 0, 2])) == 50 * (i + 1)
        assert torch.equal(sequence[i].depth[..., 0], torch.from_numpy(images(i)[1] / 1000).float())


@pytest.mark.parametrize("kind", ["scannet", "transforms", "klg", "sens"])
def test_time_of_color_where_a_frame_has_one_time_is_said_not_to_be_used(load, kind):
    with pytest.warns(RecordingWarning, match=r"the time of color, \+31.25 ms in camera.json, is not taken into acc"):
        sequence = load(kind, ONE | {"time_offset": 1 / 32})
    assert [finding.severity for finding in sequence.findings if finding.code == "time.offset"] == ["warning"]
