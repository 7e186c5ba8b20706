"""How the gradient passes rendering: from images to the map, the camera and its pose."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.rendering import predict_surfels
from gradslam_ng.structures import SurfelMap

SIZE = (24, 32)


@pytest.fixture(scope="module")
def map_(room) -> SurfelMap:
    """Two maps of unequal size; the surfels of clean images."""
    frames = gs.RGBDFrames.stack([room.view(room.walk(2, seed), SIZE, torch.float64) for seed in (0, 1)])
    depth = frames.depth.clone()
    depth[1, :, :12] = 0
    return gs.ICPSLAM("ground-truth", factor=1)(dataclasses.replace(frames, depth=depth))[0]


@pytest.fixture(scope="module")
def view(room) -> dict[str, Tensor]:
    """Two cameras that are none of those that saw the map."""
    T_wc = torch.stack([room.walk(9, seed)[8] for seed in (0, 1)])
    return {"T_wc": T_wc, "K": room.view(T_wc, SIZE, torch.float64).K}


def test_render(differences, map_, view):
    def images(T_wc, K, **attributes) -> dict[str, Tensor]:
        seen = gs.render(dataclasses.replace(map_, **attributes), T_wc, K, SIZE)
        return {"depth": seen.depth, "normal": seen.normal, "color": seen.color}

    names = ("points", "normals", "colors", "radii", "confidences")
    inputs = view | {name: getattr(map_, name) for name in names}
    errors = differences(images, inputs, {"points": 1e-7}, directions=3)
    pairs = {(o, i) for o in ("depth", "normal", "color") for i in inputs} - {("depth", "colors"), ("normal", "colors")}
    assert pairs <= errors.keys()
    errors = sorted(errors[pair] for pair in pairs)
    assert errors[len(errors) // 2] <= 1e-6 and errors[-1] <= 1e-4, errors


def test_predict(differences, map_, view):
    def surface(T_wc, points, normals, confidences, stable) -> dict[str, Tensor]:
        map_now = dataclasses.replace(map_, points=points, normals=normals, confidences=confidences)
        seen = predict_surfels(map_now, T_wc, view["K"], SIZE, stable)
        return {"vertices": seen.vertices, "normals": seen.normals, "weights": seen.weights}

    inputs = {"T_wc": view["T_wc"], "points": map_.points, "normals": map_.normals, "confidences": map_.confidences}
    errors = differences(surface, inputs | {"stable": torch.tensor(1.0, dtype=torch.float64)}, directions=3)
    pairs = {("vertices", "T_wc"), ("vertices", "points"), ("normals", "T_wc"), ("normals", "normals")}
    assert errors.keys() == pairs | {("weights", "confidences"), ("weights", "stable")}
    assert max(errors.values()) <= 1e-7, errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_gradient_is_ever_not_a_number(map_, view, dtype):
    """From inside a wall, from behind, from far away, of an empty map, of surfels without a normal or edge on."""
    away = se3.exp(torch.tensor([[0.0, 0, 2.6, 0, 0, 0], [0, 0, 0, 0, 3.1, 0], [0, 0, -1e4, 0, 0, 0], [0] * 6]))
    T_wc = (view["T_wc"][:1] @ away.double()).to(dtype).requires_grad_()
    one = map_[0].map(lambda value: value.expand(4, *value.shape[1:]).to(dtype) if value.is_floating_point() else value)
    normals = one.normals.clone()
    normals[:, ::2] = 0
    normals[:, 1::4] = torch.nn.functional.normalize(torch.linalg.cross(one.points, one.normals), dim=-1)[:, 1::4]
    one = dataclasses.replace(one, normals=normals, count=map_.count[:1] * torch.tensor([1, 1, 1, 0]))
    leaves = [x.detach().clone().requires_grad_() for x in (one.points, one.normals, one.colors)]
    one = dataclasses.replace(one, points=leaves[0], normals=leaves[1], colors=leaves[2])
    K = view["K"][:1].expand(4, 3, 3).to(dtype).clone().requires_grad_()
    seen = gs.render(one, T_wc, K, SIZE)
    (seen.depth.sum() + seen.normal.sum() + seen.color.sum()).backward()
    for image in (seen.depth, seen.normal, seen.color):
        assert image.isfinite().all()
    for x in (T_wc, K, *leaves):
        assert x.grad.isfinite().all()
