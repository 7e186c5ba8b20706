from __future__ import annotations

import pytest
import torch

from gradslam_ng.datasets import TUM, RecordingWarning, SevenScenes
from gradslam_ng.geometry import se3


def test_reads_frames(recordings, tmp_path):
    sequence = SevenScenes(recordings.sevenscenes(tmp_path / "chess" / "seq-01"))
    frame = sequence[3]
    assert sequence.name == "chess-seq-01" and len(sequence) == 8
    assert frame.depth[1, 1] == 0 and frame.depth[0, 3] == 0  # 65535 and 0: no reading
    assert float(frame.depth[5, 5, 0]) == pytest.approx(1.045, abs=1e-3)
    assert float(frame.K[0, 0]) == pytest.approx(585 / 20) and float(frame.timestamps) == pytest.approx(0.1)
    torch.testing.assert_close(frame.T_wc, recordings.poses()[3], atol=1e-6, rtol=0)


@pytest.mark.parametrize("place", [".", ".."])
def test_camera_of_a_file(recordings, tmp_path, place):
    """BundleFusion's, Open3D's and ours; nothing is assumed then."""
    folder = recordings.sevenscenes(tmp_path / "chess" / "seq-01")
    info = "m_versionNumber = 4\nm_depthWidth = 64\nm_depthHeight = 48\nm_depthShift = 2000.000000\n"
    info += "m_calibrationDepthIntrinsic = 60 0 31 0 0 62 23 0 0 0 1 0 0 0 0 1 \n"
    (folder / place / "info.txt").write_text(info)
    with pytest.warns(RecordingWarning, match="belongs to images of 64x48, these are 32x24: scaled"):
        sequence = SevenScenes(folder)
    torch.testing.assert_close(sequence.K, torch.tensor([[30, 0, 15.25], [0, 31, 11.25], [0, 0, 1]]))
    assert sequence.depth_scale == 2000 and "camera.assumed" not in {finding.code for finding in sequence.findings}
    (folder / place / "camera-intrinsics.txt").write_text("31 0 15.5\n0 31 11.5\n0 0 1\n")
    assert float(SevenScenes(folder).K[0, 0]) == 31


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
