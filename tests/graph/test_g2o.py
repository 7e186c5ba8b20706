"""g2o files, chordal starts and the field's known answers."""

from __future__ import annotations

import warnings

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
    with pytest.raises(
        ValueError, match=r"positive semi-definite matrices, but that of edge \d+ \d+ has the eigenvalue -"
    ):
        graph.factor_graph()


def test_fix_names_any_number_of_poses(tmp_path):
    """Also before they are given, and again."""
    path = write(tmp_path / "a.g2o", "FIX 3 1", *[SE3.format(k, k) for k in (1, 2, 3)], "FIX 1 # again")
    graph = g2o.load(path)
    assert graph.names[graph.fixed].tolist() == [3, 1]
    problem = graph.factor_graph()
    torch.testing.assert_close(problem.optimize()["pose"], graph.T, rtol=0, atol=0)


def test_what_no_edge_uses_is_passed_over(tmp_path):
    poses = [SE3.format(0, 0), SE3.format(1, 1)]
    params = ["PARAMS_SE3OFFSET 0 0 0 0 0 0 0 1", "PARAMS_SE3OFFSET 1 0.1 0 0 0 0 0 1", "PARAMS_CAMERACALIB 2 500"]
    assert len(g2o.load(write(tmp_path / "a.g2o", *params, *poses, EDGE.format(0, 1))).i) == 1
    with pytest.warns(UserWarning, match="2 lines ROBOTLASER1, left out"):
        g2o.load(write(tmp_path / "a.g2o", *poses, *["ROBOTLASER1 0 -1.5 3 0.01 80 0.1 0 0"] * 2))


def test_edges_between_offsets(tmp_path):
    poses = [SE3.format(0, 0), SE3.format(1, 1)]
    edge = f"EDGE_SE3_OFFSET 0 1 4 5 1 0 0 0 0 0 1 {INFORMATION}"
    params = ["PARAMS_SE3OFFSET 4 0 0 0 0 0 0 1", "PARAMS_SE3OFFSET 5 0 0 0 0 0 0 -1"]
    graph = g2o.load(write(tmp_path / "a.g2o", *poses, edge, *params))
    assert (graph.i.tolist(), graph.j.tolist()) == ([0], [1]) and graph.T_ij[0, 0, 3] == 1
    params[1] = "PARAMS_SE3OFFSET 5 0 0 0.1 0 0 0 1"
    with pytest.raises(ValueError, match="line 3: expected an edge without offsets, got one that uses offset 5"):
        g2o.load(write(tmp_path / "a.g2o", *poses, edge, *params))
    with pytest.raises(ValueError, match="line 3: names offset 5, which is not given"):
        g2o.load(write(tmp_path / "a.g2o", *poses, edge, params[0]))


def test_names_may_be_any_whole_numbers(tmp_path):
    names = [2**63 - 1, -5, 8646911284551352321]  # the last is GTSAM's x1
    poses = [SE3.format(name, k) for k, name in enumerate(names)]
    graph = g2o.load(write(tmp_path / "a.g2o", *poses, EDGE.format(names[2], "-5.000"), f"FIX {names[0]}"))
    assert graph.names.tolist() == names and (graph.i.tolist(), graph.j.tolist()) == ([2], [1])
    graph.save(tmp_path / "again.g2o")
    assert torch.equal(g2o.load(tmp_path / "again.g2o").names, graph.names)


