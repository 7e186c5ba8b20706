"""Transforms of torch.func and forward mode through geometry: right, as reverse mode says."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.geometry import camera, images, se2, se3, so3
from gradslam_ng.geometry.lens import Lens, undistort_images, undistortion_map
from gradslam_ng.geometry.registration import register_color

D = torch.float64
COLOR = torch.rand(7, 8, 3, dtype=D, generator=torch.Generator().manual_seed(0))
K = torch.tensor([[20.0, 0, 4], [0, 20, 3], [0, 0, 1]], dtype=D)


def depth_of(x):
    return 1.0 + 0.1 * x.sin()[:1].expand(8)[None, :, None] + torch.linspace(0, 0.1, 7, dtype=D)[:, None, None]


def undistort(depth, lens):
    return undistort_images(COLOR, depth, undistortion_map(K, lens, (7, 8)))[0]


def register(depth, T_color_depth):
    return register_color(COLOR, depth, K, K, T_color_depth)[0]


FUNCTIONS = {
    "so3": lambda x: so3.log(so3.exp(x[:3]) @ so3.exp(x[3:])),
    "se3": lambda x: se3.log(se3.exp(x) @ se3.exp(x.flip(0))),
    "se3 at identity": lambda x: se3.log(se3.exp(x - x.detach())),
    "se2": lambda x: se2.log(se2.exp(x[:3]) @ se2.exp(x[3:])),
    "project": lambda x: camera.project(torch.stack([x[0], x[1], 1 + x[2] ** 2])[None], K)[0],
    "unproject": lambda x: camera.unproject(depth_of(x), K).flatten(),
    "sample": lambda x: camera.sample(depth_of(x), 1.3 + camera.pixel_grid(3, 4, dtype=D) + 0.1 * x[:2]).flatten(),
    "undistort": lambda x: undistort(depth_of(x), Lens(0.1 * x[:4])).flatten(),
    "register": lambda x: register(depth_of(x), se3.exp(0.1 * x)).flatten(),
    "normals": lambda x: images.normal_map(camera.unproject(depth_of(x), K)).flatten(),
    "bilateral": lambda x: images.bilateral_depth(depth_of(x)).flatten(),
}
X = torch.tensor([0.3, -0.2, 0.1, 0.2, 0.4, -0.3], dtype=D)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_transforms(name):
    function = FUNCTIONS[name]
    expected = torch.autograd.functional.jacobian(function, X)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(function)(X), expected, rtol=1e-10, atol=1e-12)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(X, torch.ones_like(X))
        tangent = torch.autograd.forward_ad.unpack_dual(function(dual)).tangent
    torch.testing.assert_close(tangent, expected.sum(-1), rtol=1e-10, atol=1e-12)
    many = torch.stack([X, 0.5 * X, X.flip(0)])
    torch.testing.assert_close(torch.vmap(function)(many), torch.stack([function(x) for x in many]))
    hessian = torch.autograd.functional.hessian(lambda x: function(x).square().sum(), X)
    found = torch.func.hessian(lambda x: function(x).square().sum())(X)
    torch.testing.assert_close(found, hessian, rtol=1e-9, atol=1e-11)
