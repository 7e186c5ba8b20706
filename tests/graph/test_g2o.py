"""g2o files, chordal starts and the field's known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradslam_ng import optim
from gradslam_ng.geometry import se2, se3
from gradslam_ng.graph import g2o
from gradslam_ng.graph.chordal import chordal_initialization, nearest_rotation

SE3 = "VERTEX_SE3:QUAT {} {} 0 0 0 0 0 1"
INFORMATION = " ".join(["1" if r == c else "0" for r in range(6) for c in range(r, 6)])
EDGE = f"EDGE_SE3:QUAT {{}} {{}} 1 0 0 0 0 0 1 {INFORMATION}"


def write(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["sphere", "M3500"])
def test_a_file_survives_being_written(shared_data, tmp_path, name):
    graph = g2o.load(shared_data / "posegraph" / f"{name}.g2o")
    graph.save(tmp_path / "again.g2o")
    again = g2o.load(tmp_path / "again.g2o")
    for field in ("names", "T", "i", "j", "T_ij", "information", "fixed"):
        torch.testing.assert_close(getattr(again, field), getattr(graph, field), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "answer", "from_chordal"),
    [
        ("parking-garage", 0.634192, False),
        ("sphere", 63789.079, False),
        ("torus3D", 12117.637, True),
        ("sphere_bignoise_vertex3", 1494168.755271, True),
        ("M3500", 68.957439, True),
    ],
)
def test_known_answers(shared_data, name, answer, from_chordal):
    """Of GTSAM 4 from the same starts: the shared folder's README, and `benchmarks/posegraph.py`."""
    graph = g2o.load(shared_data / "posegraph" / f"{name}.g2o")
    if from_chordal:
        graph = graph.with_poses(chordal_initialization(graph.T, graph.i, graph.j, graph.T_ij, graph.information))
    with torch.no_grad():
        solution = graph.factor_graph().optimize(optim.GaussNewton())
    assert abs(float(solution.error) - answer) <= 1e-6 * answer
    torch.testing.assert_close(solution["pose"][0], graph.T[0], rtol=0, atol=0)


@pytest.mark.parametrize("planar", [True, False], ids=["SE(2)", "SE(3)"])
def test_chordal_start_is_exact_without_noise(planar):
    generator = torch.Generator().manual_seed(0)
    group, d = (se2, 3) if planar else (se3, 6)
    truth = group.exp(3 * torch.randn(30, d, generator=generator, dtype=torch.float64))
    i = torch.cat([torch.arange(29), torch.arange(0, 20, 4)])
    j = torch.cat([torch.arange(1, 30), torch.arange(9, 29, 4)])
    start = group.exp(torch.randn(30, d, generator=generator, dtype=torch.float64))
    start[0] = truth[0]
    found = chordal_initialization(start, i, j, group.inverse(truth[i]) @ truth[j])
    torch.testing.assert_close(found, truth, atol=1e-8, rtol=1e-8)


def test_nearest_rotation_never_mirrors():
    M = torch.randn(50, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    R = nearest_rotation(M)
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=M.dtype).expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(50, dtype=M.dtype))
    torch.testing.assert_close(nearest_rotation(R), R)


def test_conventions(tmp_path):
    """A quarter turn left, one meter ahead; the edge says two."""
    half = 0.5**0.5
    path = write(
        tmp_path / "a.g2o",
        "# two poses",
        SE3.format(7, 0),
        f"VERTEX_SE3:QUAT 9 1 0 0 0 0 {half} {half}",
        f"EDGE_SE3:QUAT 7 9 2 0 0 0 0 {half} {half} {INFORMATION}",
        "FIX 7",
    )
    graph = g2o.load(path)
    assert graph.names.tolist() == [7, 9] and graph.fixed.tolist() == [0]
    expected = torch.tensor([[0.0, -1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(graph.T[1], expected)
    problem = graph.factor_graph()
    torch.testing.assert_close(problem.error(problem.initial), torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(problem.optimize()["pose"][1, 0, 3], torch.tensor(2.0, dtype=torch.float64))


def test_an_indefinite_information_matrix_is_named(shared_data):
    graph = g2o.load(shared_data / "posegraph" / "cubicle.g2o")
    with pytest.raises(ValueError, match=r"positive definite matrices, but that of edge \d+ \d+ has the eigenvalue -"):
        graph.factor_graph()


BAD = {
    "no poses": ([], "no poses"),
    "unknown kind": (["VERTEX_XY 0 1 2"], "line 1: expected one of VERTEX_SE3:QUAT.*got 'VERTEX_XY'"),
    "word": ([SE3.format(0, "one")], "line 1: expected numbers"),
    "too few": (["VERTEX_SE2 0 1 2"], r"line 1: VERTEX_SE2 takes 1 \+ 3 numbers, got 1 \+ 2"),
    "NaN": ([SE3.format(0, "nan")], "line 1: expected finite"),
    "twice": ([SE3.format(0, 0), SE3.format(0, 1)], "line 2: pose 0 is given twice"),
    "missing pose": ([SE3.format(0, 0), EDGE.format(0, 5)], "name pose 5"),
    "mixed": ([SE3.format(0, 0), "VERTEX_SE2 1 0 0 0"], "line 2: VERTEX_SE2 among poses of space"),
    "empty numbers": ([SE3.format(0, 0), "FIX x"], "line 2: expected numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_the_line(tmp_path, case):
    lines, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        g2o.load(write(tmp_path / "bad.g2o", *lines))
    with pytest.raises(FileNotFoundError, match="no such file"):
        g2o.load(tmp_path / "none.g2o")


def test_nan_information_in_memory_is_named(shared_data):
    graph = g2o.load(shared_data / "posegraph" / "M3500.g2o")
    graph.information[3] = np.nan
    with pytest.raises(ValueError, match="information: edge 3 4 has entries that are not finite"):
        graph.factor_graph()


def test_one_pose_and_no_edges(tmp_path):
    graph = g2o.load(write(tmp_path / "one.g2o", SE3.format(0, 3)))
    torch.testing.assert_close(graph.factor_graph().optimize()["pose"], graph.T, rtol=0, atol=0)
