"""Cameras in YAML and XML as the programs of the field write them."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng import cli
from gradslam_ng.datasets import Folder, RecordingWarning, load
from gradslam_ng.datasets.camera_files import read_camera

K = [[30.0, 0.0, 15.5], [0.0, 31.0, 11.5], [0.0, 0.0, 1.0]]
D = [0.2, -0.1, 0.01, -0.02]

FILES = {
    "opencv.yml": """%YAML:1.0
---
calibration_time: "Fri"
image_width: 32
image_height: 24
flags: 0
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 3.0e+01, 0., 15.5, 0.,
       31., 11.5, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ 2.0000000000000001e-01, -1e-1, .01, -2e-2, 0. ]
avg_reprojection_error: 3.5e-01
""",
    "opencv.xml": """<?xml version="1.0"?>
<opencv_storage>
<image_Width>32</image_Width><image_Height>24</image_Height><Camera_Matrix type_id="opencv-matrix">
<rows>3</rows><cols>3</cols><dt>d</dt>
<data>30. 0. 15.5 0. 31.
 11.5 0. 0. 1.</data></Camera_Matrix>
<Distortion_Coefficients type_id="opencv-matrix"><rows>4</rows><cols>1</cols><dt>d</dt>
<data>0.2 -0.1 0.01 -0.02</data></Distortion_Coefficients></opencv_storage>""",
    "ros.yaml": """image_width: 32
image_height: 24
camera_name: rgb
camera_matrix:
  rows: 3
  cols: 3
  data: [30, 0, 15.5, 0, 31, 11.5, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.2, -0.1, 0.01, -0.02, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1,0,0,0,1,0,0,0,1]
projection_matrix:
  rows: 3
  cols: 4
  data: [30,0,15.5,0,0,31,11.5,0,0,0,1,0]
""",
    "topic.yaml": """header:
  seq: 1
  stamp:
    secs: 1
    nsecs: 2
  frame_id: "x"
height: 24
width: 32
distortion_model: "plumb_bob"
D: [0.2, -0.1, 0.01, -0.02, 0.0]
K: [30, 0.0, 15.5, 0.0, 31, 11.5, 0.0, 0.0, 1.0]
R: [1,0,0,0,1,0,0,0,1]
P: [30,0,15.5,0,0,31,11.5,0,0,0,1,0]
binning_x: 0
binning_y: 0
roi:
  x_offset: 0
  y_offset: 0
  height: 0
  width: 0
  do_rectify: False
---
header: 3
""",
    "kalibr.yaml": """cam0:
  cam_overlaps: []
  camera_model: pinhole
  distortion_coeffs: [0.2, -0.1, 0.01, -0.02]
  distortion_model: radtan
  intrinsics: [30, 31, 15.5, 11.5]
  resolution: [32, 24]
  rostopic: /cam
""",
    "euroc.yaml": """sensor_type: camera
comment: c
T_BS:
  cols: 4
  rows: 4
  data: [1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1]
rate_hz: 20
resolution: [32, 24]
camera_model: pinhole
intrinsics: [30, 31, 15.5, 11.5]
distortion_model: radial-tangential
distortion_coefficients: [0.2,-0.1,0.01,-0.02]
""",
    "vins.yaml": """%YAML:1.0
---
model_type: PINHOLE
camera_name: camera
image_width: 32
image_height: 24
distortion_parameters:
   k1: 0.2
   k2: -0.1
   p1: 0.01
   p2: -0.02
projection_parameters:
   fx: 30
   fy: 31
   cx: 15.5
   cy: 11.5
""",
    "orb2.yaml": """%YAML:1.0

#-----
# Camera Parameters
#---

Camera.fx: 30
Camera.fy: 31.0
Camera.cx: 15.5
Camera.cy: 11.5

Camera.k1: 0.2
Camera.k2: -0.1
Camera.p1: 0.01
Camera.p2: -0.02
Camera.k3: 0.0

Camera.width: 32
Camera.height: 24
Camera.fps: 30.0
Camera.bf: 40.0
Camera.RGB: 1
ThDepth: 40.0
DepthMapFactor: 5000.0
ORBextractor.scaleFactor: 1.2
Viewer.KeyFrameSize: 0.05
""",
    "orb3.yaml": """%YAML:1.0
