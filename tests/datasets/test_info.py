from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.datasets import TUM, Folder, info, load


def warned(found, text: str) -> bool:
    return any(text in warning for warning in found.warnings)


def test_facts_and_no_warnings(recordings, tmp_path):
    found = info(TUM(recordings.tum(tmp_path / "desk")), sample=3)
    assert (found.name, found.layout, found.frames, found.size) == ("desk", "tum", 8, (24, 32))
    assert found.duration == pytest.approx(7 / 30, abs=1e-5) and found.rate == pytest.approx(30, abs=0.01)
    assert found.K == [[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]] and found.depth_scale == 5000
    assert found.sampled == 3 and found.depth.valid == pytest.approx(1 - 1 / 768)
    assert found.depth.min == pytest.approx(0.93, abs=1e-3) and found.depth.max == pytest.approx(1.425, abs=1e-3)
    steps = recordings.poses()[:, :3, 3].diff(dim=0).norm(dim=-1)
    assert found.posed == 8 and found.path == pytest.approx(float(steps.sum()), abs=1e-5)
    assert found.warnings == []


def test_of_a_slice(recordings, tmp_path):
    found = info(TUM(recordings.tum(tmp_path / "desk"))[::2])
    assert found.frames == 4 and found.rate == pytest.approx(15, abs=0.01)


def test_missing_and_broken_files(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    (folder / "depth" / "3.png").unlink()
    (folder / "rgb" / "0.png").write_bytes(b"no image")
    found = info(TUM(folder))
    assert warned(found, "1 depth files are missing, the first is")
    assert warned(found, "2 of 8 sampled frames cannot be read")
    assert found.sampled == 6


def test_gaps_in_time(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    lines = (folder / "depth.txt").read_text().splitlines()
    (folder / "depth.txt").write_text("\n".join(lines[:4] + lines[6:]))
    assert warned(info(TUM(folder)), "1 gaps in time, the longest 0.100 s after frame 2 (usually 0.033 s)")


def test_depth_unit_that_looks_off(recordings, tmp_path):
    found = info(TUM(recordings.tum(tmp_path / "desk"), depth_scale=100))
    assert warned(found, "is unusual; is the depth unit 1/100 m?")


def test_few_and_no_readings(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    depth = np.zeros((24, 32), np.uint16)
    depth[:2] = 1000
    for i in range(8):
        iio.imwrite(folder / "depth" / f"{i:04d}.png", depth)
    assert warned(info(Folder(folder)), "only 8% of the pixels have depth")
    for i in range(8):
        iio.imwrite(folder / "depth" / f"{i:04d}.png", np.zeros((24, 32), np.uint16))
    found = info(Folder(folder))
    assert found.depth is None and warned(found, "no depth in")


def test_ground_truth_that_is_absent_apart_or_jumps(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    T = recordings.poses()
    T[5:, 0, 3] += 1.0
    lines = [recordings.tum_line(100 + i / 30, T[i]) for i in range(8)]
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    assert warned(info(TUM(folder)), "the ground truth jumps 1 times, first before frame 5")
    (folder / "groundtruth.txt").write_text(recordings.tum_line(7.0, T[0]))
    found = info(TUM(folder))
    assert found.posed == 0 and warned(found, "no frame has a ground truth pose")
    (folder / "groundtruth.txt").unlink()
    found = info(TUM(folder))
    assert found.posed is None and found.path is None and found.warnings == []


def test_poses_that_are_not_rigid(recordings, tmp_path):
    sequence = TUM(recordings.tum(tmp_path / "desk"))
    sequence.T_wc[2, :3, :3] *= 1.1
    assert warned(info(sequence), "1 ground truth poses are not rigid motions")


def test_one_frame(recordings, tmp_path):
    found = info(TUM(recordings.tum(tmp_path / "desk"))[:1])
    assert found.rate == 0 and found.duration == 0 and [each.code for each in found.findings] == ["frames.one"]


def test_real_sequence(shared_data):
    found = info(TUM(shared_data / "tum" / "rgbd_dataset_freiburg3_structure_notexture_far"), sample=3)
    assert found.frames == 250 and found.posed == 245 and found.rate == pytest.approx(30.7, abs=0.3)
    assert [each.code for each in found.findings] == ["camera.published", "time.gaps"] and found.warnings == []
    assert 0.8 < found.depth.valid < 1 and torch.tensor(found.K)[0, 0] == pytest.approx(535.4)


def test_readings_beyond_the_sensor(recordings, tmp_path):
    """They are counted and told; what is left out of frames is told from what was recorded."""
    folder = recordings.folder(tmp_path / "desk")
    depth = np.full((24, 32), 1500, np.uint16)
    depth[:6] = 30000
    for i in range(8):
        iio.imwrite(folder / "depth" / f"{i:04d}.png", depth)
    found = info(Folder(folder))
    assert found.depth.beyond == 0 and found.depth.max == 30 and not warned(found, "max_depth")  # no sensor is told
    found = info(load(folder, max_depth=10.0))
    assert found.depth.beyond == 0.25 and found.depth.max == 30 and found.depth.valid == 1
    assert warned(found, "25.0% of the pixels have depth beyond 10 m")
