"""Aggregation: every depth measurement of every frame becomes a surfel."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.checkpoint import checkpoint
from gradslam_ng.mapping.frame_surfels import surfels_from_frame
from gradslam_ng.mapping.mapper import Mapper
from gradslam_ng.structures import LiveFrame, SurfelMap


class Aggregate(Mapper[SurfelMap]):
    """The map of ICP-SLAM (Jatavallabhula et al. 2020, section V): points are placed in the world, never merged."""

    map_type = SurfelMap

    def forward(
        self,
        map_: SurfelMap,
        live: LiveFrame,
        T_wc: Tensor,  # (B, 4, 4)
        ok: Tensor,  # (B,) bool
        frame: int | Tensor,  # number of the frame, a tensor () int64
    ) -> SurfelMap:
        """The map with the surfels of one frame seen from T_wc added where `ok` holds."""
        new = (live.surface.weights.flatten(1) > 0) & ok[:, None]
        number = torch.zeros(new.shape, dtype=torch.int64, device=new.device) + frame
        return map_.append(new, **checkpoint(surfels_from_frame, live, T_wc), created=number, updated=number)
