"""Registration of color to depth on closed forms; occlusion; bad input; gradients to every input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gradslam_ng.geometry import camera, se3
from gradslam_ng.geometry.lens import Lens, project_through
from gradslam_ng.geometry.registration import fill_depth, register_color

SIZE, SIZE_COLOR = (48, 64), (60, 90)
LENS = Lens((0.1, -0.05, 0.002, -0.001))


def intrinsics(f: float, size: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    height, width = size
    return torch.tensor([[f, 0, width / 2 - 0.3], [0, 1.02 * f, height / 2 - 0.8], [0, 0, 1]], dtype=dtype)


K, K_COLOR = intrinsics(60.0, SIZE), intrinsics(75.0, SIZE_COLOR)


def ramp(size: tuple[int, int]) -> Tensor:
    """Color (H, W, 3) that tells its pixel, and that interpolation leaves as it is: u and v, in hundreds of pixels."""
    uv = camera.pixel_grid(*size, dtype=torch.float64) / 100
    return torch.cat([uv, 0.5 * uv.sum(-1, keepdim=True)], dim=-1)


def plane(K: Tensor, size: tuple[int, int], slope: float = 0.0, distance: float = 2.0) -> Tensor:
    """Depth (H, W, 1) of the plane z = distance + slope x."""
    x = camera.unproject(torch.ones(*size, 1, dtype=K.dtype), K)[..., :1]
    return distance / (1.0 - slope * x)


def moved(*xi: float) -> Tensor:
    return se3.exp(torch.tensor(xi, dtype=torch.float64))


def test_one_camera_is_registered_already():
    color = torch.rand(*SIZE, 3, dtype=torch.float64)
    depth = 1.0 + torch.rand(*SIZE, 1, dtype=torch.float64)
    registered, seen = register_color(color, depth, K, K, torch.eye(4, dtype=torch.float64))
    assert seen.all()
    torch.testing.assert_close(registered, color)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_wall_is_displaced_by_the_disparity_of_the_baseline(dtype):
    baseline, distance = 0.2, 2.0
    depth = torch.full((*SIZE, 1), distance, dtype=dtype)
    T = moved(-baseline, 0, 0, 0, 0, 0).to(dtype)  # the color camera is to the right
    registered, seen = register_color(ramp(SIZE).to(dtype), depth, K.to(dtype), K.to(dtype), T)
    disparity = 60.0 * baseline / distance
    assert torch.equal(seen[..., 0], (torch.arange(64) >= disparity).expand(48, 64))
    u = (torch.arange(64, dtype=dtype) - disparity).expand(48, 64) / 100
    torch.testing.assert_close(registered[..., 0][seen[..., 0]], u[seen[..., 0]], rtol=0, atol=1e-6)
    assert (registered[:, :5] == 0).all()


@pytest.mark.parametrize("lens", [None, LENS, Lens((-0.02, 0.01, 0.0, 0.0), "kannala_brandt")])
@pytest.mark.parametrize("slope", [0.0, 0.7, -2.0])
def test_two_cameras_of_different_size_and_lens(lens, slope):
    """Every color tells where it was taken from: there the color camera projects the point of the depth pixel."""
    T = moved(0.05, -0.02, 0.01, 0.02, -0.03, 0.1)
    depth = plane(K, SIZE, slope)
    registered, seen = register_color(ramp(SIZE_COLOR), depth, K_COLOR, K, T, lens)
    points = se3.transform(T, camera.unproject(depth, K).flatten(0, 1))
    uv, _, shown = project_through(lens, points, K_COLOR)
    inside, outside = (((uv >= a) & (uv <= torch.tensor([89.0 - a, 59.0 - a]))).all(-1) for a in (0.1, -0.1))
    inside, outside = shown & inside & ((depth > 0) & (depth < 4)).flatten(), ~(shown & outside)
    assert seen.flatten()[inside].all() and not seen.flatten()[outside].any()  # a steep plane does not hide itself
    assert inside.double().mean() > 0.4
    torch.testing.assert_close(100 * registered.flatten(0, 1)[inside, :2], uv[inside])


@pytest.mark.parametrize("f_color", [60.0, 150.0, 24.0])
def test_what_stands_in_front_hides_the_wall_behind_it(f_color):
    """To the left of a board, seen from the right, the wall is hidden over the difference of the disparities."""
    near, far, baseline = 1.0, 3.0, 0.2
    depth = torch.full((*SIZE, 1), far, dtype=torch.float64)
    depth[10:40, 30:45] = near
    size = (round(f_color * 0.8), round(f_color * 64 / 60))
    _, seen = register_color(ramp(size), depth, intrinsics(f_color, size), K, moved(-baseline, 0, 0, 0, 0, 0))
    strip = 60.0 * baseline * (1 / near - 1 / far)  # 8 pixels
    hidden = ~seen[15:35, :, 0]
    rim = 60.0 * baseline / near + 2  # outside of the color image
    columns = torch.arange(64)
    certain = (columns >= 30 - strip + 1) & (columns < 29)
    assert hidden[:, certain].all()
    free = (columns > rim) & ((columns < 30 - strip - 1) | (columns > 46)) | ((columns >= 30) & (columns < 45))
    assert not hidden[:, free].any()
    assert seen[2:7, columns > rim].all()


def test_what_is_behind_the_color_camera_is_not_seen():
    color = torch.rand(*SIZE, 3, dtype=torch.float64).requires_grad_()
    depth = plane(K, SIZE).requires_grad_()
    T = moved(0, 0, 0, 0, math.pi, 0).requires_grad_()
    registered, seen = register_color(color, depth, K, K, T)
    assert not seen.any() and (registered == 0).all()
    (registered.sum() + 0 * (color.sum() + depth.sum() + T.sum())).backward()
    assert all((x.grad == 0).all() for x in (color, depth, T))


@pytest.mark.parametrize("hole", [0.0, -1.0, math.nan, math.inf])
def test_holes_are_not_seen_but_look_like_what_is_around_them(hole):
    depth = torch.full((*SIZE, 1), 2.0, dtype=torch.float64)
    depth[20:30, 20:30] = hole
    depth.requires_grad_()
    registered, seen = register_color(ramp(SIZE), depth, K, K, moved(-0.05, 0, 0, 0, 0, 0))
    assert not seen[20:30, 20:30].any() and seen[:20, 2:].all()
    u = (torch.arange(20, 30, dtype=torch.float64) - 1.5).expand(10, 10) / 100
    torch.testing.assert_close(registered[20:30, 20:30, 0].detach(), u)
    registered.sum().backward()
    assert depth.grad.isfinite().all() and (depth.grad[20:30, 20:30] == 0).all()


def test_depth_of_holes_is_filled_from_the_least_block_that_has_any():
    depth = torch.zeros(5, 6, 1, dtype=torch.float64)
    assert (fill_depth(depth) == 1).all()
    depth[0, 0], depth[4, 5] = 2.0, 4.0
    filled = fill_depth(depth)[..., 0]
    assert filled[0, 0] == 2 and filled[4, 5] == 4
    assert filled[1, 1] == 2 and filled[3, 3] == 2 and filled[4, 4] == 4 and 2 < filled[1, 5] < 4


def test_without_any_depth_nothing_is_seen():
    depth = torch.zeros(*SIZE, 1, dtype=torch.float64).requires_grad_()
    T = moved(0.05, 0, 0, 0, 0, 0).requires_grad_()
    registered, seen = register_color(ramp(SIZE_COLOR), depth, K_COLOR, K, T)
    assert not seen.any()
    (registered.sum() + 0 * (depth.sum() + T.sum())).backward()
    assert (depth.grad == 0).all() and (T.grad == 0).all()


def test_pixels_without_color_give_none():
    color = ramp(SIZE)
    color[20, 30] = math.nan
    color.requires_grad_()
    T = moved(0.01, 0, 0, 0, 0, 0).requires_grad_()
    registered, seen = register_color(color, plane(K, SIZE), K, K, T)
    assert (~seen[18:23, 25:35]).sum() == 2  # those between which it lies
    registered.sum().backward()
    assert registered.isfinite().all() and color.grad.isfinite().all() and T.grad.isfinite().all()


@pytest.mark.parametrize("field", ["K_color", "K_depth", "T"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_camera_that_is_none_sees_nothing(field, value):
    given = {"K_color": K.clone(), "K_depth": K.clone(), "T": torch.eye(4, dtype=torch.float64)}
    given[field][0, 0] = value
    if field == "T" and value == 0.0:
        pytest.skip("a finite matrix is taken as it is")
    leaves = [x.requires_grad_() for x in given.values()]
    color, depth = ramp(SIZE).requires_grad_(), plane(K, SIZE).requires_grad_()
    registered, seen = register_color(color, depth, *leaves)
    assert not seen.any()
    registered.sum().backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in (color, depth, *leaves))


def test_large_color_images_are_shrunk_by_blocks_first():
    """A board of one pixel's squares is gray from afar, whichever of its pixels a depth pixel falls on."""
    size = (96, 128)
    board = (camera.pixel_grid(*size, dtype=torch.float64).sum(-1, keepdim=True) % 2).expand(*size, 3)
    depth = plane(K, SIZE, 0.1)
    registered, seen = register_color(board, depth, camera.scale_intrinsics(K, 2), K, torch.eye(4, dtype=torch.float64))
    assert seen.all()
    torch.testing.assert_close(registered, torch.full_like(registered, 0.5))


