from __future__ import annotations

import pytest
import torch

from gradslam_ng.structures import LiveFrame, RGBDFrames


@pytest.fixture(scope="module")
def few(request):
    """Function (demo) -> four rooms to train in, 64x48."""
    return lambda demo: demo.training_rooms(4, (48, 64))


def trained(demo, rooms, seed: int = 0):
    torch.manual_seed(seed)
    return demo.train(demo.Network(), rooms, steps=12, rate=0.02, seed=seed, batch=16)
