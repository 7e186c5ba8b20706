"""Aggregation: every reading of every frame becomes a surfel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.mapping.frame_surfels import surfels_from_frame
from gradslam_ng.structures import LiveFrame, SurfelMap


class Aggregate(nn.Module):
    """The map of ICP-SLAM (Jatavallabhula et al. 2020, section V): readings are placed in the world, never merged."""

    def forward(self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int) -> SurfelMap:
        """map_ with the readings of one frame seen from T_wc (B, 4, 4) added where ok (B,) holds."""
        new = (live.surface.weights.flatten(1) > 0) & ok[:, None]
        number = torch.full(new.shape, frame, device=new.device)
        return map_.append(new, **checkpoint(surfels_from_frame, live, T_wc), created=number, updated=number)
