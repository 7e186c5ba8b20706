from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.geometry import camera, se3
from gradslam_ng.rendering import predict_surfels
from gradslam_ng.structures import SurfelMap

SIZE = (30, 40)
K = torch.tensor([[[50.0, 0, 19.5], [0, 50, 14.5], [0, 0, 1]]], dtype=torch.float64)
HERE = torch.eye(4, dtype=torch.float64)[None]


def wall(z: float = 2.0, tilt: float = 0.0, step: int = 1, color=(0.2, 0.4, 0.6), radius: float = 0.03) -> dict:
    """Surfels of the plane n (p - [0, 0, z]) = 0, tilted about the y axis, radians; on every `step`-th pixel's ray."""
    n = torch.tensor([torch.sin(torch.tensor(tilt)), 0, -torch.cos(torch.tensor(tilt))], dtype=torch.float64)
    rays = camera.unproject(torch.ones(1, *SIZE, 1, dtype=torch.float64), K)[0, ::step, ::step].reshape(1, -1, 3)
    points = rays * (n[2] * z / (rays @ n))[..., None]
    count = points.shape[1]
    return {
        "points": points, "normals": n.expand(1, count, 3), "colors": points.new_tensor(color).expand(1, count, 3),
        "radii": points.new_full((1, count), radius), "confidences": points.new_full((1, count), 3.0),
        "created": torch.zeros(1, count, dtype=torch.int64), "updated": torch.zeros(1, count, dtype=torch.int64),
    }  # fmt: skip


def map_of(*parts: dict) -> SurfelMap:
    """One map of all parts."""
    map_ = SurfelMap.empty(dtype=torch.float64)
    for part in parts:
        map_ = map_.append(torch.ones(part["radii"].shape, dtype=torch.bool), **part)
    return map_


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("tilt", [0.0, 0.7, -0.5])
def test_a_plane_has_its_exact_depth_normal_and_color(tilt, step):
    """Also between the surfels' centers, where their discs are met."""
    expected = map_of(wall(tilt=tilt)).points[0, : SIZE[0] * SIZE[1], 2].reshape(1, *SIZE, 1)
    image = gs.render(map_of(wall(tilt=tilt, step=step, radius=0.08 * step)), HERE, K, SIZE)
    inner = (slice(None), slice(2, 28), slice(2, 38))
    assert (image.alpha[inner] == 1).all() and (image.index[inner] >= 0).all()
    assert torch.allclose(image.depth[inner], expected[inner], atol=1e-12)
    assert torch.allclose(image.normal[inner], wall(tilt=tilt)["normals"][0, 0].expand(*image.normal[inner].shape))
    assert torch.allclose(image.color[inner], K.new_tensor([0.2, 0.4, 0.6]).expand(*image.color[inner].shape))


def test_the_nearer_of_two_planes_is_seen():
    far, near = wall(3.0, color=(1, 0, 0)), wall(1.0, color=(0, 1, 0), step=4, radius=0.01)
    image = gs.render(map_of(far, near), HERE, K, SIZE)
    hit = image.color[..., 1] > 0.999
    assert 0 < hit.sum() < hit.numel()
    assert hit[0, ::4, ::4].all()
    assert torch.allclose(image.depth[..., 0], torch.where(hit, 1.0, 3.0).double(), atol=1e-12)
    assert (image.index >= len(far["radii"][0])).equal(hit)


def test_nothing_behind_the_camera_or_nearer_than_near_is_drawn():
    for z in (-2.0, 0.03):
        image = gs.render(map_of(wall(z)), HERE, K, SIZE)
        assert (image.alpha == 0).all() and (image.index == -1).all()
        assert (image.depth == 0).all() and (image.color == 0).all() and (image.normal == 0).all()
    assert (gs.render(map_of(wall(0.03)), HERE, K, SIZE, near=0.01).alpha == 1).all()


def test_an_empty_map_is_an_empty_picture():
    for batch in (1, 3):
        image = gs.render(SurfelMap.empty(batch), torch.eye(4).expand(batch, 4, 4), K.float().expand(batch, 3, 3), SIZE)
        assert image.color.shape == (batch, *SIZE, 3) and image.depth.shape == image.alpha.shape == (batch, *SIZE, 1)
        assert (image.alpha == 0).all() and (image.index == -1).all() and (image.depth == 0).all()


