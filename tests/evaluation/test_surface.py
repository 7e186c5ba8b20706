"""Surface metrics against answers known by construction and against Open3D's exact distances."""

from __future__ import annotations

import math

import pytest
import torch

from gradslam_ng import RGBDFrames, evaluation
from gradslam_ng.evaluation import mesh as meshes
from gradslam_ng.evaluation.surface import seen_samples


def square(side: float = 1.0) -> meshes.Mesh:
    """The square [0, side]^2 at z = 0 in two triangles."""
    vertices = side * torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    return vertices, torch.tensor([[0, 1, 2], [0, 2, 3]])


def random_mesh(faces: int = 60, seed: int = 0) -> meshes.Mesh:
    """Triangles of all sizes and shapes, among them slivers."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(faces, 1, 3, generator=generator)
    size = torch.logspace(-2.5, 0, faces)[:, None, None]
    corners = centers + size * (torch.rand(faces, 3, 3, generator=generator) - 0.5)
    corners[::7, 2] = 0.999 * corners[::7, 1] + 0.001 * corners[::7, 2]
    return corners.reshape(-1, 3), torch.arange(3 * faces).reshape(-1, 3)


def grid(spacing: float, z: float, side: float = 1.0) -> torch.Tensor:
    x = torch.arange(spacing / 2, side, spacing)
    return torch.stack([*torch.meshgrid(x, x, indexing="ij"), torch.full((len(x), len(x)), z)], -1).reshape(-1, 3)


def test_points_above_a_plane_are_as_far_as_they_are():
    result = evaluation.surface(grid(0.01, z=0.004), square(), threshold=0.01)
    assert result.accuracy.mean == pytest.approx(0.004, abs=1e-8)
    assert result.accuracy.max == pytest.approx(0.004, abs=1e-8)
    assert 0.004 <= result.completion.mean < math.hypot(0.004, 0.0071)
    assert result.precision == result.recall == result.f_score == 1


def test_half_a_surface_is_half_complete():
    points = grid(0.01, z=0.0)
    result = evaluation.surface(points[points[:, 0] < 0.5], square(), threshold=0.01)
    assert result.precision == 1
    assert result.recall == pytest.approx(0.505, abs=0.01)
    assert result.f_score == pytest.approx(2 * result.recall / (1 + result.recall))


def test_points_far_off_lower_the_precision_only():
    points = torch.cat([grid(0.01, z=0.0), grid(0.02, z=0.5)])
    result = evaluation.surface(points, square(), threshold=0.01)
    assert result.precision == pytest.approx(0.8)
    assert result.recall == 1


def test_only_what_was_seen_counts_for_completion():
    samples = meshes.sample_mesh(square(), 0.01)
    points = grid(0.01, z=0.0)
    left = points[points[:, 0] < 0.5]
    result = evaluation.surface(left, square(), seen=samples[:, 0] < 0.5, threshold=0.01)
    assert result.recall == 1


def test_distance_equals_open3d():
    o3d = pytest.importorskip("open3d")
    vertices, faces = random_mesh()
    points = torch.rand(3000, 3, generator=torch.Generator().manual_seed(1)) * 1.4 - 0.2
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices.numpy()), o3d.core.Tensor(faces.to(torch.uint32).numpy()))
    expected = torch.from_numpy(scene.compute_distance(o3d.core.Tensor(points.numpy())).numpy()).double()
    assert torch.allclose(meshes.distance(points, (vertices, faces)), expected, atol=2e-6)


def test_distance_on_every_side_of_a_triangle():
    triangle = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    points = torch.tensor(
        [[0.2, 0.2, 0.3], [0.5, -2.0, 0.0], [-3.0, 0.5, 4.0], [1.0, 1.0, 0.0], [-3.0, -4.0, 0.0], [2.0, 0.0, 0.0]],
        dtype=torch.float64,
    )
    expected = torch.tensor([0.3, 2.0, 5.0, math.sqrt(0.5), 5.0, 1.0], dtype=torch.float64)
    assert torch.allclose(meshes.point_to_triangle(points, triangle), expected)


def test_pieces_keep_the_area_and_are_small():
    triangles = meshes.triangles_of(random_mesh())
    pieces = meshes.subdivide(triangles, 0.05)
    assert meshes._areas(pieces).sum().item() == pytest.approx(meshes._areas(triangles).sum().item(), rel=1e-9)
    assert (pieces - pieces.roll(-1, -2)).norm(dim=-1).max() <= 0.05


def test_samples_are_even_and_always_the_same():
    vertices, faces = square()
    # The same square with one quarter of it cut into many slivers: as many samples there as anywhere.
    cuts = torch.linspace(0, 0.5, 200)
    strips = torch.cat([torch.stack([cuts, torch.full_like(cuts, y), torch.zeros_like(cuts)], -1) for y in (0.0, 0.5)])
    i = torch.arange(199)
    slivers = torch.cat([torch.stack([i, i + 1, i + 200], -1), torch.stack([i + 1, i + 201, i + 200], -1)])
    rest = torch.tensor([[0.5, 0, 0], [1, 0, 0], [1, 1, 0], [0.5, 1, 0], [0, 0.5, 0], [0.5, 0.5, 0], [0, 1, 0]])
    others = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 3], [4, 3, 6]]) + 400
    samples = meshes.sample_mesh((torch.cat([strips, rest]), torch.cat([slivers, others])), 0.01)
    assert len(samples) == 10_000
    assert torch.equal(samples, meshes.sample_mesh((torch.cat([strips, rest]), torch.cat([slivers, others])), 0.01))
    cell = (samples[:, :2] * 4).long()
    counts = torch.bincount(cell[:, 0] * 4 + cell[:, 1], minlength=16)
    assert (counts - 625).abs().max() <= 40

    plain = meshes.sample_mesh((vertices, faces), 0.01)
    gaps = torch.cdist(grid(0.02, z=0.0).double(), plain).min(-1).values
    assert gaps.max() < 0.02  # no hole larger than two spacings


def test_seen_is_what_the_depth_image_agrees_with():
    samples = meshes.sample_mesh(square(2.0), 0.02) + torch.tensor([-1.0, -1.0, 2.0])  # a wall two meters ahead
    K = torch.tensor([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
    depth = torch.full((48, 64, 1), 2.0)
    depth[:, :20] = 0  # no reading
    depth[:, 44:] = 1.0  # something in front
    frame = RGBDFrames(torch.zeros(48, 64, 3), depth, K, torch.eye(4))
    lost = RGBDFrames(torch.zeros(48, 64, 3), torch.full((48, 64, 1), 2.0), K, torch.full((4, 4), math.nan))
    seen = seen_samples(samples, [frame, lost])
    u = samples[:, 0] / 2 * 50 + 31.5
    v = samples[:, 1] / 2 * 50 + 23.5
    expected = (u > 19.5) & (u < 43.5) & (v > -0.5) & (v < 47.5)
    assert torch.equal(seen, expected)


class TestHostile:
    def test_no_points(self):
        with pytest.raises(ValueError, match=r"points: expected shape \(N, 3\) with N > 0, got \(0, 3\)"):
            evaluation.surface(torch.zeros(0, 3), square())

    def test_points_not_finite(self):
        points = grid(0.1, 0.0)
        points[3] = math.nan
        with pytest.raises(ValueError, match="1 of 100 are not finite"):
            evaluation.surface(points, square())

    def test_mask_of_the_wrong_length(self):
        with pytest.raises(ValueError, match="seen: expected a bool mask of the 100 samples"):
            evaluation.surface(grid(0.1, 0.0), square(), seen=torch.ones(7, dtype=torch.bool), spacing=0.1)

    @pytest.mark.parametrize(
        ("mesh", "message"),
        [
            ((torch.zeros(4, 2), torch.zeros(1, 3).long()), "expected vertices"),
            ((torch.zeros(3, 3), torch.tensor([[0, 1, 3]])), "index 3 vertices, got 0 to 3"),
            ((torch.zeros(3, 3), torch.tensor([[0, 1, 2]])), "at least one face with an area"),
            ((torch.full((3, 3), math.nan), torch.tensor([[0, 1, 2]])), "every vertex must be finite"),
        ],
    )
    def test_bad_mesh(self, mesh, message):
        with pytest.raises(ValueError, match=message):
            evaluation.surface(grid(0.1, 0.0), mesh)
