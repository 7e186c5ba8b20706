"""Normals, filtering and pyramids on planes, spheres, steps and holes with known answers; gradients without depth."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from gradslam_ng.compute.masks import MIN_DEPTH
from gradslam_ng.geometry import camera, images

K = torch.tensor([[60.0, 0.0, 31.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
RAYS = camera.unproject(torch.ones(48, 64, 1, dtype=torch.float64), K)
TILTED = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, -1.0], dtype=torch.float64), dim=0)
FRONTAL = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
CPU_COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")


def plane(normal: Tensor, distance: float) -> Tensor:
    """Depth (H, W, 1) of the plane at `distance` meters along the optical axis."""
    return distance * normal[2] / (RAYS @ normal)[..., None]


def sphere(center: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Depth (H, W, 1) of a sphere, zero beside it, and its normals (H, W, 3)."""
    a, b, c = RAYS.square().sum(-1), RAYS @ center, center @ center - radius**2
    discriminant = b * b - a * c
    depth = torch.where(discriminant > 0, (b - discriminant.clamp(min=0).sqrt()) / a, 0.0)[..., None]
    return depth, (RAYS * depth - center) / radius


def normals_of(depth: Tensor, **gates: float) -> Tensor:
    return images.normal_map(camera.unproject(depth, K.to(depth.dtype)), **gates)


def holes_in(depth: Tensor, share: float) -> Tensor:
    return depth * (torch.rand(depth.shape) > share)


# normals


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("normal", [FRONTAL, TILTED], ids=["frontal", "tilted"])
def test_normals_of_a_plane_are_exact_up_to_the_border(normal, dtype):
    normals = normals_of(plane(normal, 2.0).to(dtype))
    assert normals.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(normals, normal.to(dtype).expand(48, 64, 3), rtol=0, atol=tolerance)


def test_normals_of_a_sphere():
    depth, truth = sphere(torch.tensor([0.1, -0.1, 2.0], dtype=torch.float64), 0.7)
    normals = normals_of(depth)
    facing = (truth * RAYS).sum(-1) / RAYS.norm(dim=-1) < -0.5  # seen at less than 60 degrees
    assert facing.sum() > 500
    angle = torch.rad2deg(torch.linalg.cross(normals, truth).norm(dim=-1).asin())
    assert angle[facing].max() < 1.0
    assert (normals[depth[..., 0] == 0] == 0).all()


@pytest.mark.parametrize("step", [0.04, 0.5], ids=["bend", "jump"])
@pytest.mark.parametrize("along", ["columns", "rows"])
def test_normals_do_not_bleed_across_a_step(step, along):
    near, far = plane(TILTED, 2.0), plane(TILTED, 2.0 * (1 + step))
    on_far = (torch.arange(48)[:, None] >= 24) if along == "rows" else (torch.arange(64) >= 32)
    normals = normals_of(torch.where(on_far.expand(48, 64)[..., None], far, near))
    torch.testing.assert_close(normals, TILTED.expand(48, 64, 3), rtol=0, atol=1e-12)


def test_normals_stay_apart_on_surfaces_that_meet_at_a_jump():
    on_far = (torch.arange(64) >= 32).expand(48, 64)[..., None]
    normals = normals_of(torch.where(on_far, plane(FRONTAL, 4.0), plane(TILTED, 2.0)))
    torch.testing.assert_close(normals, torch.where(on_far, FRONTAL, TILTED), rtol=0, atol=1e-12)


def test_normals_do_not_bleed_into_holes():
    depth = holes_in(plane(TILTED, 2.0), 0.4)
    normals = normals_of(depth)
    seen = depth[..., 0] > 0
    across = torch.nn.functional.pad(seen, (1, 1))
    along = torch.nn.functional.pad(seen, (0, 0, 1, 1))
    defined = seen & (across[:, :-2] | across[:, 2:]) & (along[:-2] | along[2:])
    assert 0 < defined.sum() < seen.sum()
    torch.testing.assert_close(normals, torch.where(defined[..., None], TILTED, 0.0), rtol=0, atol=1e-12)


