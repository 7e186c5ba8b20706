"""The camera of a recording: what its files say is used, scaled or refused, in every layout alike."""

from __future__ import annotations

import json

import imageio.v3 as iio
import pytest
import torch

from gradslam_ng.datasets import ICL, TUM, Folder, RecordingWarning, SevenScenes, load

LAYOUTS = ["tum", "icl", "sevenscenes", "replica", "folder"]
K = [[30.0, 0.0, 15.5], [0.0, 31.0, 11.5], [0.0, 0.0, 1.0]]
NUMBERS = {"fx": 30, "fy": 31, "cx": 15.5, "cy": 11.5}


@pytest.fixture
def folder(recordings, tmp_path):
    """A plain folder without a camera."""
    made = recordings.folder(tmp_path / "desk")
    (made / "intrinsics.txt").unlink()
    return made


def codes(sequence) -> set[str]:
    return {finding.code for finding in sequence.findings}


def bare(recordings, layout, folder):
    """A recording without any file that tells its camera."""
    made = getattr(recordings, layout)(folder)
    for name in ("intrinsics.txt", "cam_params.json"):
        (made / name).unlink(missing_ok=True)
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["intrinsics.json", "camera.json", "cam_params.json", "camera_intrinsics.json"])
def test_a_json_with_distortion_and_scale_serves_every_layout(recordings, tmp_path, layout, name):
    made = bare(recordings, layout, tmp_path / "room")
    plain = load(made, intrinsics=[30, 31, 15.5, 11.5], depth_scale=1000)[2]
    content = NUMBERS | {"width": 32, "height": 24, "depth_scale": 2000, "distortion": [0.2, -0.1, 0.01, -0.02]}
    (made / name).write_text(json.dumps(content))
    sequence = load(made)
    assert sequence.K.tolist() == K and sequence.depth_scale == 2000
    assert not codes(sequence) and not torch.equal(sequence[2].color, plain.color)
    halved = sequence[2].depth
    assert torch.isin(halved, torch.cat([plain.depth.flatten() / 2, torch.zeros(1)])).float().mean() > 0.99


@pytest.mark.parametrize("layout", ["icl", "sevenscenes", "replica"])
def test_a_default_is_never_silent(recordings, tmp_path, layout):
    made = bare(recordings, layout, tmp_path / "room")
    with pytest.warns(RecordingWarning, match="the camera is assumed to be that of"):
        sequence = load(made)
    assert {"camera.assumed", "camera.resized"} <= codes(sequence)
    cx, cy = sequence.K[:2, 2].tolist()
    assert abs(cx - 15.5) < 1 and abs(cy - 11.5) < 1


@pytest.mark.parametrize(("width", "height"), [(64, 48), (16, 12), (640, 480)])
def test_a_camera_of_another_image_size_is_scaled(folder, width, height):
    """The ray of a point of the image stays what it is: half a pixel lies beyond the centers of the outer ones."""
    s = width / 32
    given = {"fx": 30 * s, "fy": 31 * s, "cx": 16 * s - 0.5, "cy": 12 * s - 0.5, "width": width, "height": height}
    (folder / "intrinsics.json").write_text(json.dumps(given))
    with pytest.warns(RecordingWarning, match=f"belongs to images of {width}x{height}, these are 32x24: scaled"):
        sequence = Folder(folder)
    torch.testing.assert_close(sequence.K, torch.tensor(K))


def test_a_camera_of_another_shape_is_refused(folder):
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {"w": 32, "h": 32}))
    with pytest.raises(ValueError, match=r"intrinsics\.json belongs to images of 32x32, these are 32x24, of another"):
        Folder(folder)


@pytest.mark.parametrize("center", ["-1,11.5", "15.5,-3", "31.5,11.5", "319.5,239.5", "15.5,23.5"])
def test_a_principal_point_outside_of_the_images_is_refused(folder, center):
    with pytest.raises(ValueError, match="expected a principal point inside of the images, which are 32x24"):
        Folder(folder, intrinsics=f"30,31,{center}")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"width": 32}, "expected JSON with"), ({"width": 0, "height": 0}, "expected a width and a height"),
     ({"depth_scale": True}, "expected JSON with"), ({"depth_scale": "many"}, "expected JSON with"),
     ({"depth_scale": -1}, "depth_scale: expected a positive number")],
)  # fmt: skip
def test_numbers_that_are_none(folder, changed, message):
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | changed))
    with pytest.raises(ValueError, match=message):
        Folder(folder)


