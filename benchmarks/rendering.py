"""Surfel rendering, forward and with the backward pass, beside Open3D's ray casting: `python -m benchmarks.rendering`.

The map holds as many surfels as asked for, of the rendered living room; hot functions are compiled, forwards and
backwards. Open3D casts rays at the mesh of the same room (`RaycastingScene`), which has no gradient. All take turns.
Reported are processor time, which other work on the machine hardly changes, and the time that passed, in medians and at
best. About two minutes, most of them compiling.
"""

from __future__ import annotations

import time
from statistics import median

import torch
import tyro

import gradslam_ng as gs
from benchmarks.report import save
from gradslam_ng.compute.compiled import compilation
from gradslam_ng.datasets.synthetic.sequence import default_intrinsics
from gradslam_ng.evaluation import sample_mesh


def room_map(count: int) -> gs.SurfelMap:
    """Points spread over the room's surface, as surfels that overlap."""
    room = gs.datasets.Synthetic("living_room", frames=1, size=(48, 64))
    vertices, faces = room.mesh
    corners = vertices[faces].double()
    area = 0.5 * torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1).sum()
    spacing = float((area / count).sqrt())
    points = sample_mesh(room.mesh, spacing).float()[None]
    normals = torch.nn.functional.normalize(room.T_wc[0, :3, 3].float() - points, dim=-1)
    ones = torch.ones(points.shape[:2])
    frames = torch.zeros(points.shape[:2], dtype=torch.int64)
    return gs.SurfelMap(
        points, normals, points.sin().abs(), spacing * ones, ones, frames, frames, torch.tensor([points.shape[1]])
    )


def main(count: int = 500_000, threads: int = 2, runs: int = 7) -> None:
    """Print milliseconds, and save them.

    Args:
        count: surfels.
        threads: for either.
        runs: of each.
    """
    import numpy as np
    import open3d as o3d

    torch.set_num_threads(threads)
    size = (480, 640)
    K = default_intrinsics(size).float()[None]
    sequence = gs.datasets.Synthetic("living_room", frames=1, size=size)
    map_, T_wc = room_map(count), sequence.T_wc[:1].float()
    scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
    vertices, faces = sequence.mesh
    scene.add_triangles(vertices.float().numpy(), faces.numpy().astype(np.uint32))
    rays = scene.create_rays_pinhole(
        K[0].double().numpy(), torch.linalg.inv(T_wc[0].double()).numpy(), size[1], size[0]
    )

    def forward() -> None:
        with torch.no_grad():
            gs.render(map_, T_wc, K, size)

    def both() -> None:
        attributes = {
            name: value.detach().requires_grad_()
            for name, value in map_.attributes().items()
            if value.is_floating_point()
        }
        seen = gs.render(
            gs.SurfelMap(**(map_.attributes() | attributes), count=map_.count), T_wc.requires_grad_(), K, size
        )
        (seen.color.sum() + seen.depth.sum()).backward()

    contenders = {"forward": forward, "forward and backward": both, "Open3D, a mesh": lambda: scene.cast_rays(rays)}
    spent = {name: [] for name in contenders}
    with compilation():
        for turn in range(runs + 1):
            for name, act in contenders.items():
                began = time.process_time(), time.perf_counter()
                act()
                if turn:  # the first compiles
                    spent[name].append([1e3 * (time.process_time() - began[0]), 1e3 * (time.perf_counter() - began[1])])
    row = {}
    for name, times in spent.items():
        processor, passed = zip(*times, strict=True)
        row[name] = {"processor": median(processor), "passed": median(passed), "passed, at best": min(passed)}
        print(f"{name:22}", *(f"{kind} {ms:.0f} ms," for kind, ms in row[name].items()))
    figures = {"surfels": int(map_.count[0]), "threads": threads, "milliseconds": row}
    for kind in ("processor", "passed"):
        figures[f"with backward / forward, {kind}"] = row["forward and backward"][kind] / row["forward"][kind]
    save("rendering", figures, images="640x480")


if __name__ == "__main__":
    tyro.cli(main)
