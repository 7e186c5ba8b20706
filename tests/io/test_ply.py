"""PLY files: what is written is what is read, by us and by Open3D; broken files give one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradslam_ng.io.ply import read_ply, write_ply

SURFELS = {
    "x": torch.tensor([0.1, 1.0, -2.5, 3.0]),
    "y": torch.tensor([0.0, -1.0, 2.0, 0.5]),
    "z": torch.tensor([2.0, 2.5, 1.0, 1e-3]),
    "nx": torch.tensor([0.0, 1.0, 0.0, 0.6]),
    "ny": torch.tensor([0.0, 0.0, 1.0, 0.8]),
    "nz": torch.tensor([-1.0, 0.0, 0.0, 0.0]),
    "red": torch.tensor([0, 255, 127, 3], dtype=torch.uint8),
    "green": torch.tensor([1, 254, 126, 2], dtype=torch.uint8),
    "blue": torch.tensor([2, 253, 125, 1], dtype=torch.uint8),
    "radius": torch.tensor([0.01, 0.02, 0.03, 0.04]),
    "confidence": torch.tensor([1.0, 10.0, 0.5, 2.0], dtype=torch.float64),
}
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_columns_and_faces_come_back_with_their_types(tmp_path):
    write_ply(tmp_path / "map.ply", SURFELS, FACES)
    columns, faces = read_ply(tmp_path / "map.ply")
    assert list(columns) == list(SURFELS)
    for name, values in SURFELS.items():
        assert columns[name].dtype == values.dtype
        assert torch.equal(columns[name], values)
    assert torch.equal(faces, FACES)


def test_wide_integers_and_booleans(tmp_path):
    write_ply(tmp_path / "a.ply", {"label": torch.tensor([7, -3]), "stable": torch.tensor([True, False])})
    columns, faces = read_ply(tmp_path / "a.ply")
    assert faces is None
    assert columns["label"].tolist() == [7, -3]
    assert columns["stable"].tolist() == [1, 0]


def test_empty_map(tmp_path):
    write_ply(tmp_path / "a.ply", {"x": torch.empty(0)}, torch.empty(0, 3, dtype=torch.long))
    columns, faces = read_ply(tmp_path / "a.ply")
    assert columns["x"].shape == (0,)
    assert faces.shape == (0, 3)


def test_open3d_reads_it(tmp_path):
    o3d = pytest.importorskip("open3d", reason="Open3D is not installed")
    write_ply(tmp_path / "map.ply", SURFELS, FACES)
    mesh = o3d.io.read_triangle_mesh(str(tmp_path / "map.ply"))
    cloud = o3d.io.read_point_cloud(str(tmp_path / "map.ply"))
    normals = torch.stack([SURFELS[k] for k in ("nx", "ny", "nz")], -1).numpy()
    for read in (np.asarray(mesh.vertices), np.asarray(cloud.points)):
        np.testing.assert_allclose(read, torch.stack([SURFELS[k] for k in "xyz"], -1).numpy())
    np.testing.assert_array_equal(np.asarray(mesh.triangles), FACES.numpy())
    np.testing.assert_allclose(np.asarray(cloud.normals), normals)
    colors = torch.stack([SURFELS[k] for k in ("red", "green", "blue")], -1).numpy() / 255
    np.testing.assert_allclose(np.asarray(cloud.colors), colors)


@pytest.mark.parametrize("ascii_", [True, False])
def test_files_of_open3d_are_read(tmp_path, ascii_):
    o3d = pytest.importorskip("open3d", reason="Open3D is not installed")
    box = o3d.geometry.TriangleMesh.create_box(1.0, 2.0, 3.0)
    box.paint_uniform_color([1.0, 0.0, 0.5])
    o3d.io.write_triangle_mesh(str(tmp_path / "box.ply"), box, write_ascii=ascii_)
    columns, faces = read_ply(tmp_path / "box.ply")
    np.testing.assert_allclose(torch.stack([columns[k] for k in "xyz"], -1), np.asarray(box.vertices))
    np.testing.assert_array_equal(faces, np.asarray(box.triangles))
    assert columns["red"].tolist() == [255] * 8


def test_ascii_with_comments_and_other_elements(tmp_path):
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\ncomment by hand\nelement camera 1\nproperty float fov\nelement vertex 3\n"
        "property double x\nproperty ushort id\nelement face 1\nproperty list uchar uint vertex_index\nend_header\n"
        "60.5\n0.25 1\n0.5 65535\n1e-3 3\n3 0 1 2\n"
    )
    columns, faces = read_ply(tmp_path / "a.ply")
    assert columns["x"].tolist() == [0.25, 0.5, 0.001]
    assert columns["id"].tolist() == [1, 65535, 3]
    assert faces.tolist() == [[0, 1, 2]]


HEADER = "ply\nformat {kind} 1.0\nelement vertex 3\nproperty float x\n{more}end_header\n"
FACE = "element face {n}\nproperty list uchar int vertex_indices\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"solid stl", "not a PLY file"),
        (b"ply\nformat ascii 1.0\n", "header"),
        (b"ply\nelement vertex 0\nproperty float x\nend_header\n", "no format"),
        (b"ply\nformat binary_big_endian 1.0\nend_header\n", "not understood"),
        (b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "not understood"),
        (b"ply\nformat ascii 1.0\nelement vertex 1000000000000\nend_header\n", "no properties"),
        (b"ply\nformat ascii 1.0\nend_header\n", "'vertex'"),
        (HEADER.format(kind="ascii", more="").encode() + b"1 2", "too early"),
        (HEADER.format(kind="ascii", more="").encode() + b"1 2 three", "vertex"),
        (HEADER.format(kind="binary_little_endian", more="").encode() + b"\0" * 11, "too early"),
        (HEADER.format(kind="ascii", more=FACE.format(n=1)).encode() + b"1 2 3\n3 0 1 3", "outside"),
        (HEADER.format(kind="ascii", more=FACE.format(n=1)).encode() + b"1 2 3\n2 0 1", "triangles"),
        (HEADER.format(kind="ascii", more=FACE.format(n=2)).encode() + b"1 2 3\n3 0 1 2\n2 0 1", "different length"),
        (HEADER.format(kind="binary_little_endian", more=FACE.format(n=1)).encode() + b"\0" * 12 + b"\3\0\0", "early"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, message):
    path = tmp_path / "broken.ply"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_ply(path)
    assert "broken.ply" in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_ply(tmp_path / "none.ply")


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        ({}, None, "named columns"),
        ({"x": torch.zeros(3), "y": torch.zeros(2)}, None, "one length"),
        ({"x": torch.zeros(3, 1)}, None, "shape"),
        ({"bad name\n": torch.zeros(3)}, None, "named columns"),
        ({"x": torch.zeros(3, dtype=torch.float16)}, None, "float16"),
        ({"x": torch.zeros(3)}, torch.zeros(2, 4, dtype=torch.long), r"\(F, 3\)"),
        ({"x": torch.zeros(3)}, torch.tensor([[0, 1, 3]]), "3 vertices"),
    ],
)
def test_bad_tables_are_refused(tmp_path, vertices, faces, message):
    with pytest.raises(ValueError, match=message):
        write_ply(tmp_path / "a.ply", vertices, faces)