File.version: "1.0"
Camera.type: "PinHole"
Camera1.fx: 30
Camera1.fy: 31.0
Camera1.cx: 15.5
Camera1.cy: 11.5
Camera1.k1: 0.2
Camera1.k2: -0.1
Camera1.p1: 0.01
Camera1.p2: -0.02
Camera.width: 32
Camera.height: 24
Camera.newWidth: 16
Camera.newHeight: 12
Stereo.ThDepth: 40.0
RGBD.DepthMapFactor: 5000.0
""",
    "nice.yaml": """dataset: 'tum'
scale: 1
meshing:
  resolution: 256
cam:
  H: 24
  W: 32
  fx: 30
  fy: 31
  cx: 15.5
  cy: 11.5
  crop_edge: 8
  crop_size: [384,512]
  distortion: [0.2, -0.1, 0.01, -0.02, 0]
  png_depth_scale: 5000.0
""",
    "monogs.yaml": """inherit_from: "a"
Dataset:
  type: 'tum'
  dataset_path: "x"
  Calibration:
    fx: 30
    fy: 31
    cx: 15.5
    cy: 11.5
    k1: 0.2
    k2: -0.1
    p1: 0.01
    p2: -0.02
    k3: 0.0
    width: 32
    height: 24
    depth_scale: 5000.0
    distorted: True
""",
    "rtab.yaml": """%YAML:1.0
---
camera_name: rgb
image_width: 32
image_height: 24
camera_matrix:
   rows: 3
   cols: 3
   data: [ 30., 0., 15.5, 0., 31., 11.5, 0., 0., 1. ]
distortion_coefficients:
   rows: 1
   cols: 8
   data: [ 0.2, -0.1, 0.01, -0.02, 0., 0., 0., 0. ]
distortion_model: rational_polynomial
local_transform: !!opencv-matrix
   rows: 3
   cols: 4
   dt: f
   data: [ 0., 0., 1., 0., -1., 0., 0., 0., 0., -1., 0., 0. ]
