"""What is odd about a recording is found, once, by one judge."""

from __future__ import annotations

import json

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.datasets import TUM, Folder, RecordingWarning, info, validate
from gradslam_ng.datasets.sampling import sample_frames
from gradslam_ng.geometry import se3


@pytest.fixture
def folder(recordings, tmp_path):
    return recordings.folder(tmp_path / "desk")


@pytest.fixture
def tum(recordings, tmp_path):
    return TUM(recordings.tum(tmp_path / "room"))


@pytest.fixture
def embedded():
    """The first frames of the recording that comes with the project, to be changed."""
    return datasets.load("datasets/living_room")[:]


def found(sequence) -> dict[str, str]:
    """Severity by code."""
    return {finding.code: finding.severity for finding in validate(sequence)}


def write_depth(folder, image) -> None:
    for i in range(8):
        iio.imwrite(folder / "depth" / f"{i:04d}.png", image(i))


def test_nothing_is_found_where_nothing_is_odd(recordings, tum, folder):
    assert validate(tum) == [] and validate(Folder(folder)) == []
    scannet = recordings.scannet(folder.parent / "scene")
    assert [each.code for each in validate(datasets.load(scannet))] == ["files.lines"]  # a lost pose


@pytest.mark.parametrize(
    ("scale", "severity"), [(1000, None), (10000, "warning"), (60, "warning"), (5, "error"), (50000, "error")]
)
def test_depth_in_another_unit(folder, scale, severity):
    assert found(Folder(folder, depth_scale=scale)).get("depth.unit") == severity


def test_floats_in_millimeters(folder, recordings):
    for i in range(8):
        (folder / "depth" / f"{i:04d}.png").unlink()
        np.save(folder / "depth" / f"{i:04d}.npy", recordings.depth_image(i, 1000).astype(np.float32))
    assert found(Folder(folder)) == {"depth.unit": "error"}
    assert found(Folder(folder, depth_scale=1000)) == {}
    camera = {"fx": 30, "fy": 30, "cx": 15.5, "cy": 11.5, "depth_scale": 1000}
    (folder / "intrinsics.json").write_text(json.dumps(camera))
    assert found(Folder(folder)) == {}


def test_depth_beyond_any_sensor_constant_or_hardly_any(folder, recordings):
    far = np.full((24, 32), 60000, np.uint16)
    write_depth(folder, lambda i: np.where(np.arange(32) < 10, far, recordings.depth_image(i, 1000)))
    assert found(Folder(folder)) == {"depth.far": "warning"}
    assert found(datasets.load(folder, max_depth=10.0)) == {"depth.beyond": "warning"}
    write_depth(folder, lambda i: np.full((24, 32), 1500 + i, np.uint16))
    assert found(Folder(folder)) == {"depth.constant": "error"}
    write_depth(folder, lambda i: recordings.depth_image(i, 1000) * (np.arange(24)[:, None] < 2))
    assert found(Folder(folder)) == {"depth.few": "warning"}
    write_depth(folder, lambda i: np.zeros((24, 32), np.uint16))
    assert found(Folder(folder)) == {"depth.none": "error"}


@pytest.mark.parametrize(("value", "code"), [(0, "color.constant"), (128, "color.constant")])
def test_color_of_one_value(folder, value, code):
    for i in range(8):
        iio.imwrite(folder / "color" / f"{i:04d}.png", np.full((24, 32, 3), value, np.uint8))
    assert found(Folder(folder)) == {code: "warning"}