def test_skew_is_used_or_refused(folder):
    skewed = [[30, 2, 15.5], [0, 31, 11.5], [0, 0, 1]]
    assert float(Folder(folder, intrinsics=skewed).K[0, 1]) == 2
    for content in (NUMBERS | {"skew": 2}, {"intrinsic_matrix": skewed}):
        (folder / "intrinsics.json").write_text(json.dumps(content))
        assert Folder(folder).K.tolist() == [[30, 2, 15.5], [0, 31, 11.5], [0, 0, 1]]
    (folder / "intrinsics.json").write_text(json.dumps({"K": skewed, "distortion": [0.1, 0, 0, 0]}))
    with pytest.raises(ValueError, match="no skew together with distortion"):
        Folder(folder)


@pytest.mark.parametrize(
    "content",
    [
        {"fl_x": 30, "fl_y": 31, "cx": 15.5, "cy": 11.5, "w": 32, "h": 24, "k1": 0.2, "k2": -0.1, "p1": 0.01},
        {"fx": 30, "fy": 31, "ppx": 15.5, "ppy": 11.5, "model": "distortion.brown_conrady",
         "coeffs": [0.2, -0.1, 0.01, 0]},
        {"camera_matrix": {"rows": 3, "data": [30, 0, 15.5, 0, 31, 11.5, 0, 0, 1]}, "D": [0.2, -0.1, 0.01, 0, 0]},
        {"K": K, "distortion_coefficients": {"data": [0.2, -0.1, 0.01, 0]}, "distortion_model": "plumb_bob"},
        {"camera": NUMBERS, "distortion": {"model": "OpenCV", "coefficients": [0.2, -0.1, 0.01, 0]}},
    ],
)  # fmt: skip
def test_names_of_other_programs(folder, content):
    """nerfstudio, RealSense, OpenCV, ROS."""
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {"distortion": [0.2, -0.1, 0.01, 0]}))
    expected = Folder(folder)[1].color
    (folder / "intrinsics.json").write_text(json.dumps(content))
    sequence = Folder(folder)
    assert sequence.K.tolist() == K and torch.equal(sequence[1].color, expected)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("distorsion", "distortion"), ("Distortion", "distortion"), ("depthscale", "depth_scale"), ("widht", "width"),
     ("dist_coefs", "dist_coeffs"), ("depth_scales", "depth_scale")],
)  # fmt: skip
def test_a_name_that_is_nearly_known_is_refused_with_the_one_meant(folder, name, meant):
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {name: [0.1, 0, 0, 0]}))
    with pytest.raises(ValueError, match=rf"intrinsics\.json: '{name}' is not known; perhaps you meant {meant}"):
        Folder(folder)


def test_what_is_not_used_is_said(folder):
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {"serial": "12", "temperature": 30}))
    with pytest.warns(RecordingWarning, match=r"intrinsics\.json: not understood and not used: serial, temperature"):
        Folder(folder)


def test_given_twice_or_by_two_files(folder):
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {"scale": 1000, "depth_scale": 5000}))
    with pytest.raises(ValueError, match="depth_scale is given twice"):
        Folder(folder)
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS))
    (folder / "intrinsics.txt").write_text("29 29 15 11")
    with pytest.warns(RecordingWarning, match=r"intrinsics\.txt tells another camera than intrinsics\.json, which is"):
        assert Folder(folder).K.tolist() == K


@pytest.mark.parametrize("name", ["calibration.yaml", "camera_info.yml", "Calib_cam0.xml", "my_intrinsics.txt"])
def test_files_that_may_tell_the_camera_and_are_not_read_are_named(recordings, tmp_path, name):
    folder = recordings.sevenscenes(tmp_path / "seq-01")
    (folder / name).write_text("<fx>30</fx>" if name.endswith("xml") else "fx: 30")
    with pytest.warns(RecordingWarning, match=f"{name}: may tell the camera, and is not read"):
        SevenScenes(folder)


def test_the_distortion_of_a_file_is_not_undone_for_a_given_camera(folder):
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {"distortion": [0.1, 0, 0, 0], "depth_scale": 500}))
    with pytest.warns(RecordingWarning, match=r"the distortion in intrinsics\.json is not undone"):
        sequence = Folder(folder, intrinsics=K)
    assert sequence.depth_scale == 500


@pytest.mark.parametrize("text", ["30 31 15.5 11.5 0.2 -0.1 0.01 0", "30, 31, 15.5, 11.5\n0.2, -0.1, 0.01, 0\n",
                                  "30 31 15.5 11.5 0.2 -0.1 0.01 0 0"])  # fmt: skip
