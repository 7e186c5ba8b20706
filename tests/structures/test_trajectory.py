from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory


def curve(count: int = 10, rate: float = 10.0) -> Trajectory:
    """A constant twist, from time 5."""
    xi = torch.tensor([0.1, -0.05, 0.2, 0.2, 0.1, -0.3], dtype=torch.float64)
    steps = torch.arange(count, dtype=torch.float64)
    return Trajectory(5 + steps / rate, se3.exp(steps[:, None] * xi))


def test_saved_and_loaded(tmp_path):
    given = curve()
    given.save(tmp_path / "trajectory.txt")
    read = Trajectory.load(tmp_path / "trajectory.txt")
    assert torch.equal(read.timestamps, given.timestamps)
    torch.testing.assert_close(read.T_wc, given.T_wc, atol=1e-15, rtol=0)
    first, second = (tmp_path / "trajectory.txt").read_text().splitlines()[:2]
    assert first.startswith("#") and len(second.split()) == 8 and float(second.split()[0]) == 5


def test_unix_times_keep_their_microseconds(tmp_path):
    Trajectory(torch.tensor([1341836537.655662], dtype=torch.float64), torch.eye(4)[None]).save(tmp_path / "t.txt")
    assert Trajectory.load(tmp_path / "t.txt").timestamps.item() == pytest.approx(1341836537.655662, abs=2e-7)


def test_every_digit_is_saved(tmp_path):
    """A nanosecond apart, and 5,411 km from the origin."""
    T_wc = curve(3).T_wc.clone()
    T_wc[:, :3, 3] += torch.tensor([448000.123456789, 5411000.1, 1e-9], dtype=torch.float64)
    given = Trajectory(torch.tensor([0.1, 0.1 + 1e-9, 0.1 + 2e-9], dtype=torch.float64), T_wc)
    given.save(tmp_path / "t.txt")
    read = Trajectory.load(tmp_path / "t.txt")
    assert torch.equal(read.timestamps, given.timestamps)
    assert torch.equal(read.T_wc[:, :3, 3], given.T_wc[:, :3, 3])


def test_unknown_poses_are_not_saved(tmp_path):
    given = curve()
    given.T_wc[3] = math.nan
    given.save(tmp_path / "trajectory.txt")
    assert len(Trajectory.load(tmp_path / "trajectory.txt")) == 9


def test_indexing():
    given = curve()
    time, T_wc = given[3]
    assert time == given.timestamps[3] and torch.equal(T_wc, given.T_wc[3])
    assert torch.equal(given[2:8:3].T_wc, given.T_wc[2:8:3])
    assert len(given[given.timestamps > 5.45]) == 5
    assert len(list(given)) == 10


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array, torch.tensor, lambda i: torch.tensor(i).int()])
def test_integers_of_any_kind(kind):
    given = curve()
    for i in (0, 3, 9):
        time, T_wc = given[kind(i)]
        assert time == given.timestamps[i] and torch.equal(T_wc, given.T_wc[i])


def test_indices_masks_and_slices():
    given = curve()
    assert given[-1][0] == given.timestamps[9] and torch.equal(given[-3:].timestamps, given.timestamps[7:])
    for index in ([1, 4], np.array([1, 4]), torch.tensor([1, 4]), given.timestamps.numpy() == given[1][0].item()):
        assert given[index].timestamps[0] == given.timestamps[1]
    assert len(given[[]]) == 0 and len(given[torch.tensor([4])]) == 1 and len(given[10:]) == 0
    with pytest.warns(UserWarning, match="out of order"):  # a trajectory is in order of time
        assert torch.equal(given[::-1].T_wc, given.T_wc)
    for index in (10, -11, np.int64(10)):
        with pytest.raises(IndexError):
            given[index]
    for index in (1.0, "1", None, torch.tensor(1.5)):
        with pytest.raises((TypeError, IndexError)):
            given[index]


def test_interpolates_on_the_geodesic():
    given = curve()
    every_second = given[::2]
    poses, valid = every_second.at(given.timestamps[:9], max_gap=0.25)
    assert bool(valid.all())
    torch.testing.assert_close(poses, given.T_wc[:9], atol=1e-12, rtol=0)


def test_times_are_a_list():
    given = curve()
    assert torch.equal(given.at([5.0, 5.1])[0], given.at(torch.tensor([5.0, 5.1], dtype=torch.float64))[0])
    with pytest.raises(ValueError, match=r"times: expected \(N,\) seconds, got shape \(\)"):
        given.at(5.0)


