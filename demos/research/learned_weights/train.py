"""Training of the depth noise network through ICP's pose error, and trajectory errors under each noise model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

import gradslam_ng as gs
from demos.common.rooms import random_room, sense, walk
from demos.research.learned_weights.model import Constant, Network, features, side_by_side
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP
from gradslam_ng.preprocessing import Noise, downsample, measure_surface
from gradslam_ng.structures import LiveFrame, SurfaceView

CONSTANTS = (0.003, 0.005, 0.01, 0.02, 0.04, 0.08)  # meters


@dataclass(frozen=True)
class Pairs:
    """Noisy frames of the training rooms, each D times, and the exact surface that a neighboring view shows of them.

    At a quarter of the resolution: errors of neighboring pixels are alike.
    """

    live: SurfaceView  # (D V, ...), V views
    features: Tensor  # (D V, H, W, 4), found at the full resolution: there the network will have to judge
    model: SurfaceView  # (V, ...), of the neighbor
    T: Tensor  # (V, 4, 4), of the frame in the neighbor's camera, exact

    def error(self, sigma: Tensor, which: Tensor, generator: torch.Generator) -> Tensor:
        """How far off (N,) ICP finds the frames `which` (N,) under that depth noise (N, H, W), from 1 cm away.

        In meters, of a point 2 m away. The robust weights are as good as off: under them more noise everywhere means
        more pairs, and the network would learn little else than to raise its level.
        """
        view = which % len(self.T)
        live, T = take(self.live, which), self.T[view]
        start = se3.exp(0.005 * torch.randn(len(T), 6, generator=generator)) @ T
        shape = {"photometric": False, "rotation_iterations": 0, "row_stride": 1}
        odometer = ProjectiveICP(iterations=(6,), kernel_width=30.0, backward="implicit-gn", **shape)
        frame = LiveFrame(live, live.normals, live.weights, sigma, None)
        found = odometer(frame, take(self.model, view).with_pose(torch.eye(4).expand_as(T)), start).T_wc
        xi = se3.log(found @ se3.inverse(T))
        return (xi[:, :3].square().sum(-1) + 4 * xi[:, 3:].square().sum(-1) + 1e-8).sqrt()


def take(surface: SurfaceView, which: Tensor) -> SurfaceView:
    return surface.map(lambda image: image[which])


@torch.no_grad()
def training_pairs(rooms: int, draws: int, size: tuple[int, int], first: int = 2000) -> Pairs:
    """Of three views, 0.2 s apart, in each of the random rooms from the `first` on."""
    numbers = range(first, first + rooms)
    views, T_wc, K = zip(*(walk(random_room(i), 3, 6, size, seed=i) for i in numbers), strict=True)
    color, depth, normal = (torch.cat([getattr(view, name) for view in views]) for name in ("color", "depth", "normal"))
    T_wc, K = torch.cat(T_wc), K[0].expand(len(depth), 3, 3)
    neighbor = torch.arange(3 * rooms).reshape(rooms, 3).roll(-1, dims=1).flatten()
    model = downsample(downsample(measure_surface(gs.RGBDFrames(color, depth, K)).surface))
    generator = torch.Generator().manual_seed(0)
    frames = [measure_surface(gs.RGBDFrames(color, sense(depth, normal, K[0], generator), K)) for _ in range(draws)]
    live = [downsample(downsample(frame.surface)) for frame in frames]
    parts = {field.name: [getattr(part, field.name) for part in live] for field in fields(SurfaceView)}
    live = SurfaceView(**{name: torch.cat(values) for name, values in parts.items() if values[0] is not None})
    seen = torch.cat([features(frame.surface)[:, 3::4, 3::4] for frame in frames])
    return Pairs(live, seen, take(model, neighbor), se3.inverse(T_wc[neighbor]) @ T_wc)


def train(network: Network, pairs: Pairs, steps: int, rate: float, seed: int, batch: int = 64) -> Network:
    """Fit the network by the error of the poses that ICP finds with it, each relative to what a constant leaves on the
    same pair of views: some hardly fix the pose at all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        sigma = torch.full_like(pairs.features[..., 0], network.start)
        usual = pairs.error(sigma, torch.arange(len(sigma)), generator).reshape(-1, len(pairs.T)).mean(0)
    descent = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    for _ in range(steps):
        which = torch.randint(len(pairs.features), (batch,), generator=generator)
        error = pairs.error(network.of(pairs.features[which]), which, generator)
        descent.zero_grad()
        (error / usual[which % len(pairs.T)]).mean().backward()
        descent.step()
        schedule.step()
    return network


def best_constant(rooms: int, frames: int, size: tuple[int, int]) -> float:
    """Of `CONSTANTS` the one with which PointFusion does best, in the mean, in as many training rooms, meters."""
    models = {value: Constant(value) for value in CONSTANTS}
    errors = [judge(models, *clip(random_room(2000 + i), 0, frames, size)) for i in range(rooms)]
    return min(CONSTANTS, key=lambda value: sum(math.log(error[value]) for error in errors))


@torch.no_grad()
def judge(models: dict[str, Noise], frames: Iterable[gs.RGBDFrames], truth: gs.Trajectory) -> dict[str, float]:
    """Absolute trajectory error, RMSE in cm, of PointFusion at 160 pixels across with each noise model."""
    slam = gs.PointFusion(ProjectiveICP(photometric=False), noise=side_by_side(list(models.values())))
    state, times, poses = None, [], []
    for frame in frames:
        slam.factor = max(1, frame.size[1] // 160)
        state = slam.step(state, frame.map(lambda value: value.expand(len(models), *value.shape)))
        times.append(float(frame.timestamps))
        poses.append(state.T_wc.double())
    times = torch.tensor(times, dtype=torch.float64)
    found = zip(models, torch.stack(poses, dim=1), strict=True)
    return {name: 100 * gs.evaluation.ate(truth, gs.Trajectory(times, T_wc)).rmse for name, T_wc in found}


def clip(place: Room, seed: int, frames: int, size: tuple[int, int]) -> tuple[gs.RGBDFrames, gs.Trajectory]:
    """A walk through a room as the noisy sensor sees it, 15 frames a second, and the exact trajectory."""
    view, T_wc, K = walk(place, frames, 2, size, seed)
    depth = sense(view.depth, view.normal, K, torch.Generator().manual_seed(seed))
    times = torch.arange(frames, dtype=torch.float64) / 15
    return gs.RGBDFrames(view.color, depth, K, timestamps=times), gs.Trajectory(times, T_wc.double())
