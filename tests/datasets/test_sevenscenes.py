from __future__ import annotations

import pytest
import torch

from gradslam_ng.datasets import TUM, SevenScenes
from gradslam_ng.geometry import se3


def test_reads_frames(recordings, tmp_path):
    sequence = SevenScenes(recordings.sevenscenes(tmp_path / "chess" / "seq-01"))
    frame = sequence[3]
    assert sequence.name == "chess-seq-01" and len(sequence) == 8
    assert frame.depth[1, 1] == 0 and frame.depth[0, 3] == 0  # 65535 and 0: no reading
    assert float(frame.depth[5, 5, 0]) == pytest.approx(1.045, abs=1e-3)
    assert float(frame.K[0, 0]) == 585 and float(frame.timestamps) == pytest.approx(0.1)
    torch.testing.assert_close(frame.T_wc, recordings.poses()[3].float(), atol=1e-6, rtol=0)


def test_without_poses(recordings, tmp_path):
    folder = recordings.sevenscenes(tmp_path / "seq-01")
    (folder / "frame-000002.pose.txt").unlink()
    assert bool(SevenScenes(folder)[2].T_wc.isnan().all())
    for path in folder.glob("*.pose.txt"):
        path.unlink()
    assert SevenScenes(folder)[2].T_wc is None


def test_real_sequence_is_that_of_the_tum_layout(shared_data):
    ours = SevenScenes(shared_data / "sevenscenes" / "redkitchen" / "seq-01")
    tum = TUM(shared_data / "sevenscenes_tum" / "redkitchen")
    assert len(ours) == 40
    assert bool(se3.is_rigid(ours.T_wc, tol=1e-9).all())  # the files' rotations are off by a few 1e-4
    for i in (0, 39):
        torch.testing.assert_close(ours[i].depth, tum[i].depth)
        torch.testing.assert_close(ours[i].T_wc, tum[i].T_wc, atol=1e-3, rtol=0)
        torch.testing.assert_close(ours[i].K, tum[i].K)
