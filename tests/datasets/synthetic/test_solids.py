"""Analytic shapes: hits against closed forms and distance functions, normals, gradients, triangles."""

from __future__ import annotations

import math

import pytest
import torch

from gradslam_ng.datasets.synthetic.curved import Capsule, Ellipsoid, Frustum, Torus
from gradslam_ng.datasets.synthetic.placement import place
from gradslam_ng.datasets.synthetic.solids import Box, Rectangle
from gradslam_ng.datasets.synthetic.texture import plain

SHAPES = {
    "rectangle": Rectangle((0.5, 0.3)),
    "box": Box((0.3, 0.2, 0.4)),
    "rounded box": Box((0.3, 0.2, 0.4), 0.08),
    "sphere": Ellipsoid((0.4, 0.4, 0.4)),
    "ellipsoid": Ellipsoid((0.5, 0.2, 0.3)),
    "cylinder": Frustum(0.3, 0.3, 0.6),
    "cone": Frustum(0.4, 0.0, 0.6),
    "frustum": Frustum(0.15, 0.35, 0.6),
    "capsule": Capsule(0.15, 0.5),
    "torus": Torus(0.35, 0.1),
}
SOLID = {name: shape for name, shape in SHAPES.items() if name != "rectangle"}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
each_solid = pytest.mark.parametrize("shape", SOLID.values(), ids=SOLID.keys())


