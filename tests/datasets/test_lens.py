"""Lenses: coefficients in every form are undone, other models refused, and nothing is dropped in silence."""

from __future__ import annotations

import json

import pytest
import torch

from gradslam_ng.datasets.camera_files import read_camera
from gradslam_ng.datasets.lens import LensFile, parse_lens

D = (0.2, -0.1, 0.01, -0.02)


@pytest.mark.parametrize(
    "values",
    [
        {"distortion": list(D)},
        {"distortion": [list(D)]},
        {"distortion": [[value] for value in D]},
        {"distortion": {"coefficients": D, "model": "opencv"}},
        {"distortion": {"rows": 1, "cols": 4, "data": [str(value) for value in D]}},
        {"distortion": dict(zip(("k1", "k2", "p1", "p2"), D, strict=True))},
        {"distortion": {"model": "radtan", "k1": 0.2, "k2": -0.1, "p1": 0.01, "p2": -0.02}},
        {"distortion": {"radial": D[:2], "tangential": D[2:]}},
        {"distortion": "0.2, -0.1, 0.01, -0.02"},
        {"distortion": "radtan", "k1": 0.2, "k2": -0.1, "p1": 0.01, "p2": -0.02},
        {"k1": "0.2", "k2": "-0.1", "p1": "0.01", "p2": "-0.02"},
        {"distortion": list(D), "k1": 0.2, "k2": -0.1, "p1": 0.01, "p2": -0.02},
    ],
)
def test_forms_of_coefficients(values):
    assert parse_lens(values, "c").coefficients == D


def test_a_list_keeps_its_length_and_radial_has_a_third():
    assert parse_lens({"distortion": [[0.2, -0.1, 0.01, -0.02, 0]]}, "c").coefficients == (*D, 0)
    assert parse_lens({"distortion": {"radial": [0.2, -0.1, 0.3], "tangential": [0.01, -0.02]}}, "c").coefficients == (
        *D,
        0.3,
    )
    assert parse_lens({"k1": 0.2}, "c").coefficients == (0.2, 0, 0, 0)
    assert parse_lens({"k4": 0.2}, "c").coefficients == (0, 0, 0, 0, 0, 0.2, 0, 0)


@pytest.mark.parametrize("name", ["camera_model", "distortion_model"])
@pytest.mark.parametrize(
    "model",
    ["pinhole", "PinHole", "PINHOLE", "perspective", "plumb_bob", "rational_polynomial", "radtan", "radial-tangential",
     "distortion.brown_conrady", "RS2_DISTORTION_BROWN_CONRADY", "Brown Conrady", "OPENCV", "FULL_OPENCV", ""],
)  # fmt: skip
def test_models_whose_coefficients_are_undone(name, model):
    assert parse_lens({name: model, "distortion": D}, "c") == LensFile(D)
    assert parse_lens({name: model}, "c") == LensFile()


@pytest.mark.parametrize("model", ["none", "null", "inverse_brown_conrady", "modified_brown_conrady", "kinect v2"])
def test_coefficients_of_another_model_or_of_none_are_refused(model):
    for values in ({"distortion_model": model, "distortion": D}, {"distortion": {"model": model, "data": D}}):
        with pytest.raises(ValueError, match=rf"^c: distortion: expected .* got '{model}' with \(0\.2,"):
            parse_lens(values, "c")
    unused = ("model 'kinect v2'",) if model == "kinect v2" else ()
    assert parse_lens({"distortion_model": model, "distortion": [0, 0, 0, 0, 0]}, "c") == LensFile(unused=unused)


@pytest.mark.parametrize(
    "model",
    ["distortion.ftheta", "fov", "omni", "MEI", "eucm", "double_sphere", "ds", "SIMPLE_RADIAL_FISHEYE",
     "equirectangular", "THIN_PRISM_FISHEYE"],
)  # fmt: skip
@pytest.mark.parametrize("coefficients", [D, [0, 0, 0, 0], None])
def test_cameras_that_are_no_pinhole_are_refused_whatever_their_coefficients(model, coefficients):
    for name in ("camera_model", "distortion_model", "type"):
        with pytest.raises(ValueError, match=f"c: distortion: expected the model none, .* got {model!r}, which is no"):
            parse_lens({name: model, "distortion": coefficients}, "c")