def test_a_batch_is_each_of_its_images():
    color = torch.rand(2, 3, *SIZE_COLOR, 3, dtype=torch.float64)
    depth = 1.5 + torch.rand(2, 3, *SIZE, 1, dtype=torch.float64)
    T = torch.stack([moved(0.05, 0, 0, 0, 0, 0), moved(0, 0.1, 0, 0, 0, 0.1)])[:, None].expand(2, 3, 4, 4)
    registered, seen = register_color(color, depth, K_COLOR, K, T, LENS)
    for i in range(2):
        each, its = register_color(color[i, 1], depth[i, 1], K_COLOR, K, T[i, 1], LENS)
        assert torch.equal(its, seen[i, 1])
        torch.testing.assert_close(each, registered[i, 1])


@pytest.mark.parametrize("model", ["brown_conrady", "kannala_brandt"])
def test_gradients_to_images_cameras_lens_and_mounting(model):
    size, size_color = (5, 6), (7, 9)
    color = torch.rand(*size_color, 3, dtype=torch.float64)
    depth = plane(intrinsics(8.0, size), size, 0.3, 1.5)
    given = (
        color,
        depth,
        intrinsics(9.0, size_color),
        intrinsics(8.0, size),
        moved(0.04, 0.03, 0.01, 0.02, 0.01, 0.03),
    )
    coefficients = torch.tensor([0.05, -0.02, 0.003, -0.002], dtype=torch.float64)

    def register(*inputs: Tensor) -> Tensor:
        registered, seen = register_color(*inputs[:5], Lens(inputs[5], model))
        assert seen.double().mean() > 0.5
        return torch.where(seen, registered, 0.0)

    inputs = [x.clone().requires_grad_() for x in (*given, coefficients)]
    assert torch.autograd.gradcheck(register, inputs, fast_mode=True)


@pytest.mark.parametrize(("change", "message"), [
    ({"color": torch.rand(4, 5, 1)}, r"color: expected shape \(\.\.\., H, W, 3\), got \(4, 5, 1\)"),
    ({"depth": torch.rand(4, 5)}, "depth: expected shape"),
    ({"depth": torch.rand(2, 4, 5, 1)}, "depth: expected shape"),
    ({"K_color": torch.rand(4)}, "K_color: expected shape"),
    ({"T_color_depth": torch.rand(3, 4)}, "T_color_depth: expected shape"),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(change, message):
    given = {
        "color": torch.rand(4, 5, 3), "depth": torch.rand(4, 5, 1), "K_color": torch.eye(3), "K_depth": torch.eye(3),
        "T_color_depth": torch.eye(4),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        register_color(**(given | change))
