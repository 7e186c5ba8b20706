"""The recordings that learned parts are judged on, and how they compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import gradslam_ng as gs
from gradslam_ng.datasets import RGBDSequence

DATA = gs.datasets.data_folder()
FOLDERS = {
    "ICL office": "icl/office_room_traj3_frei_png",
    "TUM structure": "tum/rgbd_dataset_freiburg3_structure_notexture_far",
    "7-Scenes kitchen": "sevenscenes_tum/redkitchen",
}


def recordings(below: Path, frames: dict[str, slice]) -> Iterator[tuple[str, RGBDSequence]]:
    """Name and chosen frames of each recording that is there; says which are not."""
    for name, part in frames.items():
        path = below / FOLDERS[name]
        if path.is_dir():
            yield name, gs.datasets.load(path)[part]
        else:
            print(f"{name}: left out, no {path}; set GRADSLAM_NG_DATA to the folder of recordings")


def ratios(rows: dict[str, dict[str, float]], to: str) -> dict[str, float]:
    """Of each model's error to that of the model `to`, geometric mean over the rows."""
    names = next(iter(rows.values()))
    return {name: float(np.exp(np.mean([np.log(row[name] / row[to]) for row in rows.values()]))) for name in names}
