"""Real sequences: the accuracy that was reached stays reached. The whole sequences are in the benchmarks."""

from __future__ import annotations

import pytest

import gradslam_ng as gs
from gradslam_ng.evaluation import ate

SEQUENCES = {
    "tum": ("tum/rgbd_dataset_freiburg3_structure_notexture_far", 0.0045),
    "icl": ("icl/office_room_traj3_frei_png", 0.0035),
    "7-scenes": ("sevenscenes/redkitchen/seq-01", 0.0042),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_every_second_of_the_first_frames(shared_data, name):
    """Up to 60 frames at 15 Hz, PointFusion: tracked throughout, ATE RMSE in meters below the bound."""
    folder, bound = SEQUENCES[name]
    sequence = gs.datasets.load(shared_data / folder)[:60:2]
    result = gs.PointFusion().run(sequence)
    error = ate(sequence.ground_truth, result.trajectory)
    print(f"{name}: ATE {100 * error.rmse:.3f} cm, {int(result.map.count)} surfels")
    assert result.tracked.all() and not result.skipped
    assert error.rmse < bound
    assert int(result.map.count) < 1.6 * 240 * 320
