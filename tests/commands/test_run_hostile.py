"""`gradslam-ng run` on sequences that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.datasets.export import write_tum
from gradslam_ng.structures import Trajectory

pytestmark = pytest.mark.usefixtures("no_pictures")


def depth_files(folder: Path) -> list[Path]:
    return sorted((folder / "depth").glob("*.png"))


def test_no_such_folder(tmp_path, run, says):
    assert run(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "nowhere: no such folder" in says()


def test_an_empty_folder(tmp_path, run, says):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out") == 1
    error = says()
    assert "not a sequence" in error and "rgb.txt and depth.txt" in error


def test_unknown_synthetic_scene(tmp_path, run, says):
    assert run("synthetic:castle", tmp_path / "out") == 1
    error = says()
    assert "castle" in error and "living_room" in error


def test_a_missing_depth_file_and_a_truncated_one_are_skipped(copy, tmp_path, run, results, prints):
    missing, cut = depth_files(copy)[1], depth_files(copy)[3]
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:300])
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert (metrics["frames"]["tracked"], metrics["frames"]["lost"], metrics["frames"]["skipped"]) == (4, 0, 2)
    assert len(trajectory) == 4 and metrics["ate"]["rmse"] < 2e-3
    assert missing.name in metrics["skipped"][0] and cut.name in metrics["skipped"][1]
    printed = prints()
    assert "no such file" in printed and "4 tracked, 0 lost, 2 skipped" in printed


def test_every_file_missing(copy, tmp_path, run, says):
    for path in depth_files(copy):
        path.unlink()
    assert run(copy, tmp_path / "out") == 1
    assert "none of its 6 frames can be read" in says()


def test_every_file_broken_but_for_its_header(copy, tmp_path, run, says):
    for path in depth_files(copy):
        path.write_bytes(path.read_bytes()[:300])
    assert run(copy, tmp_path / "out") == 1
    assert "none of its 6 frames could be read" in says()


def test_depth_of_8_bit(copy, tmp_path, run, says):
    for path in depth_files(copy):
        iio.imwrite(path, np.full((60, 80), 100, np.uint8))
    assert run(copy, tmp_path / "out") == 1
    assert "8" in (error := says()) and "16" in error and depth_files(copy)[0].name in error


def test_color_and_depth_of_different_size(copy, tmp_path, run, says):
    for path in depth_files(copy):
        iio.imwrite(path, np.full((30, 40), 9000, np.uint16))
    assert run(copy, tmp_path / "out") == 1
    assert "color is 80x60, depth is 40x30" in says()


def test_one_frame_of_another_size_is_skipped(copy, tmp_path, run, results):
    iio.imwrite(depth_files(copy)[2], np.full((30, 40), 9000, np.uint16))
    assert run(copy, tmp_path / "out") == 0
    assert "40x30" in results(tmp_path / "out")[0]["skipped"][0]


@pytest.mark.parametrize("index", [0, 2])
def test_a_frame_without_depth_is_lost(copy, tmp_path, index, run, results, prints):
    iio.imwrite(depth_files(copy)[index], np.zeros((60, 80), np.uint16))
    assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    frames = metrics["frames"]
    assert (frames["tracked"], frames["lost"], frames["skipped"], frames["relocalized"]) == (5, 1, 0, int(index > 0))
    assert metrics["status_counts"] == {"no_depth": 1}
    assert len(trajectory) == 6
    assert "5 tracked, 1 lost" in prints()


def test_no_overlap_between_two_frames(room, tmp_path, run, results):
    """From the third frame on the camera looks the other way."""
    T = room.walk(6)
    T[2:, :3, :3] = T[2:, :3, :3] @ torch.diag(torch.tensor([-1.0, 1, -1], dtype=torch.float64))
    folder = write_tum(room.InMemory(room.view(T)), tmp_path / "turned", mesh=False)
    assert run(folder, tmp_path / "out") == 0
    assert run(folder, tmp_path / "two", "--frames", ":2") == 0
    metrics, trajectory, map_ = results(tmp_path / "out")
    assert metrics["frames"]["tracked"] == 2 and metrics["frames"]["lost"] == 4
    assert torch.equal(map_.points, results(tmp_path / "two")[2].points)
    assert torch.equal(trajectory.T_wc[1:], trajectory.T_wc[1:2].expand(6 - 1, 4, 4))


def test_nan_in_depth(room, tmp_path, run, results):
    """Plain layout, depth as .npy in meters with NaN for no reading."""
    frames = room.view(room.walk(3))
    for name in ("color", "depth"):
        (tmp_path / "plain" / name).mkdir(parents=True)
    for i in range(3):
        depth = frames.depth[i, ..., 0].numpy().copy()
        depth[10:20, 10:20] = np.nan
        np.save(tmp_path / "plain" / "depth" / f"{i}.npy", depth)
        iio.imwrite(tmp_path / "plain" / "color" / f"{i}.png", (frames.color[i].numpy() * 255).astype(np.uint8))
    np.savetxt(tmp_path / "plain" / "intrinsics.txt", frames.K[0].numpy())
    assert run(tmp_path / "plain", tmp_path / "out") == 0
    metrics, trajectory, map_ = results(tmp_path / "out")
    assert metrics["frames"]["tracked"] == 3 and map_.points.isfinite().all() and trajectory.T_wc.isfinite().all()
    assert int(map_.count) > 0.9 * (60 * 80 - 100)


@pytest.mark.parametrize("text", ["1 2 3", "1 2 3 4 5 6", "a b c d", ""])
def test_a_camera_of_the_wrong_shape(copy, tmp_path, text, run, says):
    (copy / "intrinsics.txt").write_text(text)
    assert run(copy, tmp_path / "out") == 1
    assert "intrinsics.txt" in says()


def test_ground_truth_with_gaps(copy, tmp_path, run, results):
    lines = (copy / "groundtruth.txt").read_text().splitlines()
    (copy / "groundtruth.txt").write_text("\n".join(lines[:1] + lines[2:4] + lines[5:]) + "\n")
    assert run(copy, tmp_path / "icp") == 0
    metrics, trajectory, _ = results(tmp_path / "icp")
    assert metrics["frames"]["tracked"] == 6 and len(trajectory) == 6 and metrics["ate"]["rmse"] < 2e-3
    (copy / "groundtruth.txt").write_text("\n".join(lines[:1] + lines[3:]) + "\n")
    assert run(copy, tmp_path / "given", "--odometry", "ground-truth") == 0
    metrics, trajectory, _ = results(tmp_path / "given")
    assert metrics["frames"]["tracked"] == 6 - 2 and metrics["frames"]["lost"] == 2


def test_given_poses_that_are_not_there(copy, tmp_path, run, says):
    (copy / "groundtruth.txt").unlink()
    assert run(copy, tmp_path / "out", "--odometry", "ground-truth") == 1
    assert "needs frames with poses" in says()


def test_ground_truth_of_another_time(copy, tmp_path, run, results, prints):
    """Nothing to compare with: the run goes on and says so."""
    lines = (copy / "groundtruth.txt").read_text().splitlines()[1:]
    late = [f"{float(line.split()[0]) + 1000:.6f} " + line.split(maxsplit=1)[1] for line in lines]
    (copy / "groundtruth.txt").write_text("\n".join(late) + "\n")
    assert run(copy, tmp_path / "out") == 0
    metrics, _, _ = results(tmp_path / "out")
    assert "ate" not in metrics and metrics["frames"]["tracked"] == 6
    assert "no comparison with the ground truth" in prints()


def test_time_stamps_out_of_order(copy, recording, tmp_path, run, results):
    for name in ("rgb.txt", "depth.txt", "groundtruth.txt"):
        head, *lines = (copy / name).read_text().splitlines()
        (copy / name).write_text("\n".join([head, *lines[3:], *lines[:3]]) + "\n")
    with pytest.warns(UserWarning, match="out of order"):
        assert run(copy, tmp_path / "out") == 0
    metrics, trajectory, _ = results(tmp_path / "out")
    assert metrics["frames"]["tracked"] == 6 and metrics["ate"]["rmse"] < 1e-3
    assert torch.allclose(trajectory.timestamps, Trajectory.load(recording / "groundtruth.txt").timestamps)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "rgb/../../secret.png"])
def test_a_list_whose_paths_leave_the_folder(copy, tmp_path, path, run, says):
    iio.imwrite(tmp_path / "secret.png", np.zeros((60, 80, 3), np.uint8))
    text = (copy / "rgb.txt").read_text().splitlines()
    text[2] = f"{text[2].split()[0]} {path}"
    (copy / "rgb.txt").write_text("\n".join(text) + "\n")
    assert run(copy, tmp_path / "out") == 1
    error = says()
    assert "rgb.txt" in error and path in error
