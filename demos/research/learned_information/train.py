"""Training of the information network by the surrogate loss, and trajectory errors of pose graphs under each model."""

from __future__ import annotations

import torch
from torch import Tensor

import gradslam_ng as gs
from demos.common.rooms import sense, walk
from demos.research.learned_information.model import Edges, Information, Learned, align
from gradslam_ng import optim
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic import noise as sensor
from gradslam_ng.datasets.synthetic.rooms import Room

KERNEL = 50.0  # of the robust kernel, standard deviations as H has them: by the median, alignments are 35 of them off


def graph(edges: Edges, W: Tensor, kernel: optim.Kernel | None = None) -> gs.FactorGraph:
    """Poses between all edges, started along the shortest ones."""
    first = edges.T_ij[:, edges.j - edges.i == 1]
    poses = [torch.eye(4, dtype=first.dtype).expand(len(first), 4, 4)]
    for T in first.unbind(1):
        poses.append(poses[-1] @ T)
    made = gs.FactorGraph()
    made.add_variables("pose", optim.SE3(), torch.stack(poses, 1))
    made.fix("pose", [0])
    made.add_between("pose", edges.i, edges.j, edges.T_ij, weight=optim.FullWeight(W), kernel=kernel)
    return made


def train(network: Learned, edges: Edges, steps: int, rate: float, seed: int, batch: int = 16) -> Learned:
    """Fit the network by the surrogate loss, the logarithm of each sequence's: some are harder than others."""
    generator = torch.Generator().manual_seed(seed)
    descent = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    for _ in range(steps):
        some = edges[torch.randperm(len(edges.truth), generator=generator)[:batch]]
        loss = (gs.surrogate_loss(graph(some, network(some)), {"pose": some.truth}, steps=2) + 1e-8).log().mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
        schedule.step()
    return network


@torch.no_grad()
def judge(models: dict[str, Information], edges: Edges) -> dict[str, float]:
    """Absolute trajectory error, RMSE in cm, of the trajectory (B = 1) smoothed under each model."""
    truth = gs.Trajectory(torch.arange(edges.truth.shape[1], dtype=torch.float64), edges.truth[0])
    errors = {}
    for name, model in models.items():
        kernel = optim.Cauchy(KERNEL) if name.endswith("robust") else None
        made = graph(edges, model(edges), kernel)
        T_wc = made.optimize(optim.LevenbergMarquardt(damping=1e-6), iterations=30, tolerance=1e-8)["pose"][0]
        errors[name] = 100 * gs.evaluation.ate(truth, gs.Trajectory(truth.timestamps, T_wc)).rmse
    return errors


def clip(place: Room, every: int, seed: int, frames: int, size: tuple[int, int], kinect: bool = False) -> Edges:
    """A walk through a room, aligned, as the sensor of `rooms.py` sees it or as a Kinect does.

    Their noise differs from frame to frame, as blur and interference have it: by a factor of 1/2 to 4.
    """
    view, T_wc, K = walk(place, frames, every, size, seed)
    generator = torch.Generator().manual_seed(seed)
    if kinect:
        parts = zip(view.color, view.depth, view.normal, strict=True)
        seen = [sensor.kinect(*part, K, 1000 * seed + k) for k, part in enumerate(parts)]
        color, depth = (torch.stack(part) for part in zip(*seen, strict=True))
    else:
        color, depth = view.color, sense(view.depth, view.normal, K, generator)
    strength = 0.5 * 8 ** torch.rand(frames, 1, 1, 1, generator=generator)
    depth = torch.where(depth > 0, view.depth + strength * (depth - view.depth), 0.0).clamp(min=0)
    return align(gs.RGBDFrames(color, depth, K.expand(frames, 3, 3)), T_wc)


def recording(sequence: RGBDSequence) -> Edges:
    """Frames of a recording and its true trajectory, aligned."""
    frames = [sequence[k] for k in range(len(sequence))]
    known = [frame for frame in frames if frame.T_wc is not None and bool(frame.T_wc.isfinite().all())]
    return align(gs.RGBDFrames.stack(known), torch.stack([frame.T_wc for frame in known]))