def test_the_picture_moves_with_the_camera():
    """The same picture from everywhere, if the map moves along."""
    still = map_of(wall(tilt=0.4))
    T = se3.exp(K.new_tensor([[0.5, -1.0, 2.0, 0.4, 2.0, -0.7]]))
    points, normals = se3.transform(T, still.points[:, :1200]), se3.rotate(T, still.normals[:, :1200])
    moved = map_of(wall(tilt=0.4) | {"points": points, "normals": normals})
    first, second = gs.render(still, HERE, K, SIZE), gs.render(moved, T, K, SIZE)
    for name in ("color", "depth", "normal", "alpha"):
        assert torch.allclose(getattr(first, name), getattr(second, name), atol=1e-9), name


def test_each_map_of_a_batch_is_seen_by_its_own_camera():
    near, far = wall(1.0), wall(2.0, step=2)
    both = SurfelMap.empty(2, dtype=torch.float64)
    for b, part in enumerate((near, far)):
        new = torch.ones(2, part["radii"].shape[1], dtype=torch.bool) & (torch.arange(2) == b)[:, None]
        both = both.append(new, **{name: value.expand(2, *value.shape[1:]) for name, value in part.items()})
    T = torch.cat([HERE, se3.exp(K.new_tensor([[0, 0, 0.5, 0, 0, 0]]))])
    Ks = torch.cat([K, camera.scale_intrinsics(K, 1.2)])
    image = gs.render(both, T, Ks, SIZE)
    for b, part in enumerate((near, far)):
        alone = gs.render(map_of(part), T[b : b + 1], Ks[b : b + 1], SIZE)
        for name in ("color", "depth", "normal", "alpha", "index"):
            assert torch.equal(getattr(image, name)[b], getattr(alone, name)[0]), name
    assert abs(image.depth[1].max() - 1.5) < 1e-12


def test_a_disc_has_its_radius_in_pixels():
    """At 2 m; the last is cut off by `reach`."""
    for radius, pixels in ((0.001, 1), (0.05, 5), (0.075, 9), (0.085, 13), (0.1, 21), (9.9, 25)):
        one = {name: value[:, 620:621] for name, value in wall(radius=radius).items()}
        assert gs.render(map_of(one), HERE, K, SIZE).alpha.sum() == pixels


def test_depth_has_the_gradient_of_a_ray_that_meets_a_plane():
    """To the camera's pose, against central differences; the motion is too small to bring another surfel into view."""
    map_ = map_of(wall(tilt=0.3))

    def depth(xi: torch.Tensor) -> torch.Tensor:
        return gs.render(map_, se3.exp(xi) @ HERE, K, SIZE).depth[0, 10:20:3, 10:30:4, 0]

    jacobian = torch.autograd.functional.jacobian(depth, torch.zeros(6, dtype=torch.float64))
    for i in range(6):
        h = torch.zeros(6, dtype=torch.float64)
        h[i] = 1e-6
        assert torch.allclose(jacobian[..., i], (depth(h) - depth(-h)) / 2e-6, atol=1e-6)
    assert (jacobian.abs().amax((0, 1)) > 0.05).sum() >= 4


def test_gradients_reach_map_pose_and_camera_and_are_finite():
    """With surfels behind, before and beside the camera, at a grazing angle, and holes in between."""
    parts = [wall(2.0, step=3), wall(-1.0), wall(0.0), wall(1.5, tilt=1.55, step=7)]
    parts = [part | {"points": part["points"].nan_to_num(0.0)} for part in parts]
    map_ = map_of(*parts)
    leaves = {n: v.clone().requires_grad_() for n, v in map_.attributes().items() if v.is_floating_point()}
    T, camera_matrix = HERE.clone().requires_grad_(), K.clone().requires_grad_()
    image = gs.render(SurfelMap(**(map_.attributes() | leaves), count=map_.count), T, camera_matrix, SIZE)
    (image.depth.square().sum() + image.color.sum() + image.normal[..., 0].sum()).backward()
    for leaf in (leaves["points"], leaves["normals"], leaves["colors"], T, camera_matrix):
        assert leaf.grad.isfinite().all() and leaf.grad.abs().sum() > 0


