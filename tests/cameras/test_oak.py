"""OAK cameras: depthai's own messages become shots. The nodes on a device are not tested: none is at hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

depthai = pytest.importorskip("depthai")


def test_messages_become_shots():
    from gradslam_ng.cameras.oak import as_shot

    generator = np.random.default_rng(0)
    pixels = {
        "color": generator.integers(0, 256, (24, 32, 3), np.uint8),
        "depth": generator.integers(0, 9000, (24, 32), np.uint16),
    }
    group = depthai.MessageGroup()
    for name, kind in (("color", depthai.ImgFrame.Type.RGB888i), ("depth", depthai.ImgFrame.Type.RAW16)):
        message = depthai.ImgFrame()
        message.setType(kind)
        message.setWidth(32)
        message.setHeight(24)
        message.setFrame(pixels[name])
        message.setTimestamp(timedelta(seconds=5.5))
        group[name] = message
    shot = as_shot(group)
    assert shot.seconds == 5.5 and (shot.color == pixels["color"]).all() and (shot.depth == pixels["depth"]).all()