def test_color_that_is_nearly_black(folder, recordings):
    for i in range(8):
        iio.imwrite(folder / "color" / f"{i:04d}.png", recordings.color_image(i) // 100)
    assert found(Folder(folder)) == {"color.dark": "warning"}


def test_color_of_12_bit_in_files_of_16(folder, recordings):
    for i in range(8):
        pixels = recordings.color_image(i)[..., 0].astype(np.uint16) * 16
        iio.imwrite(folder / "color" / f"{i:04d}.png", pixels)
    assert found(Folder(folder)) == {"color.bits": "warning"}


def test_frames_that_do_not_change(folder, recordings):
    for i in range(8):
        iio.imwrite(folder / "color" / f"{i:04d}.png", recordings.color_image(0))
        iio.imwrite(folder / "depth" / f"{i:04d}.png", recordings.depth_image(0, 1000))
    assert found(Folder(folder)) == {"frames.repeated": "warning"}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 1, 2, 3, 5, 6, 7, 8], {"time.gaps": "warning"}),  # one of so few is more than a tenth
        ([0, 1, 2, 2, 3, 4, 5, 6], {"time.repeated": "warning"}),
        ([0, 1, 3, 2, 4, 5, 6, 7], {"time.unsorted": "warning", "time.gaps": "warning"}),
        ([30e9 * i for i in range(8)], {"time.unit": "warning"}),  # nanoseconds
    ],
)
def test_times(tum, times, expected):
    tum.timestamps = torch.tensor(times, dtype=torch.float64) / 30
    tum.T_wc = None
    assert found(tum) == expected


def test_a_dropped_frame_in_a_long_recording_is_a_note(tum):
    tum.T_wc, tum.timestamps = None, torch.cat([torch.arange(50), torch.arange(51, 90)]).double() / 30
    assert [each.severity for each in validate(tum) if each.code == "time.gaps"] == ["note"]


@pytest.mark.parametrize(
    ("K", "code"),
    [([[30, 0, 8], [0, 30, 11.5], [0, 0, 1]], "camera.center"),
     ([[3, 0, 15.5], [0, 3, 11.5], [0, 0, 1]], "camera.focal"),
     ([[30, 0, 15.5], [0, 60, 11.5], [0, 0, 1]], "camera.focal")],
)  # fmt: skip
def test_cameras(tum, K, code):
    tum.K = torch.tensor(K)
    assert found(tum) == {code: "warning"}


def test_poses(tum):
    good = tum.T_wc
    cases = {
        "poses.rigid": (good * torch.tensor([1.1, 1.1, 1.1, 1]), "error"),
        "poses.still": (good[:1].expand(8, 4, 4), "warning"),
        "poses.none": (torch.full_like(good, torch.nan), "warning"),
        "poses.jump": (
            good + torch.eye(4)[0][:, None] * torch.eye(4)[3] * (torch.arange(8) > 3)[:, None, None],
            "warning",
        ),
    }
    for code, (T_wc, severity) in cases.items():
        tum.T_wc = T_wc
        assert {name: how for name, how in found(tum).items() if name != "poses.images"} == {code: severity}
    tum.T_wc = good.clone()
    tum.T_wc[:, :3, 3] *= 1000
    (finding,) = [each for each in validate(tum) if each.code == "poses.jump"]
    assert "is it in meters" in finding.message


def test_load_warns_and_keeps_what_it_warned_of(recordings, tmp_path):
    """Of files; images are looked at by `validate`. The judge of `info` is the same."""
    folder = recordings.tum(tmp_path / "desk")
    lines = (folder / "depth.txt").read_text().splitlines()
    (folder / "depth.txt").write_text("\n".join([*lines[:2], *lines[3:], lines[2]]))
    (folder / "intrinsics.json").write_text(json.dumps({"fx": 60, "fy": 60, "cx": 31.5, "cy": 23.5, "w": 64, "h": 48}))
    (folder / "intrinsics.txt").unlink()
    with pytest.warns() as caught:
        sequence = datasets.load(folder)
    assert sum(issubclass(each.category, RecordingWarning) for each in caught) == 1
    assert {each.code for each in sequence.findings} == {"camera.resized", "files.lines"}
    assert validate(sequence) == info(sequence).findings
    assert len(info(sequence).warnings) == 2
    assert sequence[::2].findings == sequence.findings


def test_the_worst_comes_first(folder):
    write_depth(folder, lambda i: np.zeros((24, 32), np.uint16))
    (folder / "depth" / "0003.png").unlink()
    assert [each.severity for each in validate(Folder(folder))] == ["error", "warning", "warning"]