def test_the_prediction_for_tracking_is_the_surfels_themselves():
    map_ = map_of(wall(2.0, tilt=0.4))
    T = se3.exp(K.new_tensor([[0.02, 0.01, -0.1, 0.01, 0.02, -0.03]]))
    surface = predict_surfels(map_, T, K, SIZE, stable_confidence=1.0)
    seen = surface.weights > 0
    assert seen.float().mean() > 0.7
    assert torch.allclose(surface.weights[seen], K.new_tensor(3.0 / 4.0))
    points = se3.transform(T, surface.vertices[seen][None])
    assert (points[0][:, None] - map_.points[0]).norm(dim=-1).amin(-1).max() < 1e-9
    assert torch.allclose(se3.rotate(T, surface.normals[seen][None]), map_.normals[:, :1])
    assert (surface.vertices[~seen] == 0).all() and (surface.normals[~seen] == 0).all()
    uv, _ = camera.project(surface.vertices.flatten(1, 2), K)
    grid = camera.pixel_grid(*SIZE, dtype=torch.float64).flatten(0, 1)
    assert ((uv - grid).abs()[:, seen.flatten()] <= 0.5 + 1e-9).all()


@pytest.mark.parametrize(
    ("T_wc", "K_", "match"),
    [(HERE[0], K, "T_wc"), (HERE, K[0], "K"), (HERE.expand(2, 4, 4), K, "T_wc"), (HERE[:, :3], K, "T_wc")],
)
def test_shapes_that_do_not_fit_are_refused(T_wc, K_, match):
    with pytest.raises(ValueError, match=match):
        gs.render(map_of(wall()), T_wc, K_, SIZE)


@pytest.mark.parametrize("spoil", ["radii", "confidences", "normals", "points"])
def test_surfels_without_extent_or_trust_have_finite_gradients(spoil):
    """Zero and negative radii and confidences, normals edge on or none, surfels at the camera and in its plane."""
    part = wall(2.0, tilt=0.3, step=2)
    value = part[spoil].clone()
    value[:, ::3] = 0
    value[:, 1::3] = torch.linalg.cross(part["points"], value)[:, 1::3] if spoil == "normals" else -value[:, 1::3]
    map_ = map_of(part | {spoil: value}, wall(2.5))
    leaves = {n: v.clone().requires_grad_() for n, v in map_.attributes().items() if v.is_floating_point()}
    T, camera_matrix = HERE.clone().requires_grad_(), K.clone().requires_grad_()
    image = gs.render(SurfelMap(**(map_.attributes() | leaves), count=map_.count), T, camera_matrix, SIZE)
    (image.depth.sum() + image.color.square().sum() + image.normal[..., 0].sum()).backward()
    assert image.alpha.mean() > 0.9
    for tensor in (image.color, image.depth, image.normal, T.grad, camera_matrix.grad):
        assert tensor.isfinite().all()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves.values())


def test_a_painted_wall_slides_in_the_gradient_as_it_does_in_the_picture():
    """Color rises to the right over surfels smaller than a pixel; the slope of the picture is that of the painting.

    Of a kernel regression over the nearest neighbors alone, hence to a factor; without the pixel's own footprint each
    pixel would see one dot and the derivative would vanish.
    """
    part = wall(2.0, radius=0.01)
    x = part["points"][..., :1]
    part["colors"] = (0.5 + 0.5 * x).expand(-1, -1, 3)
    map_ = map_of(part)

    def color(shift: torch.Tensor) -> torch.Tensor:
        return gs.render(map_, se3.exp(torch.nn.functional.pad(shift, (0, 5))), K, SIZE).color[0, 4:-4, 4:-4, 0]

    slope = torch.autograd.functional.jacobian(color, K.new_zeros(1, 1))
    assert 0.5 * 0.6 < slope.mean() < 0.5 * 1.2