def test_text_with_distortion(folder, text):
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {"distortion": [0.2, -0.1, 0.01, 0]}))
    expected = Folder(folder)[1].color
    (folder / "intrinsics.json").unlink()
    (folder / "intrinsics.txt").write_text(text)
    torch.testing.assert_close(Folder(folder)[1].color, expected)


def test_published_cameras_are_noted(recordings, tmp_path):
    folder = bare(recordings, "tum", tmp_path / "rgbd_dataset_freiburg1_desk")
    with pytest.warns(RecordingWarning, match="scaled"):
        sequence = TUM(folder)
    assert [finding.code for finding in sequence.findings if finding.severity == "note"] == ["camera.published"]


@pytest.mark.parametrize("scale", [0.001, 0.0002])
def test_meters_in_a_unit_are_no_units_in_a_meter(folder, scale):
    """As RealSense gives it."""
    (folder / "intrinsics.json").write_text(json.dumps(NUMBERS | {"depth_scale": scale}))
    with pytest.raises(ValueError, match=f"depth_scale: expected .* got {scale:g}; for units of {scale:g} m give"):
        Folder(folder)


def test_an_option_of_a_layout_with_a_default(recordings, tmp_path):
    folder = bare(recordings, "icl", tmp_path / "office")
    sequence = ICL(folder, intrinsics=K, depth_scale=1000)
    assert not sequence.findings and sequence.K.tolist() == K and sequence.depth_scale == 1000


@pytest.mark.parametrize(
    ("layout", "certain", "other", "size"),
    [
        ("sevenscenes", "chess/seq-03", "lab/seq-03", (480, 640)),
        ("sevenscenes", "redkitchen/seq-12", "chess/run3", (480, 640)),
        ("replica", "office3", "lab", (680, 1200)),
        ("icl", "traj3.gt.freiburg", "mine.gt.freiburg", (480, 640)),
        ("icl", "livingRoom2n.gt.freiburg", "traj9.gt.freiburg", (480, 640)),
    ],
)
def test_the_camera_of_a_genuine_recording_of_a_data_set_is_a_note(
    recordings, tmp_path, recwarn, layout, certain, other, size
):
    """By the names of folder and files, and by the size of the images; either alone leaves a warning."""
    for name, image_size, severities in (
        (certain, size, ["note"]), (other, size, ["warning"]), (certain, (size[0] // 2, size[1] // 2), ["warning"] * 2),
    ):  # fmt: skip
        place = tmp_path / f"{image_size[0]}" / name if layout != "icl" else tmp_path / name.partition(".")[0] / "room"
        place = place if not place.exists() else place.parent / "again"
        made = bare(recordings, layout, place)
        if layout == "icl":
            (made / "traj9.gt.freiburg").rename(made / name)
        for path in [*made.rglob("*.png"), *made.rglob("*.jpg")]:
            image = recordings.depth_image(1, 1000, image_size) if "depth" in str(path.relative_to(made)) else None
            iio.imwrite(path, recordings.color_image(1, image_size) if image is None else image)
        found = [finding for finding in load(made).findings if finding.code.startswith("camera")]
        assert [finding.severity for finding in found] == severities
        assert found[0].code == "camera.assumed"


def test_a_given_file_that_is_absent(folder):
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        Folder(folder, intrinsics=folder / "absent.json")


def test_the_name_in_singular(folder):
    """As Open3D's recorder of RealSense cameras writes it."""
    content = {"width": 32, "height": 24, "intrinsic_matrix": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1]}
    (folder / "camera_intrinsic.json").write_text(json.dumps(content))
    sequence = Folder(folder)
    assert sequence.K.tolist() == K and not sequence.findings


def test_a_message_of_ros_as_json(folder):
    content = {
        "header": {"seq": 1}, "height": 24, "width": 32, "distortion_model": "rational_polynomial", "d": [0.0] * 8,
        "k": [30, 0, 15.5, 0, 31, 11.5, 0, 0, 1], "r": [1, 0, 0, 0, 1, 0, 0, 0, 1],
        "p": [30, 0, 15.5, 0, 0, 31, 11.5, 0, 0, 0, 1, 0], "binning_x": 0, "binning_y": 0,
        "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
    }  # fmt: skip
    (folder / "camera_info.json").write_text(json.dumps(content))
    assert Folder(folder).K.tolist() == K and not Folder(folder).findings
    content["p"][0] = 28
    (folder / "camera_info.json").write_text(json.dumps(content))
    with pytest.warns(RecordingWarning, match="not understood and not used: p"):
        Folder(folder)