def rays(n: int = 2000, seed: int = 0, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """An origin outside all shapes, and directions of various lengths, most of them towards the shape."""
    generator = torch.Generator().manual_seed(seed)
    o = torch.nn.functional.normalize(torch.randn(3, generator=generator, dtype=torch.float64), dim=0) * 1.5
    o[2] = o[2].abs() + 0.2
    towards = 0.9 * (torch.rand(n, 3, generator=generator, dtype=torch.float64) - 0.5) - o
    length = 0.2 + 2 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    return o.to(dtype), (towards * length).to(dtype)


def march(shape, o: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First entry by brute force: 4,000 steps along each ray to the first negative distance, then bisection."""
    s = torch.linspace(0, 3.0 / d.norm(dim=-1).min().item(), 4000, dtype=o.dtype)
    inside = torch.stack([shape.distance(o + t * d) < 0 for t in s])  # (steps, N)
    hit = inside.any(0)
    first = inside.long().argmax(0).clamp(min=1)
    near, far = s[first - 1], s[first]
    for _ in range(50):
        middle = (near + far) / 2
        within = shape.distance(o + middle[:, None] * d) < 0
        near, far = torch.where(within, near, middle), torch.where(within, middle, far)
    return far, hit


def test_sphere_closed_form():
    o, d = rays()
    t, hit = Ellipsoid((0.4, 0.4, 0.4)).intersect(o, d)
    b, c = d @ o, o @ o - 0.16
    disc = b * b - (d * d).sum(-1) * c
    assert torch.equal(hit, disc > 0)
    torch.testing.assert_close(t[hit], ((-b - disc.clamp(min=0).sqrt()) / (d * d).sum(-1))[hit], rtol=1e-12, atol=0)


def test_box_closed_form():
    """Straight on, the depth of a face; along an axis in its plane, and past it, nothing."""
    box, o = Box((0.3, 0.2, 0.4)), torch.tensor([2.0, 0.1, 0.0], dtype=torch.float64)
    d = torch.tensor([[-1.0, 0, 0], [-2.0, 0, 0], [-1.0, 0.05, -0.1], [1.0, 0, 0], [0, 1.0, 0], [-1.0, 0.3, 0]])
    t, hit = box.intersect(o, d.double())
    assert hit.tolist() == [True, True, True, False, False, False]
    torch.testing.assert_close(t[:3], torch.tensor([1.7, 0.85, 1.7], dtype=torch.float64))


@pytest.mark.parametrize("shape", [s for n, s in SOLID.items() if n != "ellipsoid"], ids=lambda s: type(s).__name__)
def test_hits_are_where_the_distance_function_says(shape):
    o, d = rays(400, seed=3)
    t, hit = shape.intersect(o, d)
    expected, inside = march(shape, o, d)
    assert 0.1 < hit.double().mean() < 0.98
    assert (hit != inside).double().mean() < 0.005  # a ray that grazes may slip between the steps of either
    both = hit & inside
    torch.testing.assert_close(t[both], expected[both], rtol=0, atol=2e-5)


@each_shape
def test_hits_lie_on_the_surface_and_face_the_ray(shape):
    o, d = rays(seed=1)
    t, hit = shape.intersect(o, d)
    p, d = (o + t[:, None] * d)[hit], d[hit]
    assert hit.sum() > 100
    assert shape.distance(p).abs().max() < 1e-7
    n = shape.normal(p)
    torch.testing.assert_close(n.norm(dim=-1), torch.ones(len(n), dtype=n.dtype))
    assert (n * d).sum(-1).max() < 1e-6


@each_shape
def test_normal_is_the_gradient_of_the_distance(shape):
    o, d = rays(seed=2)
    t, hit = shape.intersect(o, d)
    p = (o + t[:, None] * d)[hit].detach()
    p = (p + 1e-5 * shape.normal(p)).requires_grad_()
    (gradient,) = torch.autograd.grad(shape.distance(p).sum(), p)
    agree = (torch.nn.functional.normalize(gradient, dim=-1) * shape.normal(p.detach())).sum(-1)
    assert (agree > 1 - 1e-6).double().mean() > 0.999  # all but those beside a sharp edge


@each_shape
def test_float32_decides_as_float64(shape):
    o, d = rays(dtype=torch.float32)
    t, hit = shape.intersect(o, d)
    t64, hit64 = shape.intersect(o.double(), d.double())
    assert (hit != hit64).double().mean() < 2e-3
    both = hit & hit64
    steep = -(shape.normal(o.double() + t64[:, None] * d.double()) * d.double()).sum(-1) / d.double().norm(dim=-1) > 0.1
    torch.testing.assert_close(t[both & steep].double(), t64[both & steep], rtol=2e-5, atol=0)


@each_shape
def test_gradient_of_a_hit_is_the_surface_s(shape):
    """dt/do = -n / (n . d) by the implicit function theorem; rays that miss give finite gradients."""
    o, d = rays(seed=4)
    o = o.requires_grad_()
    t, hit = shape.intersect(o, d)
    for i in hit.nonzero()[:40, 0].tolist():
        (gradient,) = torch.autograd.grad(t[i], o, retain_graph=True)
        n = shape.normal((o + t[i] * d[i])[None].detach())[0]
        torch.testing.assert_close(gradient, -n / (n @ d[i]), rtol=1e-5, atol=1e-8)
    (gradient,) = torch.autograd.grad(t.sum(), o)
    assert gradient.isfinite().all()


@each_solid
def test_seen_from_outside_only(shape):
    """A camera inside a solid, or with it behind, does not hit it."""
    d = rays()[1]
    inside = (
        torch.tensor([0.35, 0.0, 0.0], dtype=torch.float64) if isinstance(shape, Torus) else torch.zeros(3).double()
    )
    if not isinstance(shape, Torus):
        assert not shape.intersect(inside + 1e-3, d)[1].any()
    o = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    assert not shape.intersect(o, d.abs() + 0.01)[1].any()


@each_shape
def test_bounding_radius(shape):
    vertices, _ = shape.mesh(0.05)
    assert vertices.norm(dim=-1).max() <= shape.radius + 1e-9


@each_shape
def test_mesh_lies_on_the_surface_and_faces_outwards(shape):
    vertices, faces = shape.mesh(0.05)
    assert shape.distance(vertices).abs().max() < 1e-9
    a, b, c = vertices[faces].unbind(1)
    normal, middle = torch.linalg.cross(b - a, c - a), (a + b + c) / 3
    assert normal.norm(dim=-1).min() > 0
    agree = (torch.nn.functional.normalize(normal, dim=-1) * shape.normal(middle)).sum(-1)
    assert (agree > 0.9).all()
    assert shape.distance(middle).abs().max() < 5e-4  # the chords' error in two directions


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (Rectangle((0.5, 0.3)), 0.6),
        (Box((0.3, 0.2, 0.4)), 8 * (0.06 + 0.08 + 0.12)),
        (Box((0.3, 0.2, 0.4), 0.08), 8 * 0.1352 + math.tau * 0.08 * 2 * 0.66 + 4 * math.pi * 0.08**2),
        (Ellipsoid((0.4, 0.4, 0.4)), 4 * math.pi * 0.16),
        (Frustum(0.4, 0.0, 0.6), math.pi * 0.4 * (0.4 + math.hypot(0.4, 0.6))),
        (Capsule(0.15, 0.5), math.tau * 0.15 * 0.5 + 4 * math.pi * 0.0225),
        (Torus(0.35, 0.1), 4 * math.pi**2 * 0.035),
    ],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
def test_mesh_area(shape, area):
    """All of the surface, once."""
    vertices, faces = shape.mesh(0.03)
    a, b, c = vertices[faces].unbind(1)
    assert torch.linalg.cross(b - a, c - a).norm(dim=-1).sum().item() / 2 == pytest.approx(area, rel=5e-3)


def test_a_placed_solid_is_the_shape_moved():
    """A capsule laid along world x, its middle at (1, 2, 3)."""
    solid = place(Capsule(0.1, 1.0), (1.0, 2.0, 3.0), plain((1.0, 1.0, 1.0)), roll=math.pi / 2)
    points = torch.tensor([[1.0, 2.0, 3.3], [1.9, 2.0, 3.0], [1.5, 2.1, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(solid.distance(points), torch.tensor([0.2, 0.3, 0.0], dtype=torch.float64))
