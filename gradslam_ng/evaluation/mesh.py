"""Point-to-mesh distances, and uniform sampling of a triangle mesh."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Mesh = tuple[Tensor, Tensor]  # vertices (V, 3), meters; faces (F, 3), indices of vertices

PIECE = 0.05  # meters, longest edge of the pieces that distances are measured to
NEIGHBORS = (8, 32, 128)  # how many pieces a point is measured to, more only where that proves too few
CHUNK = 1 << 16  # points measured at a time


def triangles_of(mesh: Mesh) -> Tensor:
    """Corners of every face with an area, (F, 3, 3) float64 on the CPU.

    Raises:
        ValueError: wrong shapes, vertices that are not finite, an index out of range, or no face with an area.
    """
    vertices = torch.as_tensor(mesh[0]).detach().to("cpu", torch.float64)
    faces = torch.as_tensor(mesh[1]).detach().to("cpu", torch.long)
    if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,):
        shapes = f"{tuple(vertices.shape)} and {tuple(faces.shape)}"
        raise ValueError(f"mesh: expected vertices (V, 3) and faces (F, 3), got {shapes}")
    if not vertices.isfinite().all():
        raise ValueError("mesh: every vertex must be finite")
    if faces.numel() and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise ValueError(f"mesh: expected faces to index {len(vertices)} vertices, got {faces.min()} to {faces.max()}")
    triangles = vertices[faces]
    triangles = triangles[_areas(triangles) > 0]
    if not len(triangles):
        raise ValueError("mesh: expected at least one face with an area, got none")
    return triangles


def sample_mesh(mesh: Mesh, spacing: float = 0.01) -> Tensor:
    """Points (M, 3) evenly spread over the surface, one for each `spacing` x `spacing` of area; always the same ones.

    Systematic sampling: point i lies at (i + 1/2) / M of the total area, face after face, and where in its face is told
    by the R2 low-discrepancy sequence (Roberts 2018), so that a large face is covered without gaps or clusters.
    """
    triangles = triangles_of(mesh)
    reached = _areas(triangles).cumsum(0)
    i = torch.arange(max(1, round(reached[-1].item() / spacing**2)), dtype=torch.float64)
    face = torch.searchsorted(reached, (i + 0.5) / len(i) * reached[-1]).clamp(max=len(triangles) - 1)
    plastic = 1.324717957244746  # the real root of x^3 = x + 1
    u, v = (0.5 + i / plastic) % 1, (0.5 + i / plastic**2) % 1
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)  # fold the square onto the triangle
    a, b, c = triangles[face].unbind(-2)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)


def distance(
    points: Tensor,  # (N, 3), meters
    mesh: Mesh,
) -> Tensor:
    """Distance of each point (N, 3) to the surface, (N,), meters.

    The mesh is cut into pieces that fit into a ball of radius rho < `PIECE` about their centroid. A point is measured
    exactly to the pieces whose centroids are its k nearest, at distances c_1 <= ... <= c_k. Every other piece is at
    least c_k - rho away, so a result that is no larger is exact; if it is larger, k grows. At the largest k the result
    stands: it is never too small, and too large by less than 2 rho, and that only for points so far out (some 10 rho
    from a plane) that it does not matter.
    """
    pieces = subdivide(triangles_of(mesh), PIECE)
    centroids = pieces.mean(-2)
    rho = (pieces - centroids[:, None]).norm(dim=-1).max().item()
    from scipy.spatial import cKDTree  # late: a second of importing that only this needs

    tree = cKDTree(centroids.numpy())
    points = points.detach().to("cpu", torch.float64)
    result = torch.empty(len(points), dtype=torch.float64)
    for chunk in torch.arange(len(points)).split(CHUNK):
        todo = chunk
        for k in NEIGHBORS:
            ranks = range(1, min(k, len(pieces)) + 1)
            reach, nearest = map(torch.as_tensor, tree.query(points[todo].numpy(), ranks, workers=-1))
            result[todo] = point_to_triangle(points[todo, None], pieces[nearest]).min(-1).values
            if k >= len(pieces):
                break
            todo = todo[result[todo] > reach[:, -1] - rho]
            if not len(todo):
                break
    return result


def subdivide(
    triangles: Tensor,  # (F, 3, 3), meters
    longest: float,
) -> Tensor:
    """The same surface (F, 3, 3) in triangles (G, 3, 3) with no edge over `longest`, by halving the longest edges."""
    done = []
    while len(triangles):
        edges = (triangles - triangles.roll(-1, -2)).norm(dim=-1)  # (F, 3), edge i from corner i to corner i + 1
        length, first = edges.max(-1)
        done.append(triangles[length <= longest])
        order = (first[length > longest, None] + torch.arange(3)) % 3
        a, b, c = triangles[length > longest].gather(1, order[..., None].expand(-1, -1, 3)).unbind(-2)
        middle = (a + b) / 2
        triangles = torch.cat([torch.stack([a, middle, c], -2), torch.stack([middle, b, c], -2)])
    return torch.cat(done)


def point_to_triangle(
    points: Tensor,  # (..., 3)
    triangles: Tensor,  # (..., 3, 3), of corners
) -> Tensor:
    """Distance of points (..., 3) to triangles (..., 3, 3), (...).

    The nearest point of the plane where it lies inside the triangle, else the nearest point of the three edges.
    """
    a, b, c = triangles.unbind(-2)
    normal = torch.linalg.cross(b - a, c - a)
    inside = torch.ones_like(points[..., 0], dtype=torch.bool)
    to_edges = torch.full_like(points[..., 0], math.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge, offset = end - start, points - start
        inside = inside & ((torch.linalg.cross(edge.expand_as(offset), offset) * normal).sum(-1) >= 0)
        along = ((offset * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
        to_edges = torch.minimum(to_edges, (offset - along[..., None] * edge).norm(dim=-1))
    to_plane = ((points - a) * normal).sum(-1).abs() / normal.norm(dim=-1)
    return torch.where(inside, to_plane, to_edges)


def _areas(triangles: Tensor) -> Tensor:
    a, b, c = triangles.unbind(-2)
    return torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2