def test_normals_face_the_camera_whichever_way_the_image_runs():
    vertices = camera.unproject(plane(TILTED, 2.0), K)
    for flipped in (vertices.flip(0), vertices.flip(1), vertices.flip(0, 1)):
        torch.testing.assert_close(images.normal_map(flipped), TILTED.expand(48, 64, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.02, 1.0, 1e4])
def test_normals_and_their_gradients_at_any_scale(scale):
    """From where all depths are beyond the smallest, 1 cm."""
    depth = (scale * plane(TILTED, 1.0)).float().requires_grad_()
    assert depth.min() > MIN_DEPTH
    normals = normals_of(depth)
    torch.testing.assert_close(normals, TILTED.float().expand(48, 64, 3), rtol=0, atol=2e-5)
    (normals * torch.rand(3)).sum().backward()
    assert depth.grad.isfinite().all()
    assert (depth.grad != 0).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 5e-3])
def test_what_is_nearer_than_the_smallest_depth_is_no_surface(scale):
    depth = (scale * plane(TILTED, 1.0)).float().requires_grad_()
    assert 0 < depth.max() < MIN_DEPTH
    normals = normals_of(depth)
    assert (normals == 0).all()
    (normals * torch.rand(3)).sum().backward()
    assert (depth.grad == 0).all()


def test_single_pixels_and_lines_have_no_normal():
    depth = torch.zeros(48, 64, 1, dtype=torch.float64)
    depth[10, 10] = depth[20, 5:30] = depth[25:40, 40] = 1.0
    depth.requires_grad_()
    normals = normals_of(depth)
    assert (normals == 0).all()
    normals.sum().backward()
    assert (depth.grad == 0).all()


def test_normal_gradients():
    depth = plane(TILTED, 2.0)[:6, :7] + 0.01 * torch.rand(6, 7, 1, dtype=torch.float64)
    depth[2, 3] = 0.0
    depth[4:, :2] *= 1.3
    measured = depth[depth > 0].requires_grad_()
    intrinsics = K.clone().requires_grad_()

    def normals(measured: Tensor, intrinsics: Tensor) -> Tensor:
        return images.normal_map(camera.unproject(depth.masked_scatter(depth > 0, measured), intrinsics))

    assert torch.autograd.gradcheck(normals, (measured, intrinsics))


# depth filter


@pytest.mark.parametrize("radius", [1, 3])
def test_filter_leaves_planes_alone_up_to_edges_and_holes(radius):
    depth = torch.where(torch.arange(64)[:, None] < 32, plane(TILTED, 2.0), plane(FRONTAL, 3.0))
    depth = holes_in(depth, 0.1)
    torch.testing.assert_close(images.bilateral_depth(depth, radius), depth, rtol=0, atol=1e-12)


def test_filter_removes_noise_and_keeps_the_step():
    gentle = torch.tensor([0.1, -0.1, -1.0], dtype=torch.float64)
    truth = torch.where(torch.arange(64)[:, None] < 32, plane(gentle, 2.0), plane(gentle, 2.1))  # 5% apart
    noisy = truth * (1 + 0.003 * torch.randn(truth.shape, dtype=torch.float64))
    error = images.bilateral_depth(noisy) - truth
    assert error.square().mean() < 0.1 * (noisy - truth).square().mean()
    assert error[:, 28:36].abs().max() < 0.03  # no pixel beside the step is drawn half way


def test_filter_takes_the_mean_of_opposite_neighbors():
    inverse = torch.tensor([1.0, 1.001, 1.0, 1.004, 1.0], dtype=torch.float64)
    weight = (1 - (0.001 / 1.001 / 0.02) ** 2) ** 2  # of the neighbors of the second pixel, each 0.001 away
    smoothed = (1.001 + 2 * weight * 1.0) / (1 + 2 * weight)
    filtered = images.bilateral_depth((1 / inverse).reshape(1, 5, 1), radius=1)
    # which of two alike is the larger is left open to 6e-5 of the gate
    torch.testing.assert_close(1 / filtered[0, 1, 0], torch.tensor(smoothed, dtype=torch.float64), rtol=0, atol=1e-7)


