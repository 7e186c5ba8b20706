"""Point-based fusion: readings are averaged into the surfels they see, and found new ones elsewhere."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from gradslam_ng.geometry import se3
from gradslam_ng.mapping.readings import Readings, readings
from gradslam_ng.rendering.index_map import nearest_per_pixel, pixel_index, visible_pixels
from gradslam_ng.structures import LiveFrame, Surface, SurfelMap


class PointFuser(nn.Module):
    """Point fusion after Keller et al. 2013, section 4.

    Args:
        sigma: width of the weight's fall towards the image's edge, relative to the half diagonal.
        depth_gate: a reading belongs to a surfel when their depths differ by less than this, metres, plus three standard
            deviations of the depth noise.
        max_angle: and when their normals differ by less than this, degrees.
        stable: confidence from which a surfel counts as part of the surface.
        patience: frames for which a surfel that is not yet stable may go unseen before it is removed.
        tidy_every: frames between removals.
    """

    def __init__(
        self,
        sigma: float = 0.6,
        depth_gate: float = 0.01,
        max_angle: float = 45.0,
        stable: float = 1.0,
        patience: int = 20,
        tidy_every: int = 5,
    ) -> None:
        super().__init__()
        self.sigma, self.depth_gate, self.max_angle = sigma, depth_gate, max_angle
        self.stable, self.patience, self.tidy_every = stable, patience, tidy_every

    def forward(
        self, map_: SurfelMap, live: LiveFrame, T_wc: Tensor, ok: Tensor, frame: int
    ) -> SurfelMap:
        """map_ with one frame, seen from T_wc (B, 4, 4), fused in where ok (B,) holds."""
        seen = readings(live, T_wc, self.sigma)
        seen = dataclasses.replace(seen, valid=seen.valid & ok[:, None])
        surfel, covered, violated = self.associate(map_, seen, T_wc, live.surface)
        map_ = self.merge(map_, seen, surfel, frame)
        map_ = self.carve(map_, violated)
        map_ = map_.append(seen.valid & ~covered, **seen.values(frame))
        return self.tidy(map_, frame) if frame % self.tidy_every == 0 else map_

    @torch.no_grad()
    def associate(self, map_: SurfelMap, seen: Readings, T_wc: Tensor, live: Surface) -> tuple[Tensor, Tensor, Tensor]:
        """Which surfel each reading belongs to. Discrete choices, constants of the gradient.

        Returns surfel (B, P) int64, -1 for none; covered (B, P) bool: a surfel of this surface lies within one pixel, so none
        need be founded; violated (B, n) bool, the first n slots: a surfel in what the camera has seen to be free space.
        """
        height, width = live.size
        n = map_.occupied
        points, normals, mask = map_.points[:, :n], map_.normals[:, :n], map_.mask[:, :n]
        uv, z, inside = visible_pixels(points, mask, se3.inverse(T_wc), live.K, live.size, near=0.05)

        def read(pixel: Tensor, values: Tensor) -> Tensor:
            return values.gather(1, pixel)

        pixel = pixel_index(uv, inside, width)
        gate = self.depth_gate + 3 * seen.sigma
        behind = read(pixel, seen.z) - z  # positive where the surfel lies in front of the reading
        pixel_normal = seen.normals.gather(1, pixel[..., None].expand(-1, -1, 3))
        agrees = (normals * pixel_normal).sum(-1) > math.cos(math.radians(self.max_angle))
        here = inside & read(pixel, seen.valid)
        belongs = here & (behind.abs() < read(pixel, gate)) & agrees
        surfel = nearest_per_pixel(pixel, behind.abs(), belongs, height * width)

        covered = torch.zeros(seen.valid.shape[0], seen.valid.shape[1] + 1, dtype=torch.bool, device=z.device)
        u, v = uv.floor().long().unbind(-1)
        for du, dv in ((0, 0), (1, 0), (0, 1), (1, 1)):  # the four pixels around the surfel's centre
            corner = (v + dv).clamp(0, height - 1) * width + (u + du).clamp(0, width - 1)
            corner = torch.where(belongs, corner, 0)
            close = belongs & ((read(corner, seen.z) - z).abs() < read(corner, gate))
            covered.scatter_(1, torch.where(close, corner, height * width), True)
        violated = here & (behind > 5 * read(pixel, gate))
        return surfel, covered[:, :-1], violated

    def merge(self, map_: SurfelMap, seen: Readings, surfel: Tensor, frame: int) -> SurfelMap:
        """Confidence-weighted averages of surfels and their readings; normals renormalised (equations 1 to 4)."""
        hit = surfel >= 0
        slot = surfel.clamp(min=0)
        rows = torch.arange(map_.batch, device=slot.device)[:, None]
        old = {name: value[rows, slot] for name, value in map_.attributes().items()}
        c, a = old["confidences"], torch.where(hit, seen.weights, 1.0)
        share = (a / (c + a))[..., None]
        normals = torch.lerp(old["normals"], seen.normals, share)
        square = normals.square().sum(-1, keepdim=True)
        usable = square > 1e-12
        return map_.put(
            slot, hit,
            points=torch.lerp(old["points"], seen.points, share),
            normals=torch.where(usable, normals * torch.where(usable, square, 1.0).rsqrt(), old["normals"]),
            colors=torch.lerp(old["colors"], seen.colors, share),
            radii=torch.minimum(old["radii"], seen.radii),
            confidences=c + a,
            updated=torch.full_like(slot, frame),
        )  # fmt: skip

    def carve(self, map_: SurfelMap, violated: Tensor) -> SurfelMap:
        """Confidence halved for surfels found in free space: a few frames that see through one remove it."""
        n = violated.shape[1]
        halved = torch.where(violated, 0.5, 1.0).to(map_.confidences.dtype)
        if not torch.is_grad_enabled():
            map_.confidences[:, :n] *= halved
            return map_
        scaled = torch.cat([map_.confidences[:, :n] * halved, map_.confidences[:, n:]], dim=1)
        return dataclasses.replace(map_, confidences=scaled)

    def tidy(self, map_: SurfelMap, frame: int) -> SurfelMap:
        """Without the surfels that have not become stable and are no longer seen."""
        with torch.no_grad():
            keep = (map_.confidences >= self.stable) | (frame - map_.updated < self.patience)
        return map_.keep(keep)
