from __future__ import annotations

import pytest
import torch

from gradslam_ng.mapping import Aggregate
from gradslam_ng.structures import SurfelMap


@pytest.mark.parametrize("grad", [False, True], ids=["in place", "functional"])
def test_every_reading_of_every_tracked_frame_is_kept(plane, eye, grad):
    z = torch.full((12, 16), 1.5)
    z[2] = 0
    frames, T_wc = plane(z, batch=2), torch.cat([eye, eye])
    T_wc[1, 0, 3] = 7.0
    mapper, map_ = Aggregate(), SurfelMap.empty(2, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        map_ = mapper(map_, frames, T_wc, torch.tensor([True, True]), torch.tensor(0))
        map_ = mapper(map_, frames, T_wc, torch.tensor([False, True]), torch.tensor(1))
        map_ = mapper(map_, plane(0.0, batch=2), T_wc, torch.tensor([True, True]), torch.tensor(2))
    assert map_.count.tolist() == [11 * 16, 2 * 11 * 16]
    vertices = frames.surface.vertices[0][frames.surface.weights[0] > 0]
    assert torch.allclose(map_[0].points[0], vertices)
    moved = vertices + torch.tensor([7.0, 0, 0], dtype=torch.float64)
    assert torch.allclose(map_[1].points[0], torch.cat([moved, moved]))
    assert map_[1].created[0].unique().tolist() == [0, 1]
