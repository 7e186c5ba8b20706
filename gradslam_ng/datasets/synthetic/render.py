"""Ray tracing of rooms: exact depth, normals and colour of every pixel, differentiable with respect to pose and K.

Two passes. The first finds which solid each pixel sees, in float32, without gradient: it is a discrete choice. The second
intersects each solid with its own pixels only, in float64 and under autograd, so depth is exact and has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.datasets.synthetic.rooms import Room
from gradslam_ng.datasets.synthetic.solids import Solid

# Samples for pixels at a silhouette, as offsets in pixels: a rotated grid.
SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))


@dataclass(frozen=True, eq=False)
class View:
    """What a camera sees of a room; 0 (solid: -1) where it sees nothing."""

    color: Tensor  # (..., H, W, 3) in [0, 1]
    depth: Tensor  # (..., H, W, 1) metres along the optical axis
    normal: Tensor  # (..., H, W, 3) unit, in the camera frame, towards the camera
    solid: Tensor  # (..., H, W) index into room.solids


def render(room: Room, T_wc: Tensor, K: Tensor, size: tuple[int, int], antialias: bool = True) -> View:
    """The room seen by pinhole cameras.

    Args:
        T_wc: (..., 4, 4) camera to world, metres; its dtype is the result's.
        K: (3, 3) or (..., 3, 3) in pixels, pixel centres at integer coordinates.
        size: image height and width.
        antialias: smooth colour at silhouettes by four samples a pixel; depth stays that of the pixel's centre.
    """
    lead = T_wc.shape[:-2]
    poses, cameras = T_wc.reshape(-1, 4, 4), K.expand(*lead, 3, 3).reshape(-1, 3, 3)
    views = [_render_one(room, pose, camera, size, antialias) for pose, camera in zip(poses, cameras, strict=True)]
    fields = {name: [getattr(view, name) for view in views] for name in ("color", "depth", "normal", "solid")}
    return View(**{name: torch.stack(images).reshape(*lead, *images[0].shape) for name, images in fields.items()})


def _render_one(room: Room, T_wc: Tensor, K: Tensor, size: tuple[int, int], antialias: bool) -> View:
    height, width = size
    v, u = torch.meshgrid(
        torch.arange(height, device=T_wc.device), torch.arange(width, device=T_wc.device), indexing="ij"
    )
    pixels = torch.stack([u, v], -1).reshape(-1, 2).double()
    color, depth, normal, solid = shoot(room, T_wc.double(), K.double(), pixels)
    if antialias:
        ragged = _silhouette(solid.reshape(size), normal.detach().reshape(*size, 3)).flatten().nonzero()[:, 0]
        offsets = pixels.new_tensor(SUBPIXELS)
        samples = (pixels[ragged, None] + offsets).reshape(-1, 2)
        smooth = shoot(room, T_wc.double(), K.double(), samples)[0].reshape(-1, len(offsets), 3).mean(1)
        color = color.index_put((ragged,), smooth)
    dtype = T_wc.dtype
    return View(
        color.reshape(*size, 3).to(dtype), depth.reshape(*size, 1).to(dtype), normal.reshape(*size, 3).to(dtype),
        solid.reshape(size),
    )


def _silhouette(solid: Tensor, normal: Tensor) -> Tensor:
    """Pixels (H, W) where solid or direction of the surface changes towards a neighbour."""
    edge = torch.zeros_like(solid, dtype=torch.bool)
    for axis in (0, 1):
        n = solid.shape[axis] - 1
        a, b = solid.narrow(axis, 0, n), solid.narrow(axis, 1, n)
        change = (a != b) | ((normal.narrow(axis, 0, n) * normal.narrow(axis, 1, n)).sum(-1) < 0.8)
        edge.narrow(axis, 0, n).logical_or_(change)
        edge.narrow(axis, 1, n).logical_or_(change)
    return edge


def shoot(room: Room, T_wc: Tensor, K: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour (N, 3), depth (N,), camera-frame normal (N, 3) and solid (N,) at pixel coordinates (N, 2); float64."""
    fx, fy = K[0, 0], K[1, 1]
    y = (pixels[:, 1] - K[1, 2]) / fy
    x = (pixels[:, 0] - K[0, 2] - K[0, 1] * y) / fx
    d_w = torch.stack([x, y, torch.ones_like(x)], -1) @ T_wc[:3, :3].mT  # z_c = 1, so the ray's parameter is depth
    o_w = T_wc[:3, 3]
    solid, found = nearest(room.solids, o_w, d_w)
    order = solid.argsort()
    counts = torch.bincount(solid + 1, minlength=len(room.solids) + 1).tolist()
    colors = [d_w.new_zeros(counts[0], 3) + d_w.new_tensor(room.background)]
    depths, normals = [d_w.new_zeros(counts[0])], [d_w.new_zeros(counts[0], 3)]
    for one, mine in zip(room.solids, order.split(counts)[1:], strict=True):
        if len(mine) == 0:
            continue
        o_s, d_s = one.to_local(o_w), one.rotate_to_local(d_w[mine])
        t, hit = one.shape.intersect(o_s, d_s)
        t = torch.where(hit, t, found[mine])  # a grazing ray that float64 sees pass by
        p_s = o_s + t[:, None] * d_s
        n_s = one.shape.normal(p_s)
        n_w = one.rotate_to_world(n_s)
        cosine = -(n_s * d_s).sum(-1) / d_s.norm(dim=-1)
        footprint = (0.5 * t / fx / cosine.clamp(min=0.1)).detach()  # half a pixel on the surface
        albedo = one.material(p_s.float(), n_s.float(), footprint.float())
        p_w = o_w + t[:, None] * d_w[mine]
        colors.append((albedo * room.light(p_w.float(), n_w.float())).clamp(0, 1).double())
        depths.append(t)
        normals.append(n_w @ T_wc[:3, :3])
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return torch.cat(colors)[back], torch.cat(depths)[back], torch.cat(normals)[back], solid


@torch.no_grad()
def nearest(solids: list[Solid], o_w: Tensor, d_w: Tensor) -> tuple[Tensor, Tensor]:
    """Which solid (N,) the rays o_w + t d_w, d_w (N, 3), meet first, -1 where none, and t (N,) as float32 sees it."""
    o, d = o_w.float(), d_w.float()
    centre = torch.stack([one.T_ws[:3, 3] for one in solids]).to(o_w)
    radius = torch.tensor([one.shape.radius for one in solids], dtype=o_w.dtype, device=o_w.device) * 1.001
    towards = (centre - o_w).float()
    # A ray meets the bounding sphere if its direction is within asin(radius / distance) of the centre.
    least = ((centre - o_w).square().sum(-1) - radius**2).clamp(min=0).sqrt().tolist()
    along = towards @ torch.nn.functional.normalize(d, dim=-1).mT  # (S, N)
    depth = torch.full((len(d),), torch.inf, device=d.device)
    index = torch.full((len(d),), -1, dtype=torch.long, device=d.device)
    for number, one in enumerate(solids):
        rays = (along[number] >= least[number]).nonzero()[:, 0] if least[number] > 0 else None
        d_s = one.rotate_to_local(d if rays is None else d[rays])
        t, hit = one.shape.intersect(one.to_local(o_w).float(), d_s)
        before = depth if rays is None else depth[rays]
        closer = hit & (t < before)
        rays = closer.nonzero()[:, 0] if rays is None else rays[closer]
        depth[rays], index[rays] = t[closer], number
    return index, depth.to(o_w)
