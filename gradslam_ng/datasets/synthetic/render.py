"""Ray tracing of rooms: exact depth, normals and color of every pixel, differentiable with respect to pose and K.

Two passes. The first finds which solid each pixel sees, in float32, without gradient: it is a discrete choice. The
second intersects each solid with its own pixels only, in float64 and under autograd: exact depth that has a gradient.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from gradslam_ng.compute.caller_modes import mode_free
from gradslam_ng.datasets.synthetic.scene import Room
from gradslam_ng.datasets.synthetic.solids import Solid

BUNDLE = 64  # rays tested together against the solids' bounding spheres
TILE = 8  # pixels; an image is traced tile by tile, so that a bundle is a narrow cone
# Samples for pixels at a silhouette, as offsets in pixels: a rotated grid.
SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))


@dataclass(frozen=True, eq=False)
class RenderedView:
    """What a camera sees of a room; 0 (solid: -1) where it sees nothing."""

    color: Tensor  # (..., H, W, 3) in [0, 1]
    depth: Tensor  # (..., H, W, 1) meters along the optical axis
    normal: Tensor  # (..., H, W, 3) unit, in the camera frame, towards the camera
    solid: Tensor  # (..., H, W) index into room.solids


@mode_free
def render(
    room: Room,
    T_wc: Tensor,  # (..., 4, 4)
    K: Tensor,  # (3, 3) or (..., 3, 3), pixels
    size: tuple[int, int],
    antialias: bool = True,
) -> RenderedView:
    """The room seen by pinhole cameras.

    Args:
        T_wc: (..., 4, 4) camera to world, meters; its dtype is the result's.
        K: (3, 3) or (..., 3, 3) in pixels, pixel centers at integer coordinates.
        size: image height and width.
        antialias: smooth color at silhouettes by four samples a pixel; depth stays that of the pixel's center.
    """
    lead = T_wc.shape[:-2]
    poses, cameras = T_wc.reshape(-1, 4, 4), K.expand(*lead, 3, 3).reshape(-1, 3, 3)
    views = [_render_one(room, pose, camera, size, antialias) for pose, camera in zip(poses, cameras, strict=True)]
    fields = {name: [getattr(view, name) for view in views] for name in ("color", "depth", "normal", "solid")}
    return RenderedView(
        **{name: torch.stack(images).reshape(*lead, *images[0].shape) for name, images in fields.items()}
    )


def _render_one(room: Room, T_wc: Tensor, K: Tensor, size: tuple[int, int], antialias: bool) -> RenderedView:
    tiled, back = (index.to(T_wc.device) for index in _tile_order(size))
    pixels = torch.stack([tiled % size[1], tiled // size[1]], -1).double()
    color, depth, normal, solid = (x[back] for x in shoot(room, T_wc.double(), K.double(), pixels))
    if antialias:
        edges = _silhouette(solid.reshape(size), normal.detach().reshape(*size, 3)).flatten()
        ragged = tiled[edges[tiled]]
        offsets = pixels.new_tensor(SUBPIXELS)
        samples = (pixels[back[ragged], None] + offsets).reshape(-1, 2)
        smooth = shoot(room, T_wc.double(), K.double(), samples)[0].reshape(-1, len(offsets), 3).mean(1)
        color = color.index_put((ragged,), smooth)
    dtype = T_wc.dtype
    return RenderedView(
        color.reshape(*size, 3).to(dtype),
        depth.reshape(*size, 1).to(dtype),
        normal.reshape(*size, 3).to(dtype),
        solid.reshape(size),
    )


@functools.cache
def _tile_order(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Flat pixel indices (H * W,) tile by tile, and the inverse of that order."""
    v, u = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    tiled = ((v // TILE) * size[1] + u // TILE).flatten().argsort(stable=True)
    return tiled, tiled.argsort()


def _silhouette(solid: Tensor, normal: Tensor) -> Tensor:
    """Pixels (H, W) where solid or direction of the surface changes towards a neighbor."""
    edge = torch.zeros_like(solid, dtype=torch.bool)
    for axis in (0, 1):
        n = solid.shape[axis] - 1
        a, b = solid.narrow(axis, 0, n), solid.narrow(axis, 1, n)
        change = (a != b) | ((normal.narrow(axis, 0, n) * normal.narrow(axis, 1, n)).sum(-1) < 0.8)
        edge.narrow(axis, 0, n).logical_or_(change)
        edge.narrow(axis, 1, n).logical_or_(change)
    return edge


def shoot(
    room: Room,
    T_wc: Tensor,  # (4, 4)
    K: Tensor,  # (3, 3), pixels
    pixels: Tensor,  # (N, 2)
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Color (N, 3), depth (N,), camera-frame normal (N, 3) and solid (N,) at pixel coordinates (N, 2); float64."""
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
def nearest(
    solids: list[Solid],
    o_w: Tensor,  # (3,), meters
    d_w: Tensor,  # (N, 3)
) -> tuple[Tensor, Tensor]:
    """Which solid (N,) the rays o_w + t d_w, d_w (N, 3), meet first, -1 where none, and t (N,) as float32 sees it.

    Rays are taken `BUNDLE` at a time in the order given; a solid is tried only by the bundles whose cone meets its
    bounding sphere. The order matters for speed alone.
    """
    d = d_w.float()
    bundles = -(-len(d) // BUNDLE)
    d = torch.cat([d, d[-1:].expand(bundles * BUNDLE - len(d), 3)]).reshape(bundles, BUNDLE, 3)
    unit = torch.nn.functional.normalize(d, dim=-1)
    axis = torch.nn.functional.normalize(unit.mean(1), dim=-1)  # (bundles, 3)
    spread = torch.arccos((unit * axis[:, None]).sum(-1).amin(-1).clamp(-1, 1))
    center = torch.stack([one.T_ws[:3, 3] for one in solids]).to(o_w) - o_w
    distance = center.norm(dim=-1).clamp(min=1e-9)
    radius = torch.tensor([one.shape.radius for one in solids], dtype=torch.float32).to(o_w)
    opening = torch.where(radius < distance, torch.arcsin((radius / distance).clamp(max=1)), torch.pi).float()
    away = torch.arccos(((center / distance[:, None]).float() @ axis.mT).clamp(-1, 1))  # (S, bundles)
    meets = (away <= opening[:, None] + spread + 1e-3).cpu()
    depth = torch.full((bundles, BUNDLE), torch.inf, device=d.device, dtype=torch.float32)
    index = torch.full((bundles, BUNDLE), -1, dtype=torch.long, device=d.device)
    for number, one in enumerate(solids):
        mine = meets[number].nonzero()[:, 0].to(d.device)
        if len(mine) == 0:
            continue
        d_s = one.rotate_to_local(d[mine].reshape(-1, 3))
        t, hit = one.shape.intersect(one.to_local(o_w).float(), d_s)
        t = torch.where(hit, t, torch.inf).reshape(-1, BUNDLE)
        before = depth[mine]
        index[mine] = torch.where(t < before, number, index[mine])
        depth[mine] = torch.minimum(t, before)
    return index.flatten()[: len(d_w)], depth.flatten()[: len(d_w)].to(o_w)