def test_filter_gradients():
    depth = (2.0 + 0.02 * torch.rand(5, 6, 1, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(images.bilateral_depth, depth)


# pyramids


def test_downsampling_averages_what_lies_on_one_surface():
    block = torch.tensor
    cases = [
        (block([[1.0, 1.01], [1.02, 1.01]]), 1.01),
        (block([[1.0, 0.0], [0.0, 1.02]]), 1.01),  # holes
        (block([[1.0, 3.0], [3.0, 1.02]]), 1.01),  # two surfaces: the nearer one
        (block([[0.4, 3.0], [3.0, 3.03]]), 3.01),  # a stray measurement
        (block([[0.0, 0.0], [0.0, 2.0]]), 2.0),
        (block([[torch.nan, -1.0], [torch.inf, 2.0]]), 2.0),
        (block([[0.0, 0.0], [0.0, 0.0]]), 0.0),
    ]
    depth = torch.cat([case for case, _ in cases], dim=1)[..., None]
    expected = torch.tensor([[truth for _, truth in cases]])[..., None]
    torch.testing.assert_close(images.downsample_depth(depth), expected)


def test_pyramid_of_a_step_holds_no_depth_in_between():
    on_far = torch.rand(32, 48, 1) > 0.5
    depth = holes_in(torch.where(on_far, 2.0, 1.0), 0.3)
    pyramid = [depth]
    for _ in range(3):
        pyramid.append(images.downsample_depth(pyramid[-1]))
    assert [tuple(level.shape) for level in pyramid] == [(32, 48, 1), (16, 24, 1), (8, 12, 1), (4, 6, 1)]
    for level in pyramid:
        assert set(level.unique().tolist()) <= {0.0, 1.0, 2.0}


def test_a_downsampled_plane_stays_a_plane():
    depth, small_K = images.downsample_depth(plane(TILTED, 2.0)), camera.scale_intrinsics(K, 0.5)
    points = camera.unproject(depth, small_K)
    assert ((points @ TILTED) - 2.0 * TILTED[2]).abs().max() < 2e-4  # meters: depth is not quite linear in the pixel


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_downsampled_depth_is_of_the_nearest_surface_and_not_of_strays(factor):
    """A quarter of a block is on a near surface, or is stray: what is on no surface does not count, in blocks of any
    size, of which others may have holes."""
    pixels = factor**2
    few = pixels // 4
    strays = torch.linspace(0.1, 0.9, few)
    far, near = torch.full((pixels - few,), 3.0), torch.full((few + 1,), 1.0)
    cases = [
        (torch.cat([strays, far]), 3.0),
        (torch.cat([near, far[: pixels - few - 1]]), 1.0),
        (torch.cat([strays[: few // 2], torch.zeros(pixels // 2), far])[:pixels], 3.0),
        (torch.zeros(pixels), 0.0),
    ]
    for values, expected in cases:
        for order in (torch.arange(pixels), torch.randperm(pixels)):
            depth = values[order].reshape(factor, factor, 1)
            torch.testing.assert_close(images.downsample_depth(depth, factor), torch.full((1, 1, 1), expected))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_downsampling_by_other_factors_crops_what_is_left_over(factor):
    depth, color = torch.full((2, 7, 8, 1), 1.5), torch.rand(2, 7, 8, 3)
    size = (7 // factor, 8 // factor)
    torch.testing.assert_close(images.downsample_depth(depth, factor), torch.full((2, *size, 1), 1.5))
    blocks = color[:, : size[0] * factor, : size[1] * factor].unflatten(2, (-1, factor)).unflatten(1, (-1, factor))
    torch.testing.assert_close(images.downsample_color(color, factor), blocks.mean((2, 4)))


def test_downsampling_gradients():
    depth = 1.0 + 0.02 * torch.rand(4, 6, 1, dtype=torch.float64)
    depth[0, 0], depth[2:, 2:4] = 2.0, 0.0
    depth.requires_grad_()
    images.downsample_depth(depth).sum().backward()
    assert depth.grad[0, 0] == 0 and (depth.grad[2:, 2:4] == 0).all()  # behind the edge, and holes
    torch.testing.assert_close(depth.grad[0, 1, 0], torch.tensor(1 / 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(images.downsample_color, torch.rand(4, 6, 3, dtype=torch.float64).requires_grad_())


def test_intensity():
    color = torch.eye(3)[None]
    torch.testing.assert_close(images.intensity(color), torch.tensor([[[0.299], [0.587], [0.114]]]))
    torch.testing.assert_close(images.intensity(torch.ones(2, 2, 3)), torch.ones(2, 2, 1))


# everything


def front_end(depth: Tensor) -> Tensor:
    depth = images.bilateral_depth(images.downsample_depth(depth))
    return images.normal_map(camera.unproject(depth, camera.scale_intrinsics(K.to(depth.dtype), 0.5)))


def one_measurement() -> Tensor:
    depth = torch.zeros(48, 64, 1)
    depth[20, 30] = 1.0
    return depth


@pytest.mark.parametrize(
    "depth",
    [
        torch.zeros(48, 64, 1),
        one_measurement(),
        torch.full((48, 64, 1), torch.nan),
        torch.full((48, 64, 1), torch.inf),
        torch.full((48, 64, 1), -1.0),
        torch.full((48, 64, 1), 1e-6),
        torch.full((48, 64, 1), 1e4),
        torch.logspace(-6, 4, 48 * 64).reshape(48, 64, 1),
    ],
    ids=["nothing", "one measurement", "nan", "infinite", "negative", "1 um", "10 km", "all scales"],
)
def test_hostile_depth_has_finite_results_and_gradients(depth):
    depth = depth.clone().requires_grad_()
    normals = front_end(depth)
    assert normals.isfinite().all()
    assert ((normals.norm(dim=-1) - 1).abs() < 1e-5).logical_or((normals == 0).all(-1)).all()
    normals.sum().backward()
    assert depth.grad.isfinite().all()


def test_leading_axes_are_independent_images():
    depth = holes_in(0.5 + torch.rand(2, 3, 48, 64, 1, dtype=torch.float64), 0.1)
    normals = front_end(depth)
    torch.testing.assert_close(normals[1, 2], front_end(depth[1, 2]), rtol=0, atol=0)
    torch.testing.assert_close(torch.vmap(torch.vmap(front_end))(depth), normals, rtol=0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.skipif(CPU_COMPILER is None, reason="no C++ compiler for torch.compile")
@pytest.mark.parametrize("function", [images.normal_map, images.bilateral_depth])
def test_compiled_twin(function):
    depth = holes_in(plane(TILTED, 2.0) * (1 + 0.003 * torch.randn(48, 64, 1, dtype=torch.float64)), 0.05)
    image = camera.unproject(depth, K) if function is images.normal_map else depth
    image.requires_grad_()
    outputs = [f(image) for f in (function, torch.compile(function, fullgraph=True))]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    weights = torch.rand_like(outputs[0])
    gradients = [torch.autograd.grad((output * weights).sum(), image)[0] for output in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [0, -1, 9, 1000])
def test_a_factor_that_leaves_no_pixel_is_refused(factor):
    for shrink, channels in ((images.downsample_depth, 1), (images.downsample_color, 3)):
        with pytest.raises(ValueError, match=f"factor: expected 1 to 8, the size of the images, got {factor}"):
            shrink(torch.ones(8, 12, channels), factor)