@pytest.mark.parametrize(
    "model",
    ["equidistant", "fisheye", "KannalaBrandt8", "KANNALA_BRANDT", "kannala_brandt4", "OPENCV_FISHEYE", "kb4",
     "RS2_DISTORTION_KANNALA_BRANDT4", "distortion.kannala_brandt4"],
)  # fmt: skip
def test_fisheye_lenses(model):
    """With all coefficients zero such a camera is no pinhole either."""
    zeros = (0.0, 0.0, 0.0, 0.0)
    for name in ("camera_model", "distortion_model", "type"):
        assert parse_lens({name: model, "distortion": D}, "c") == LensFile(D, "kannala_brandt")
        assert parse_lens({name: model, "distortion": zeros}, "c") == LensFile(zeros, "kannala_brandt")
    by_name = dict(zip(("k1", "k2", "k3", "k4"), D, strict=True))
    assert parse_lens({"distortion_model": model} | by_name, "c") == LensFile(D, "kannala_brandt")
    assert parse_lens({"distortion": {"model": model} | by_name}, "c") == LensFile(D, "kannala_brandt")
    assert parse_lens({"distortion": {"model": model, "coefficients": [*D, 0]}}, "c") == LensFile(D, "kannala_brandt")
    for wrong in (None, [0.1, 0.2], [*D, 0.1], [0.1, float("nan"), 0, 0], "none"):
        with pytest.raises(ValueError, match="c: distortion: expected k1, k2, k3, k4 of a fisheye lens, got"):
            parse_lens({"distortion_model": model, "distortion": wrong}, "c")


def test_flags_and_types_of_other_things():
    assert parse_lens({"fisheye": "1", "distortion": D}, "c") == LensFile(D, "kannala_brandt")
    assert parse_lens({"fisheye": 0, "type": "realsense", "distortion": D}, "c") == LensFile(D)


@pytest.mark.parametrize(
    "given",
    [[0.1], [0.1, 0.2], [0.1] * 3, [0.1] * 6, [0.1, float("nan"), 0, 0], 0.1, {"a": 0.1}, [[0.1, 0.2], [0, 0]],
     {"coefficients": D, "data": D}, {"k1": 0.1, "weird": 2}, ["a", "b", "c", "d"]],
)  # fmt: skip
def test_coefficients_that_are_none(given):
    with pytest.raises(ValueError, match=r"^c: distortion: expected"):
        parse_lens({"distortion": given}, "c")


@pytest.mark.parametrize("given", [None, [], "", "none", 0, [0.0] * 4, [[0, 0, 0, 0, 0]], {}, {"k1": 0, "k2": 0}])
def test_no_coefficients(given):
    assert parse_lens({"distortion": given}, "c") == LensFile()


def test_given_twice():
    with pytest.raises(ValueError, match="distortion: given twice"):
        parse_lens({"distortion": D, "k1": 0.3}, "c")


def test_in_a_file(tmp_path):
    K = {"fx": 30, "fy": 31, "cx": 15.5, "cy": 11.5}
    path = tmp_path / "intrinsics.json"
    for lens in (
        {"model": "pinhole", "distortion": D},
        {"distortion": {"k1": 0.2, "k2": -0.1, "p1": 0.01, "p2": -0.02}},
    ):
        path.write_text(json.dumps(K | lens))
        assert read_camera(path).distortion == D
    path.write_text(json.dumps(K | {"model": "Kinect v2"}))
    assert [f.code for f in read_camera(path).findings] == ["camera.unused"]
    path.write_text(json.dumps(K | {"K": [40, 40, 15, 11]}))
    with pytest.raises(ValueError, match="expected one camera"):
        read_camera(path)
    path.write_text(json.dumps(K | {"roi": {"x_offset": 10}}))
    with pytest.raises(ValueError, match="expected whole images, got a region"):
        read_camera(path)