@pytest.mark.parametrize(("kind", "other"), [("color", "depth"), ("depth", "color")])
def test_one_kind_of_image_that_has_frozen(recordings, folder, kind, other):
    for i in range(1, 8):
        (folder / kind / f"{i:04d}.png").write_bytes((folder / kind / "0000.png").read_bytes())
    assert found(Folder(folder)) == {f"{kind}.repeated": "warning"}
    for i in range(1, 8):  # as where there is gray alone, or the camera stands still
        (folder / other / f"{i:04d}.png").write_bytes((folder / other / "0000.png").read_bytes())
    assert found(Folder(folder)) == {"frames.repeated": "warning"}


def test_gray_for_want_of_color_has_not_frozen(folder):
    for i in range(8):
        iio.imwrite(folder / "color" / f"{i:04d}.png", np.full((24, 32, 3), 128, np.uint8))
    assert found(Folder(folder)) == {"color.constant": "warning"}


def test_frames_before_the_ground_truth_begins_are_no_fault_of_the_recording(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    truth = folder / "groundtruth.txt"
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join([lines[0], *lines[5:]]))
    assert found(TUM(folder)[:3]) == {"poses.none": "note"}
    truth.write_text("\n".join(recordings.tum_line(3700 + i / 30, recordings.poses()[i]) for i in range(8)))
    assert found(TUM(folder)[:3]) == {"poses.none": "warning"}  # of another clock


def test_ground_truth_of_positions_alone(tum):
    tum.T_wc = torch.eye(4, dtype=torch.float64).repeat(8, 1, 1)
    tum.T_wc[:, 0, 3] = torch.arange(8) * 0.01
    assert found(tum) == {"poses.rotation": "note"}


def scalar_first(T_wc: torch.Tensor) -> torch.Tensor:
    """As read from quaternions w x y z, taken for x y z w."""
    t, q = se3.to_quaternion(T_wc)
    return se3.from_quaternion(t, q.roll(1, -1))


WRONG_POSES = {
    "world to camera": se3.inverse,
    "quaternions in another order": scalar_first,
    "a camera with y up, that looks back": lambda T_wc: T_wc @ torch.diag(T_wc.new_tensor([1, -1, -1, 1])),
    "positions mirrored": lambda T_wc: T_wc * torch.tensor([[1, 1, 1, -1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]),
    "backwards": lambda T_wc: T_wc.flip(0),
}
WRONG_IMAGES = {
    "upside down": lambda depth: depth.flip(0),
    "mirrored": lambda depth: depth.flip(1),
    "a fifth as far": lambda depth: depth / 5,
    "five times as far": lambda depth: 5 * depth,
    "disparity": lambda depth: torch.where(depth > 0, 2 / depth.clamp(min=0.1), 0),
}


def test_ground_truth_that_fits_the_images(embedded):
    assert embedded.T_wc is not None and validate(embedded) == []


@pytest.mark.parametrize("change", WRONG_POSES.values(), ids=WRONG_POSES)
def test_ground_truth_in_other_axes(embedded, change):
    embedded.T_wc = change(embedded.T_wc)
    assert found(embedded) == {"poses.images": "warning"}


@pytest.mark.parametrize("change", WRONG_IMAGES.values(), ids=WRONG_IMAGES)
def test_depth_that_the_ground_truth_contradicts(embedded, change):
    """Also where the median depth is one that rooms have."""
    read = embedded.read
    embedded.read = lambda index: (read(index)[0], change(read(index)[1]))
    assert found(embedded).get("poses.images") == "warning"


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_camera_that_the_ground_truth_contradicts(embedded, scale):
    embedded.K = embedded.K * torch.tensor([scale, scale, 1])[:, None]
    assert found(embedded).get("poses.images") == "warning"


def test_poses_are_held_against_images_where_both_are_known(embedded):
    """Neither of frames without a pose, nor of a camera that hardly moves, nor of frames that cannot be read."""
    wrong = se3.inverse(embedded.T_wc)
    embedded.T_wc = torch.where((torch.arange(len(wrong)) < 3)[:, None, None], wrong, torch.nan)
    assert sample_frames(embedded, 8, 20.0).pose_errors == ()
    embedded.T_wc = se3.exp(1e-4 * se3.log(wrong))
    assert sample_frames(embedded, 8, 20.0).pose_errors == ()