def test_nothing_is_extrapolated():
    given = curve()
    poses, valid = given.at(torch.tensor([4.99, 5.0, 5.9, 5.91], dtype=torch.float64))
    assert valid.tolist() == [False, True, True, False]
    assert bool(poses[0].isnan().all()) and bool(poses[1].isfinite().all())


def test_gaps_are_left_open_but_for_their_ends():
    times = torch.tensor([5.0, 5.1, 5.2, 5.5, 5.8, 5.9], dtype=torch.float64)
    given = curve()[torch.tensor([0, 1, 2, 8, 9])]
    _, valid = given.at(times, max_gap=0.15)
    assert valid.tolist() == [True, True, True, False, True, True]


def test_an_unknown_pose_is_a_gap():
    given = curve()
    given.T_wc[4] = math.nan
    times = torch.tensor([5.3, 5.35, 5.4, 5.45, 5.5], dtype=torch.float64)
    poses, valid = given.at(times, max_gap=0.15)
    assert valid.tolist() == [True, False, False, False, True]
    assert bool(poses[valid].isfinite().all())
    poses, valid = given.at(times, max_gap=0.25)
    assert valid.tolist() == [True, True, False, True, True]  # interpolated, but at the time that has none
    torch.testing.assert_close(poses[1], curve().at(times)[0][1], atol=1e-12, rtol=0)
    assert bool(poses[2].isnan().all())


def test_without_any_known_pose():
    nowhere = Trajectory(torch.arange(3.0), torch.full((3, 4, 4), math.nan))
    poses, valid = nowhere.at(torch.tensor([1.0]))
    assert not bool(valid.any()) and bool(poses.isnan().all())


def test_repeated_time_stamps_in_a_file_are_counted(tmp_path):
    (tmp_path / "t.txt").write_text("0 0 0 0 0 0 0 1\n0 1 0 0 0 0 0 1\n1 2 0 0 0 0 0 1\n")
    with pytest.warns(UserWarning, match=r"t\.txt: 1 time stamps are those of the pose before"):
        assert len(Trajectory.load(tmp_path / "t.txt")) == 3


def test_blocks_that_were_not_written(tmp_path):
    """The line before is cut, and so is the line behind."""
    lines = "0 0 0 0 0 0 0 1\n1 1 0 0 0 0 0 1\n2 2 0 0 "
    (tmp_path / "t.txt").write_text(lines + "\0" * 4096 + "0 0 1\n9 3 0 0 0 0 0 1\n")
    with pytest.warns(UserWarning, match="2 of 5 poses are not known; .*2 lines cannot be read, .*line 3"):
        read = Trajectory.load(tmp_path / "t.txt")
    assert read[read.known].timestamps.tolist() == [0, 1, 9]


def test_repeated_time_stamps():
    given = Trajectory(torch.tensor([0.0, 1.0, 1.0, 2.0]), curve(4).T_wc)
    poses, valid = given.at(torch.tensor([0.5, 1.0, 1.5]), max_gap=1.0)
    assert bool(valid.all()) and bool(poses.isfinite().all())


def test_out_of_order_is_sorted_with_a_warning(tmp_path):
    given = curve()
    lines = ["5.2 0 0 2 0 0 0 1", "5.0 0 0 0 0 0 0 1", "5.1 0 0 1 0 0 0 1"]
    (tmp_path / "t.txt").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match=r"t\.txt: 1 time stamps out of order, sorted"):
        read = Trajectory.load(tmp_path / "t.txt")
    assert read.T_wc[:, 2, 3].tolist() == [0, 1, 2]
    with pytest.warns(UserWarning, match="out of order"):
        shuffled = given[torch.tensor([3, 1, 2])]
    assert torch.equal(shuffled.T_wc, given.T_wc[1:4])


