from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import torch

from gradslam_ng import datasets
from gradslam_ng.cli import main
from gradslam_ng.structures import Trajectory


def test_a_folder_becomes_transforms_with_the_poses_of_a_run(tmp_path, capsys):
    folder = tmp_path / "walk"
    for name, pixels in (("color", np.full((24, 32, 3), 90, np.uint8)), ("depth", np.full((24, 32), 1500, np.uint16))):
        (folder / name).mkdir(parents=True)
        for i in range(8):
            iio.imwrite(folder / name / f"{i}.png", pixels)
    (folder / "intrinsics.txt").write_text("30 30 15.5 11.5\n")
    poses = tmp_path / "poses.txt"
    Trajectory(torch.arange(8) / 30, torch.eye(4, dtype=torch.float64).expand(8, 4, 4)).save(poses)
    arguments = ["convert", str(folder), "--to", "transforms", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "expected poses for transforms, but the recording has none" in capsys.readouterr().err
    assert main([*arguments, "--trajectory", str(poses), "--frames", "::2"]) == 0
    said = capsys.readouterr().out
    assert "walk: folder, 4 frames of 32x24" in said and "4 frames as transforms" in said
    assert len(datasets.load(tmp_path / "out")) == 4
    assert main([*arguments, "--trajectory", str(poses)]) == 1
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert main([*arguments, "--frames", "9:"]) == 2
