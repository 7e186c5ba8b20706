"""What KinectFusion holds in memory: `python -m benchmarks.volume_memory`.

With a graph: clips of the rendered living room at 320x240, every pose given, 4 cm voxels: the room is 5 x 4.6 x 2.6 m,
so dense it would take 128^3 of them. Extra memory is the peak of what all tensors hold through the forward and the
backward pass, less the same without gradients; a frame step's is the difference between two lengths of clip, divided
by the frames between. gradSLAM's authors put theirs at 6 GB (Jatavallabhula et al. 2020, on a dense volume of 128^3).

Without one: a thousand frames of a recording, looked at back and forth, fused at 1 cm at the given poses, the model
ray-cast before each as tracking does. Memory is the whole process's, frames, torch and all.

Takes some minutes of one core.
"""

from __future__ import annotations

import resource
from pathlib import Path

import torch
import tyro

import gradslam_ng as gs
from benchmarks.memory import _alone, clip, tensors
from benchmarks.report import save

DATA = gs.datasets.data_folder()
LENGTHS = (2, 6)  # frames
VOXEL, TRUNCATION = 0.04, 0.16  # meters
MARK, STREAM_MARK = 300.0, 1500.0  # MB


def differentiate(frames: gs.RGBDFrames, graph: bool) -> None:
    """Volume of a clip and, where there is a graph, its gradient to depth, color, K and every pose."""
    inputs = [x.clone().requires_grad_(graph) for x in (frames.color, frames.depth, frames.K, frames.T_wc)]
    with torch.set_grad_enabled(graph):
        grid, _ = gs.KinectFusion("ground-truth", voxel_size=VOXEL, truncation=TRUNCATION)(gs.RGBDFrames(*inputs))
        if graph:
            (grid.sdf.square().sum() + grid.color.square().sum()).backward()


def stream(folder: Path, count: int) -> dict[str, float]:
    """Peak of a process, MB, that looks at a recording back and forth, and the volume that it ends with."""
    torch.set_num_threads(1)
    sequence = gs.datasets.load(folder)
    there = [*range(len(sequence)), *range(len(sequence) - 2, 0, -1)]
    system, state = gs.KinectFusion(odometry="ground-truth"), None
    with torch.no_grad():
        for i in range(count):
            state = system.step(state, sequence[there[i % len(there)]])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"frames": count, "process_mb": peak, "volume_mb": state.map.nbytes / 1e6, "blocks": len(state.map.keys)}


def main(data: Path = DATA, frames: int = 1000, only: str = "") -> None:
    """Measure and print.

    Args:
        data: Folder of the recordings; default: what GRADSLAM_NG_DATA names.
        frames: Of the stream.
        only: graph or stream.
    """
    figures = {}
    if only in "graph":
        extra = []
        for length in LENGTHS:
            views = clip(length, (240, 320))
            extra.append(_alone(tensors, differentiate, views, True) - _alone(tensors, differentiate, views, False))
        figures["graph"] = {
            "extra_mb": dict(zip(map(str, LENGTHS), extra, strict=True)), "mark_mb": MARK,
            "frame_step_mb": (extra[1] - extra[0]) / (LENGTHS[1] - LENGTHS[0]),
        }  # fmt: skip
        print(figures["graph"], flush=True)
    folder = data / "sevenscenes_tum/redkitchen"
    if only in "stream" and folder.is_dir():
        figures["stream"] = _alone(stream, folder, frames) | {"mark_mb": STREAM_MARK}
        print(figures["stream"], flush=True)
    elif only in "stream":
        print(f"stream: left out, no folder {folder}; set GRADSLAM_NG_DATA to the folder of recordings")
    save("volume_memory", figures, images="320x240, stream 640x480", tracked="320x240", threads=1)


if __name__ == "__main__":
    tyro.cli(main)