def test_quaternions_are_normalized_and_commas_allowed(tmp_path):
    (tmp_path / "t.txt").write_text("# comment\n\n1.0, 1, 2, 3, 0, 0, 2, 0  # turned about z\n")
    with pytest.warns(UserWarning, match="1 quaternions are not of unit length, and normalized"):
        read = Trajectory.load(tmp_path / "t.txt")
    expected = torch.tensor([[-1, 0, 0, 1], [0, -1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(read.T_wc[0], expected)


@pytest.mark.parametrize(
    "line, message",
    [
        ("1", "line 2: expected poses 't tx ty tz qx qy qz qw', got '1'"),
        ("at 1 0 0 0 0 0 0 1", "line 2: expected poses"),
        ("inf 0 0 0 0 0 0 1", "line 2: expected a time stamp first"),
        ("nan 0 0", "line 2: expected poses"),
    ],
)
def test_a_line_without_time_is_left_out_and_named_and_a_file_of_them_refused(tmp_path, line, message):
    path = tmp_path / "t.txt"
    path.write_text(f"0 0 0 0 0 0 0 1\n{line}\n2 0 0 0 0 0 0 1")
    with pytest.warns(UserWarning, match=rf"t\.txt: 1 lines cannot be read, the first: .*t\.txt, {message}"):
        read = Trajectory.load(path)
    assert read.timestamps.tolist() == [0, 2] and bool(read.known.all())
    path.write_text(f"0 0 0 0 0 0 0 1\n{line}\n{line}\n")
    with pytest.raises(ValueError, match=rf"t\.txt, {message}"):
        Trajectory.load(path)


@pytest.mark.parametrize(
    "line, message",
    [
        ("1 2 3", "line 2: expected poses 't tx ty tz qx qy qz qw', got '1 2 3'"),
        ("1 0 0 0 0 0 0 1 9", "line 2: expected poses"),
        ("1 0 0 zero 0 0 0 1", "line 2: expected poses"),
        ("1 0.5 -", "line 2: expected poses"),  # a line cut short
    ],
)
def test_a_line_with_a_time_and_no_pose_is_a_lost_one(tmp_path, line, message):
    path = tmp_path / "t.txt"
    path.write_text(f"0 0 0 0 0 0 0 1\n{line}\n2 0 0 0 0 0 0 1")
    with pytest.warns(UserWarning, match=rf"1 of 3 poses are not known; 1 lines cannot .*t\.txt, {message}"):
        read = Trajectory.load(path)
    assert read.timestamps.tolist() == [0, 1, 2] and read.known.tolist() == [True, False, True]
    path.write_text(f"0 0 0 0 0 0 0 1\n{line}\n{line}\n")
    with pytest.raises(ValueError, match=rf"t\.txt, {message}"):
        Trajectory.load(path)


@pytest.mark.parametrize(
    "pose",
    ["nan 0 0 0 0 0 1", "0 0 0 0 0 0 0", " ".join(["-1.#IND"] * 7), " ".join(["1.#QNAN00"] * 7), "null," * 7,
     "-inf 0 0 0 0 0 1", "1 2 3 nan nan nan nan", " ".join(["-nan(ind)"] * 7)],
)  # fmt: skip
def test_a_lost_pose_is_not_known(tmp_path, pose):
    path = tmp_path / "t.txt"
    path.write_text(f"0 0 0 0 0 0 0 1\n1 {pose}\n2 0 0 5 0 0 0 1\n")
    with pytest.warns(UserWarning, match=r"t\.txt: 1 of 3 poses are not known$"):
        read = Trajectory.load(path)
    assert read.timestamps.tolist() == [0, 1, 2] and read.known.tolist() == [True, False, True]
    assert read.at(torch.tensor([1.0]), max_gap=10)[1].tolist() == [False]


def test_a_last_number_that_is_cut_short(tmp_path):
    """Eight numbers, and no line end: the length of the quaternion tells."""
    path = tmp_path / "t.txt"
    lines = "0 0 0 0 0.6 0 0 0.8\n1 0 0 0 0.6 0 0 0."
    path.write_text(lines)
    with pytest.warns(UserWarning, match=r"t\.txt: 1 of 2 poses are not known$"):
        assert Trajectory.load(path).known.tolist() == [True, False]
    path.write_text(lines + "8")
    assert Trajectory.load(path).known.tolist() == [True, True]


def test_files_without_poses(tmp_path):
    (tmp_path / "t.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match=r"t\.txt: expected poses .* got only comments"):
        Trajectory.load(tmp_path / "t.txt")
    (tmp_path / "t.txt").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="got binary data"):
        Trajectory.load(tmp_path / "t.txt")
    with pytest.raises(ValueError, match="got a folder"):
        Trajectory.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        Trajectory.load(tmp_path / "absent.txt")


POSE = "1,2,3,0.8,0,0,0.6"  # position and quaternion as EuRoC orders it, w x y z


@pytest.mark.parametrize(
    "header, rows",
    [
        ("#timestamp, p_x, p_y, p_z, q_w, q_x, q_y, q_z", [f"{t / 10},{POSE}" for t in range(4)]),
        ("#timestamp [ns],p_RS_R_x [m],q_RS_w [],q_RS_x []", [f"{10**8 * t},{POSE}" for t in range(4)]),
        ("", [f"{10**8 * t + 1403636580 * 10**9},{POSE},{',0.1' * 9}" for t in range(4)]),  # states of 17 columns
    ],
)
def test_columns_as_euroc_has_them(tmp_path, header, rows):
    path = tmp_path / "data.csv"
    path.write_text("\n".join([header, *rows, ""]))
    read = Trajectory.load(path)
    torch.testing.assert_close(read.timestamps - read.timestamps[0], torch.arange(4).double() / 10, atol=1e-6, rtol=0)
    cos, sin = 0.8**2 - 0.6**2, 2 * 0.8 * 0.6  # about z
    expected = torch.tensor([[cos, -sin, 0, 1], [sin, cos, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(read.T_wc, expected.expand(4, 4, 4))


def test_time_stamps_in_nanoseconds_are_told_by_their_size(tmp_path):
    (tmp_path / "t.txt").write_text("".join(f"{1403636580 + t}500000000 1 2 3 0 0 0 1\n" for t in range(3)))
    assert Trajectory.load(tmp_path / "t.txt").timestamps.tolist() == [1403636580.5 + t for t in range(3)]


def test_matrices_as_kitti_has_them(tmp_path):
    poses = se3.exp(torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    rows = [" ".join(map(repr, T[:3].flatten().tolist())) for T in poses]
    path = tmp_path / "00.txt"
    path.write_text("\n".join(rows))
    read = Trajectory.load(path)
    assert read.timestamps.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(read.T_wc, poses, atol=1e-12, rtol=0)
    path.write_text("\n".join([rows[0], "1 2 three", rows[2], "nan " * 12, rows[4]]))
    with pytest.warns(UserWarning, match="1 lines cannot be read, the first: .*line 2: expected poses of 12 numbers"):
        read = Trajectory.load(path)
    assert read.known.tolist() == [True, False, True, False, True]  # each at the number of its frame
    torch.testing.assert_close(read.T_wc[4], poses[4], atol=1e-12, rtol=0)


@pytest.mark.parametrize("times, poses", [((3,), (2, 4, 4)), ((2, 1), (2, 4, 4)), ((2,), (2, 3, 4))])
def test_shapes_that_do_not_fit(times, poses):
    with pytest.raises(ValueError, match=r"expected timestamps \(L,\) and T_wc \(L, 4, 4\)"):
        Trajectory(torch.zeros(times), torch.zeros(poses))


def test_time_that_is_not_finite():
    with pytest.raises(ValueError, match="time stamp must be finite"):
        Trajectory(torch.tensor([0.0, math.nan]), torch.eye(4).expand(2, 4, 4))


def test_gradient_reaches_the_poses_through_interpolation():
    xi = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def interpolated(xi):
        trajectory = Trajectory(torch.arange(4.0, dtype=torch.float64), se3.exp(xi))
        return trajectory.at(torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64), max_gap=1.0)[0]

    assert torch.autograd.gradcheck(interpolated, (xi,))


def test_gradient_is_finite_where_poses_are_not_valid():
    xi = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    trajectory = Trajectory(torch.tensor([0.0, 1.0, 5.0]), se3.exp(xi))
    poses, valid = trajectory.at(torch.tensor([0.5, 3.0, 9.0]), max_gap=2.0)
    assert valid.tolist() == [True, False, False]
    poses[valid].sum().backward()
    assert bool(xi.grad.isfinite().all()) and float(xi.grad.abs().sum()) > 0


def test_poses_that_are_no_rigid_motions_count_as_unknown():
    poses = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    poses[1], poses[2, :3, :3], poses[3, 0, 0], poses[4] = 0.0, 2 * torch.eye(3), -1.0, torch.nan
    with pytest.warns(UserWarning, match=r"3 of 5 poses are no rigid motions, the first at time 1\.0"):
        trajectory = Trajectory(torch.arange(5.0), poses)
    assert trajectory.known.tolist() == [True, False, False, False, False]


def test_quaternions_ahead_of_positions_are_refused(tmp_path):
    path = tmp_path / "mocap.csv"
    path.write_text("".join(f"{i},0.5,0.5,0.5,0.5,{i},2,3\n" for i in range(4)))
    with pytest.raises(ValueError, match=r"mocap\.csv: expected poses .* got quaternions in columns 2 to 5, before"):
        Trajectory.load(path)
    path.write_text("".join(f"{i} 1 0 0 0.5 0.5 0.5 0.5\n" for i in range(4)))  # x of 1 m, and qx
    assert bool(Trajectory.load(path).known.all())