""",
}


@pytest.fixture
def folder(recordings, tmp_path):
    """A plain folder without a camera."""
    made = recordings.folder(tmp_path / "desk")
    (made / "intrinsics.txt").unlink()
    return made


@pytest.mark.parametrize("name", FILES)
def test_what_programs_write(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    camera = read_camera(tmp_path / name)
    assert camera.K.tolist() == K and camera.size == (24, 32) and list(camera.distortion[:4]) == D
    assert not any(camera.distortion[4:]) and not camera.findings
    assert camera.depth_scale == (5000 if name.startswith(("orb", "nice", "monogs")) else None)


@pytest.mark.parametrize("name", FILES)
def test_in_the_folder_under_any_name_and_as_an_option(folder, tmp_path, name, recwarn):
    expected = Folder(folder, intrinsics=K)[1].color
    given = tmp_path / f"elsewhere.{name.rpartition('.')[2]}"
    given.write_text(FILES[name])
    by_option = load(folder, intrinsics=given, depth_scale=1000)
    (folder / name).write_text(FILES[name])
    found = Folder(folder, depth_scale=1000)
    assert found.K.tolist() == by_option.K.tolist() == K and not found.findings and not recwarn.list
    assert torch.equal(found[1].color, by_option[1].color) and not torch.equal(found[1].color, expected)


def test_a_fisheye_of_kalibr(tmp_path):
    (tmp_path / "kalibr.yaml").write_text(FILES["kalibr.yaml"].replace("radtan", "equidistant"))
    camera = read_camera(tmp_path / "kalibr.yaml")
    assert camera.lens_model == "kannala_brandt" and list(camera.distortion) == D


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("kalibr.yaml", "radtan", "ftheta", "expected the model none, .* got 'ftheta'"),
        ("orb3.yaml", "PinHole", "KannalaBrandt8", "expected k1, k2, k3, k4 of a fisheye lens, got p1 too"),
        ("vins.yaml", "PINHOLE", "MEI", "expected the model none, .* got 'MEI'"),
        ("ros.yaml", "plumb_bob", "none", "distortion: expected .* got 'none' with"),
        ("ros.yaml", "distortion_coefficients", "distorsion_coefficients", "perhaps you meant distortion_coefficients"),
        ("opencv.yml", "-1e-1", ".Nan", "distortion: expected"),
        ("opencv.xml", "<data>0.2 ", "<data>", "distortion: expected"),
        ("topic.yaml", "x_offset: 0", "x_offset: 8", "expected whole images, got a region"),
        ("euroc.yaml", "[32, 24]", "[640, 640]", "of another shape"),
        ("orb2.yaml", "fx: 30", "fx: -30", "expected positive focal lengths"),
    ],
)
def test_what_cannot_be_used_is_refused(folder, name, old, new, message):
    assert old in FILES[name]
    (folder / name).write_text(FILES[name].replace(old, new))
    with pytest.raises(ValueError, match=message):
        Folder(folder)


def test_several_cameras_in_one_file_are_refused_unless_they_are_the_same(folder):
    second = FILES["kalibr.yaml"].replace("cam0", "cam1")
    (folder / "cams.yaml").write_text(FILES["kalibr.yaml"] + second)
    assert Folder(folder).K.tolist() == K
    (folder / "cams.yaml").write_text(FILES["kalibr.yaml"] + second.replace("[30", "[29"))
    with pytest.raises(ValueError, match=r"cams\.yaml: expected one camera, got 2 that differ"):
        Folder(folder)


def test_files_of_other_things_cost_nothing(folder, recwarn):
    (folder / "intrinsics.txt").write_text("30 31 15.5 11.5")
    (folder / "scene.yaml").write_text("objects: [chair, table]\nK: 5\n")
    (folder / "broken.yaml").write_text("a: [1\nb: {")
    (folder / "notes.xml").write_text("<a><b>1</b></a>")
    (folder / "large.yaml").write_text("# \n" * 2**19)
    assert Folder(folder).K.tolist() == K and not recwarn.list


def test_a_file_by_a_cameras_name_that_is_broken_is_refused_where_it_is_needed(folder):
    (folder / "camera.yaml").write_text("fx: [30\nfy: {")
    with pytest.raises(ValueError, match=r"camera\.yaml: expected a camera in YAML or XML.* not YAML"):
        Folder(folder)
    sequence = Folder(folder, intrinsics="30,31,15.5,11.5")
    assert [finding.severity for finding in sequence.findings] == ["note"]
    (folder / "intrinsics.txt").write_text("30 31 15.5 11.5")
    with pytest.warns(RecordingWarning, match=r"camera\.yaml: may tell the camera, and is not read"):
        assert Folder(folder).K.tolist() == K


def test_two_files_that_differ_are_told(folder):
    (folder / "intrinsics.txt").write_text("29 29 15 11")
    (folder / "ros.yaml").write_text(FILES["ros.yaml"])
    with pytest.warns(RecordingWarning, match=r"ros\.yaml tells another camera than intrinsics\.txt, which is used"):
        assert float(Folder(folder).K[0, 0]) == 29


def test_the_file_of_an_option_goes_before_all_others(folder, tmp_path):
    (folder / "intrinsics.json").write_text('{"fx": 29, "fy": 29, "cx": 15, "cy": 11, "depth_scale": 2000}')
    (tmp_path / "my.yml").write_text(FILES["ros.yaml"])
    sequence = Folder(folder, intrinsics=str(tmp_path / "my.yml"))
    assert (
        sequence.K.tolist() == K and sequence.depth_scale == 2000 and "my.yml, distortion undone" in sequence.notes[0]
    )


def test_on_the_command_line(folder, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text(FILES["orb2.yaml"].replace("DepthMapFactor: 5000.0", ""))
    assert cli.main(["info", str(folder), "--intrinsics", str(tmp_path / "my.yaml")]) == 0
    assert "my.yaml, distortion undone" in capsys.readouterr().out
    for name, content in (("absent.yaml", None), ("none.yaml", "a: 1"), ("bad.json", "{")):
        if content is not None:
            (tmp_path / name).write_text(content)
        assert cli.main(["info", str(folder), "--intrinsics", str(tmp_path / name)]) == 1
        assert name in capsys.readouterr().err.replace("\n", "")