@pytest.mark.parametrize("length", [0.5, 0.9999, 3.0])
def test_quaternions_are_normalized(tmp_path, length):
    path = write(tmp_path / "a.g2o", f"VERTEX_SE3:QUAT 0 0 0 0 0 0 {0.6 * length} {0.8 * length}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        T = g2o.load(path).T
    assert se3.is_rigid(T, tol=1e-12).all() and T[0, 0, 0] == pytest.approx(0.28, abs=1e-12)
    assert ["1 quaternions that are not of unit length" in str(warning.message) for warning in caught] == (
        [] if length == 0.9999 else [True]
    )


def test_a_pose_given_again_alike(tmp_path):
    with pytest.warns(UserWarning, match="1 poses given twice"):
        assert len(g2o.load(write(tmp_path / "a.g2o", SE3.format(0, 1), SE3.format(0, "1.0"))).T) == 1


def test_directions_that_are_not_measured(tmp_path):
    """Rows of zeros in the information: what an edge says there moves nothing, and what others say stands."""
    planar = " ".join("1" if r == c and r in (0, 1, 5) else "0" for r in range(6) for c in range(r, 6))
    edges = [EDGE.format(0, 1), f"EDGE_SE3:QUAT 1 2 1 0 7 0 0 0 1 {planar}", EDGE.format(0, 2).replace(" 1 0", " 2 0")]
    graph = g2o.load(write(tmp_path / "a.g2o", *[SE3.format(k, k) for k in range(3)], *edges))
    solution = graph.factor_graph().optimize()
    assert float(solution.error) < 1e-20
    torch.testing.assert_close(solution["pose"][2, :3, 3], torch.tensor([2.0, 0, 0], dtype=torch.float64))


BAD = {
    "no poses": (["FIX 3 # nothing else"], "expected poses, .*got none"),
    "comments alone": (["# none", ""], "got only comments"),
    "unknown vertex": (["VERTEX_XY 0 1 2"], "line 1: expected one of VERTEX_SE3:QUAT.*got 'VERTEX_XY'"),
    "unknown edge": (["EDGE_SE3_PRIOR 0 0 1 2"], "line 1: expected one of VERTEX_SE3:QUAT.*got 'EDGE_SE3_PRIOR'"),
    "no words": (["hello"], "line 1: expected one of VERTEX_SE3:QUAT.*got 'hello'"),
    "word": ([SE3.format(0, "one")], r"line 1: expected VERTEX_SE3:QUAT and 1 \+ 7 numbers, got '0 one"),
    "too few": (["VERTEX_SE2 0 1 2"], r"line 1: expected VERTEX_SE2 and 1 \+ 3 numbers, got '0 1 2'"),
    "too many": (["VERTEX_SE2 0 1 2 3 4"], r"line 1: expected VERTEX_SE2 and 1 \+ 3 numbers"),
    "cut": ([SE3.format(0, 0), EDGE.format(0, 0)[:60]], r"line 2: expected EDGE_SE3:QUAT and 2 \+ 28 numbers"),
    "decimal commas": (["VERTEX_SE2 0 1,5 2,5 0"], "line 1: expected .* with decimal points, got commas"),
    "NaN": ([SE3.format(0, "nan")], "line 1: expected finite"),
    "NaN measured": (
        [SE3.format(0, 0), EDGE.format(0, 1).replace(" 0 0 0 0 0", " 0 0 -1.#IND 0 0", 1)],
        "line 2: expec",
    ),
    "infinite information": (["VERTEX_SE2 0 0 0 0", "EDGE_SE2 0 1 1 0 0 inf 0 0 1 0 1"], "line 2: expected finite"),
    "zero quaternion": (["VERTEX_SE3:QUAT 0 0 0 0 0 0 0 0"], "line 1: expected a quaternion of length 1"),
    "twice": ([SE3.format(0, 0), SE3.format(0, 1)], "line 2: pose 0 is given twice, by other numbers"),
    "missing pose": ([EDGE.format(0, 5), SE3.format(0, 0)], "line 1: names pose 5, which is not given"),
    "missing fixed": ([SE3.format(0, 0), "FIX 0", "FIX 0 7"], "line 3: names pose 7, which is not given"),
    "an edge to itself": ([SE3.format(0, 0), EDGE.format(0, 0)], "line 2: expected an edge between two poses"),
    "mixed": ([SE3.format(0, 0), "VERTEX_SE2 1 0 0 0"], "line 2: VERTEX_SE2 among poses of space"),
    "fixing none": ([SE3.format(0, 0), "FIX"], "line 2: expected FIX and the numbers of poses, got none"),
    "fixing a word": ([SE3.format(0, 0), "FIX x"], "line 2: expected the number of a pose, got 'x'"),
    "a broken name": (["VERTEX_SE2 0.5 1 2 0"], "line 1: expected the number of a pose, got '0.5'"),
    "a name too large": (["VERTEX_SE2 9223372036854775808 1 2 0"], "line 1: expected the number of a pose"),
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
