from __future__ import annotations

import pytest
import torch

from gradslam_ng.datasets import ICL
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory


@pytest.mark.parametrize("depth_first", [False, True])
def test_reads_frames_and_turns_the_axes(recordings, tmp_path, depth_first):
    sequence = ICL(recordings.icl(tmp_path / "office", depth_first))
    frame = sequence[5]
    torch.testing.assert_close(frame.T_wc, recordings.poses()[5], atol=1e-6, rtol=0)
    assert float(frame.timestamps) == pytest.approx(5 / 30)
    assert torch.equal(frame.color, torch.from_numpy(recordings.color_image(5)).float() / 255)
    assert float(frame.depth[5, 5, 0]) == pytest.approx(1.025, abs=2e-4)
    assert sequence.K[1, 1] == 480 / 20  # of images of 640x480, scaled to these


def test_frame_0_has_no_pose(recordings, tmp_path):
    sequence = ICL(recordings.icl(tmp_path / "office"))
    assert len(sequence) == 8 and len(sequence.ground_truth) == 7
    assert bool(sequence[0].T_wc.isnan().all()) and bool(sequence[1].T_wc.isfinite().all())


def test_sim_poses_are_those_of_freiburg(recordings, tmp_path):
    folder = recordings.icl(tmp_path / "office")
    truth = folder / "traj9.gt.freiburg"
    expected = ICL(folder)
    matrices = [recordings.matrix_text(T, rows=3) for T in Trajectory.load(truth).T_wc]
    truth.unlink()
    (folder / "traj9.gt.sim").write_text("\n".join(matrices))
    sequence = ICL(folder)
    torch.testing.assert_close(sequence.ground_truth.T_wc, expected.ground_truth.T_wc, atol=1e-7, rtol=0)
    torch.testing.assert_close(sequence.T_wc, expected.T_wc, atol=1e-7, rtol=0, equal_nan=True)


@pytest.mark.parametrize("content", ["1 0 0 0\n0 1 0 0\n", "1 0 0 0\n0 1 0 0\n0 0 x 0\n"])
def test_bad_sim_file(recordings, tmp_path, content):
    folder = recordings.icl(tmp_path / "office")
    (folder / "traj9.gt.freiburg").unlink()
    (folder / "traj9.gt.sim").write_text(content)
    with pytest.raises(ValueError, match=r"traj9\.gt\.sim.*: expected"):
        ICL(folder)


@pytest.mark.parametrize("ending", [".gt.freiburg", ".gt.sim"])
def test_poses_that_are_lost_cost_their_frames(recordings, tmp_path, ending):
    """One of NaN, the last cut short; and a file with none at all."""
    folder = recordings.icl(tmp_path / "office")
    truth = folder / "traj9.gt.freiburg"
    lines = truth.read_text().splitlines()
    if ending == ".gt.sim":
        matrices = [recordings.matrix_text(T, rows=3) for T in Trajectory.load(truth).T_wc]
        matrices[3] = "nan nan nan nan\n" * 3
        text = "\n".join(matrices)
    else:
        text = "\n".join([*lines[:3], "4" + 7 * " nan", *lines[4:]])
    truth.unlink()
    path = folder / f"traj9{ending}"
    path.write_text(text.rstrip()[:-70])
    with pytest.warns(UserWarning, match="cannot be read"):
        sequence = ICL(folder)
    known = sequence.T_wc.isfinite().flatten(1).all(-1)
    assert known.tolist() == [False, True, True, True, False, True, True, False]
    torch.testing.assert_close(sequence.T_wc[6], recordings.poses()[6], atol=1e-6, rtol=0)
    path.write_text("\n")
    with pytest.warns(UserWarning, match="no pose is known"):
        assert ICL(folder).ground_truth is None


def test_names_with_blanks(recordings, tmp_path):
    folder = recordings.icl(tmp_path / "office")
    lines = []
    for i in range(8):
        (folder / "rgb" / f"{i}.png").rename(folder / "rgb" / f"img 1 {i}.png")
        (folder / "depth" / f"{i}.png").rename(folder / "depth" / f"img {i}.png")
        lines.append(f'{i} rgb/img 1 {i}.png {i} "depth/img {i}.png"')
    (folder / "associations.txt").write_text("\n".join(lines))
    assert [int(255 * frame.color[0, 0, 0] + 0.5) for frame in ICL(folder)] == list(range(8))


def test_negative_focal_length_of_the_original_axes(recordings, tmp_path):
    folder = recordings.icl(tmp_path / "office")
    (folder / "intrinsics.txt").write_text("24.06 0.0 15.5\n0.0 -24.0 11.5\n0.0 0.0 1.0\n")
    assert ICL(folder).K[1, 1] == 24
    assert ICL(folder, intrinsics="24,-23,15.5,11.5").K[1, 1] == 23


def test_bad_line_and_leaving_path(recordings, tmp_path):
    folder = recordings.icl(tmp_path / "office")
    path = folder / "associations.txt"
    good = path.read_text()
    path.write_text(good + "9 rgb/9.png\n")
    with pytest.warns(
        UserWarning, match=r"txt, line 9: expected 'number rgb/file number depth/file', got '9 rgb/9.png'"
    ):
        assert len(ICL(folder)) == 8
    path.write_text(good + "9 rgb/1.png 9 ../depth/9.png\n")
    with pytest.raises(ValueError, match=r"line 9: '\.\./depth/9\.png' leaves the sequence folder"):
        ICL(folder)


def test_real_sequence_reprojects(shared_data, reprojection):
    """The poses in our axes carry one frame's points onto another's depth; others, or of another time, do not.

    The simulated sensor measures in steps of disparity, 4 cm at 4 m, so errors are counted in its steps.
    """
    sequence = ICL(shared_data / "icl" / "office_room_traj3_frei_png")
    assert len(sequence) == 100 and sequence.ground_truth.timestamps[0] == pytest.approx(1 / 30)
    flip = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))

    def within_two_steps(error, depth):
        return float((error.abs() < 2 * 0.0028 * depth**2).float().mean())

    for i, j in ((9, 39), (29, 69), (19, 89)):
        first, second = sequence[i], sequence[j]
        T_21 = se3.inverse(second.T_wc) @ first.T_wc
        error, depth = reprojection(first, second, T_21)
        assert error.median().abs() < 0.005
        assert within_two_steps(error, depth) > 0.87
        assert within_two_steps(*reprojection(first, second, flip @ T_21 @ flip)) < 0.7
        T_late = se3.inverse(sequence.T_wc[j - 2]) @ first.T_wc
        assert within_two_steps(*reprojection(first, second, T_late)) < 0.8
