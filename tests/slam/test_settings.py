"""Presets: what they set is what runs."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.commands.settings import make_system
from gradslam_ng.odometry import ICPSettings, ProjectiveICP
from gradslam_ng.slam import PRESETS


def test_the_default_preset_is_what_an_odometer_does_by_itself():
    alone, preset = ProjectiveICP(), PRESETS["default"].make_odometry("gradicp")
    assert alone.settings == preset.settings


@pytest.mark.parametrize(("name", "width"), [("fast", 160), ("default", 320), ("accurate", 640)])
def test_presets_choose_the_size_of_images_and_the_work(name, width, room):
    frame = room.view(room.walk(1), (480, 640))[0]
    slam = gs.PointFusion(settings=name)
    with torch.no_grad():
        assert slam.preprocess(frame).color.shape[2] == width
    assert slam.odometry.settings == PRESETS[name].icp


def test_settings_of_ones_own_and_of_a_file_go_before(tmp_path):
    own = gs.Settings(icp=ICPSettings(iterations=(2, 1), photometric=False))
    assert gs.ICPSLAM(settings=own).odometry.settings.iterations == (2, 1)
    config = tmp_path / "settings.toml"
    config.write_text("[odometry]\niterations = [3, 2]\n")
    slam = make_system("kinectfusion", "icp", None, config, "fast")
    assert tuple(slam.odometry.settings.iterations) == (3, 2) and slam.settings is PRESETS["fast"]


def test_a_preset_that_there_is_not():
    with pytest.raises(ValueError, match=r"default, fast, accurate.*'quick'"):
        gs.PointFusion(settings="quick")


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"photometric": "no"}, "photometric: expected True or False, got 'no'"),
     ({"iterations": 5}, "iterations: expected a whole number for each level, such as .* got 5"),
     ({"iterations": (1.5, 2)}, "iterations: expected a whole number for each level"),
     ({"iterations": "43"}, "iterations: expected a whole number for each level"),
     ({"row_stride": 1.5}, "row_stride: expected a whole number, got 1.5")],
)  # fmt: skip
def test_settings_of_another_type_are_refused(setting, message):
    """A text that says no would be true."""
    with pytest.raises(TypeError, match=message):
        ICPSettings(**setting)
