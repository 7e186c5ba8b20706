"""Smaller meshes: parts of few triangles left out, and quadric error decimation (Garland and Heckbert 1997)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gradslam_ng.io.open3d_import import import_open3d
from gradslam_ng.meshing.marching_cubes import vertex_normals
from gradslam_ng.structures.mesh import Mesh


def remove_small_components(mesh: Mesh, min_faces: int) -> Mesh:
    """The mesh without connected parts of fewer than `min_faces` triangles, which are mostly noise.

    Raises:
        ValueError: a number of triangles below zero.
    """
    if min_faces < 0:
        raise ValueError(f"min_faces: expected a number of triangles, got {min_faces}")
    faces, count = mesh.faces.cpu().numpy(), len(mesh.vertices)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges), bool), tuple(edges.T)), shape=(count, count))
    component = connected_components(graph, directed=False)[1]
    sizes = np.bincount(component[faces[:, 0]], minlength=count or 1)
    return _with_faces(
        mesh, mesh.faces[torch.from_numpy(sizes[component[faces[:, 0]]] >= min_faces).to(mesh.faces.device)]
    )


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with at most so many triangles, its edges collapsed in the order of the quadric error (Garland and
    Heckbert 1997, as Open3D has it). Without gradient; the weight of a vertex is that of the nearest one before.

    Raises:
        ImportError: Open3D cannot be loaded.
        ValueError: not a positive number of triangles.
    """
    if faces < 1:
        raise ValueError(f"faces: expected a positive number of triangles, got {faces}")
    if len(mesh.faces) <= faces:
        return mesh
    from scipy.spatial import cKDTree  # late: `import gradslam_ng` stays light

    o3d = import_open3d()
    vertices, colors = (x.detach().cpu().double().numpy() for x in (mesh.vertices, mesh.colors))
    vector = o3d.utility.Vector3dVector
    whole = o3d.geometry.TriangleMesh(vector(vertices), o3d.utility.Vector3iVector(mesh.faces.cpu().int().numpy()))
    whole.vertex_colors = vector(colors)
    small = whole.simplify_quadric_decimation(faces)
    points = np.asarray(small.vertices)
    nearest = torch.from_numpy(cKDTree(vertices).query(points)[1])
    found = torch.from_numpy(points).to(mesh.vertices)
    corners = torch.from_numpy(np.asarray(small.triangles)).to(mesh.faces)
    return replace(
        mesh,
        vertices=found,
        faces=corners,
        normals=vertex_normals(found, corners),
        colors=torch.from_numpy(np.asarray(small.vertex_colors)).to(mesh.colors).clamp(0, 1),
        weights=mesh.weights.detach()[nearest.to(mesh.weights.device)],
    )


def _with_faces(mesh: Mesh, faces: Tensor) -> Mesh:  # (F, 3) int64
    """Only those triangles, and the vertices that are on them."""
    used, numbers = faces.unique(return_inverse=True)
    kept = {name: getattr(mesh, name)[used] for name in ("vertices", "normals", "colors", "weights")}
    return replace(mesh, faces=numbers.reshape(faces.shape), **kept)
