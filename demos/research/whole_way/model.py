"""A depth noise network that sees what a sensor's faults go with, and the map and distances of a noise model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gradslam_ng as gs
from demos.research.learned_weights.model import features
from demos.research.whole_way.world import CELL, HEIGHTS, Place, away, darkness
from gradslam_ng import planning
from gradslam_ng.mapping import TSDFFuser
from gradslam_ng.preprocessing import Noise, measure_surface
from gradslam_ng.structures import SurfaceView

VOXEL, TRUNCATION = 0.05, 0.15  # meters
START = 0.02  # meters of noise before training


class Network(nn.Module):
    """Depth noise (B, H, W), meters, pixel by pixel, of range, slant, edges, brightness and place in the image; before
    training `START` everywhere."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, channels), nn.Tanh(), nn.Linear(channels, channels), nn.Tanh())
        self.last = nn.Linear(channels + 6, 1)  # a power law, and what the layers add to it
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, surface: SurfaceView, color: Tensor) -> Tensor:
        x = torch.cat([features(surface), 2 * darkness(color) - 0.5, 2 * away(color) - 0.5], -1)
        return START * torch.exp(2.3 * torch.tanh(self.last(torch.cat([self.layers(x), x], -1))[..., 0]))


def fuse(frames: gs.RGBDFrames, noise: Noise) -> gs.VoxelGrid:
    """The volume of frames (L,), as KinectFusion fuses them, with gradient to what the noise depends on."""
    fuser, volume = TSDFFuser(), gs.VoxelGrid.empty(1, VOXEL, TRUNCATION)
    for k in range(len(frames)):
        frame = frames[k : k + 1]
        live = measure_surface(frame, noise=noise)
        volume = fuser.integrate(volume, live, frame.T_wc, torch.ones(1, dtype=torch.bool))
    return volume


def distances(volume: gs.VoxelGrid, place: Place) -> Tensor:
    """(X, Y) of the place's cells, meters, to what the map says is in the way; with gradient."""
    grid = planning.Occupancy.of(volume, up=(0.0, 0.0, 1.0), heights=HEIGHTS, cell=CELL, floor=0.0)
    return planning.esdf(grid.flatten(), unknown="free").field()(place.centers)