@pytest.mark.parametrize(
    ("text", "distortion"),
    [("30 0 15.5\n0 31 11.5\n0 0 1\n0.2 -0.1 0.01 -0.02 0\n", (*D, 0)),
     ("30 31 15.5 11.5\n0.2 -0.1 0.01 -0.02 0", (*D, 0)),
     ("30 31 15.5 11.5 0.2 -0.1 0.01 -0.02 0 0 0 1", (*D, 0, 0, 0, 1)), ("30 0 15.5 0\n0 31 11.5 0\n0 0 1 0", None),
     ("fx = 30\nfy: 31 # pixels\ncx 15.5\ncy=11.5\nk1 = 0.2\nk2 -0.1\np1: 0.01\np2: -0.02", D),
     ("K: [30, 0, 15.5, 0, 31, 11.5, 0, 0, 1]\nD: 0.2 -0.1 0.01 -0.02", D)],
)  # fmt: skip
def test_text(tmp_path, text, distortion):
    (tmp_path / "intrinsics.txt").write_text(text)
    camera = read_camera(tmp_path / "intrinsics.txt")
    torch.testing.assert_close(camera.K, torch.tensor([[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]], dtype=torch.float64))
    assert camera.distortion == distortion


@pytest.mark.parametrize(
    "text", ["30 0 15.5 -12\n0 31 11.5 0\n0 0 1 0", "30 0 9 0\n0 31 9 0\n0 0 1 0\n0 0 0 2", "fx = 30\nfy = 31"]
)
def test_text_that_is_refused(tmp_path, text):
    """More than K, such as the baseline of a stereo pair, or less."""
    (tmp_path / "intrinsics.txt").write_text(text)
    with pytest.raises(ValueError, match=r"intrinsics\.txt: expected K"):
        read_camera(tmp_path / "intrinsics.txt")


@pytest.mark.parametrize(
    ("model", "numbers", "distortion"),
    [("SIMPLE_PINHOLE", "30 16 12", None), ("PINHOLE", "30 30 16 12", None),
     ("SIMPLE_RADIAL", "30 16 12 0.2", (0.2, 0, 0, 0)),
     ("RADIAL", "30 16 12 0.2 -0.1", (0.2, -0.1, 0, 0)), ("OPENCV", "30 30 16 12 0.2 -0.1 0.01 -0.02", D),
     ("FULL_OPENCV", "30 30 16 12 0.2 -0.1 0.01 -0.02 0 0 0 1", (*D, 0, 0, 0, 1))],
)  # fmt: skip
def test_cameras_of_colmap(tmp_path, model, numbers, distortion):
    """Its first pixel has its center at (0.5, 0.5)."""
    (tmp_path / "cameras.txt").write_text(
        f"# Camera list\n#   CAMERA_ID, MODEL, WIDTH, ...\n1 {model} 32 24 {numbers}\n"
    )
    camera = read_camera(tmp_path / "cameras.txt")
    assert camera.K.tolist() == [[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]
    assert camera.size == (24, 32) and camera.distortion == distortion


@pytest.mark.parametrize("text", ["1 FOV 32 24 30 30 16 12 0 0 0 0", "1 PINHOLE 32 24 30 30 16",
                                  "1 PINHOLE 32 24 30 30 16 12\n2 PINHOLE 32 24 31 31 16 12"])  # fmt: skip
def test_cameras_of_colmap_that_cannot_be_used(tmp_path, text):
    (tmp_path / "cameras.txt").write_text(text)
    with pytest.raises(ValueError, match=r"cameras\.txt: expected one camera of SIMPLE_PINHOLE"):
        read_camera(tmp_path / "cameras.txt")
