"""What is in `parameters()` is what is used: every one set, substituted, assigned, loaded and copied."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch
from torch import nn

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.mapping import PointFuser
from gradslam_ng.odometry import ProjectiveICP

D = torch.float64


def P(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=D))


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = P(0.002)

    def forward(self, surface, color):
        return self.slope * (0.5 + surface.vertices[..., 2]) ** 2


@pytest.fixture(scope="module")
def clip(room):
    frames = room.view(room.walk(7)[::6], (24, 32), D)
    noise = torch.randn(frames.depth.shape, generator=torch.Generator().manual_seed(0), dtype=D)
    return dataclasses.replace(frames, depth=frames.depth + 0.002 * noise)


def build() -> gs.PointFusion:
    strategy = optim.SoftLevenbergMarquardt(damping=P(1e-2), error_noise=P(1e-3), temperature=P(0.5))
    odometry = ProjectiveICP(
        strategy, iterations=(1, 2), association_window=3, max_distance=P(0.1), kernel_width=P(4.685),
        association_sigma=P(0.5), registration_sigma=P(0.5),
    )  # fmt: skip
    mapper = PointFuser(sigma=P(0.6), stable_confidence=P(1.0))
    return gs.PointFusion(odometry, mapper=mapper, noise=Noise(), factor=1)


NAMES = [name for name, _ in build().named_parameters()]


def last_pose(slam, clip, parameters=None):
    return (slam(clip) if parameters is None else torch.func.functional_call(slam, parameters, (clip,)))[1][0, -1]


def test_all_are_registered_and_all_ways_of_giving_them_agree(clip):
    assert len(NAMES) == 10
    slam = build()
    usual = last_pose(slam, clip).detach()
    own = {name: p.detach() for name, p in slam.named_parameters()}
    given = {name: 1.05 * p for name, p in own.items()}
    for name in NAMES:
        assert not torch.equal(last_pose(slam, clip, own | {name: given[name]}), usual), name
    expected = last_pose(slam, clip, given)
    assert torch.equal(last_pose(slam, clip), usual)
    changed, assigned, loaded = build(), build(), build()
    for name in NAMES:
        where, _, key = name.rpartition(".")
        changed.get_parameter(name).data.copy_(given[name])
        setattr(assigned.get_submodule(where), key, nn.Parameter(given[name]))
    loaded.load_state_dict(given, assign=True)
    for other in (changed, assigned, loaded):
        torch.testing.assert_close(last_pose(other, clip), expected, rtol=0, atol=1e-13)


def test_substituted_parameters_get_the_gradient_of_their_own(clip):
    """Which `test_gradients.py` holds to central differences."""
    slam = build()
    last_pose(slam, clip).sum().backward()
    other = build()
    given = {name: p.detach().clone().requires_grad_() for name, p in other.named_parameters()}
    last_pose(other, clip, given).sum().backward()
    for name, p in slam.named_parameters():
        assert given[name].grad.any(), name
        torch.testing.assert_close(given[name].grad, p.grad, rtol=1e-9, atol=1e-15)
    assert all(p.grad is None for p in other.parameters())


def test_copies_and_conversions_hold_what_they_use(clip):
    slam = build()
    usual = last_pose(slam, clip)
    for other in (copy.deepcopy(slam), pickle.loads(pickle.dumps(slam))):
        assert [name for name, _ in other.named_parameters()] == NAMES
        assert torch.equal(last_pose(other, clip), usual)
    replica = slam.odometry._replicate_for_data_parallel()  # as `nn.DataParallel`: tensors in place of parameters
    for key, p in slam.odometry.named_parameters(recurse=False):
        setattr(replica, key, 1.0 * p)
    assert replica.kernel_width == slam.odometry.kernel_width and replica.kernel_width.grad_fn is not None
    other = copy.deepcopy(slam)
    other.odometry.strategy.damping.data.fill_(1.0)
    assert not torch.equal(last_pose(other, clip), usual) and torch.equal(last_pose(slam, clip), usual)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        other.float()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    assert other.odometry.strategy.damping.dtype == other.odometry.kernel_width.dtype == torch.float32


def test_a_strategy_with_a_parameter_may_be_given_later():
    slam = gs.PointFusion()
    assert not list(slam.parameters())
    slam.odometry.strategy = dataclasses.replace(slam.odometry.strategy, temperature=P(0.1))
    slam.odometry.strategy.damping = P(1e-3)
    slam.odometry.kernel_width = P(4.0)
    assert {name for name, _ in slam.named_parameters()} == {
        "odometry.kernel_width", "odometry.strategy.damping", "odometry.strategy.temperature",
    }  # fmt: skip
    assert slam.odometry.settings.kernel_width is slam.odometry.kernel_width


@pytest.mark.parametrize("name", ["max_angle", "min_overlap", "max_step", "row_stride", "iterations", "photometric"])
def test_settings_without_a_gradient_refuse_parameters(name):
    with pytest.raises(TypeError, match=f"{name}: expected a number, got"):
        ProjectiveICP(**{name: P(1.0)})
    with pytest.raises(TypeError, match=f"{name}: expected a number, got"):
        setattr(ProjectiveICP(), name, P(1.0))


def test_parameters_that_nothing_would_use_are_refused():
    odometry = ProjectiveICP()
    refused = {
        "temperature: expected to be assigned to the strategy": lambda: setattr(odometry, "temperature", P(0.1)),
        "kernel_widht: expected one of": lambda: setattr(odometry, "kernel_widht", P(1.0)),
        "max_distance: .* association_window=1": lambda: setattr(odometry, "max_distance", P(1.0)),
        "registration_sigma: .* photometric": lambda: ProjectiveICP(photometric=False, registration_sigma=P(1.0)),
        "damping: expected no parameter": lambda: setattr(optim.GaussNewton(), "damping", P(1.0)),
        "relinearize: expected a number": lambda: optim.SoftLevenbergMarquardt(relinearize=P(1.0)),
        "strategy: expected a module": lambda: ProjectiveICP(object()),
    }
    for message, give in refused.items():
        with pytest.raises(TypeError, match=message):
            give()
    for value in (-1.0, None, P(-1.0)):
        with pytest.raises(ValueError, match="kernel_width: expected more than 0"):
            odometry.kernel_width = value


PARTS = {
    "huber": lambda: optim.Huber(P(0.5)),
    "cauchy": lambda: optim.Cauchy(P(0.5)),
    "geman-mcclure": lambda: optim.GemanMcClure(P(0.5)),
    "tukey": lambda: optim.Tukey(P(4.0)),
    "barron": lambda: optim.Barron(P(0.5), P(0.3)),
    "isotropic": lambda: optim.IsotropicWeight(nn.Parameter(torch.full((3,), 0.7, dtype=D))),
    "diagonal": lambda: optim.DiagonalWeight(nn.Parameter(torch.full((3, 2), 0.7, dtype=D))),
    "full": lambda: optim.FullWeight(nn.Parameter(torch.eye(2, dtype=D).expand(3, 2, 2).clone())),
}


class Fit(nn.Module):
    def __init__(self, part) -> None:
        super().__init__()
        self.part = part

    def forward(self):
        z = torch.tensor([[1.0, 0.2], [-0.5, 0.4], [0.3, 2.0]], dtype=D)
        kinds = (optim.IsotropicWeight, optim.DiagonalWeight, optim.FullWeight)
        role = "weight" if isinstance(self.part, kinds) else "kernel"
        cost = optim.Cost(lambda x: x.sin() - z, **{role: self.part})
        problem = optim.LeastSquares([cost, optim.Cost(lambda x: 0.1 * x[None])], optim.Euclidean())
        return optim.solve(problem, torch.zeros(2, dtype=D), optim.GaussNewton(), 8).x.sum()


@pytest.mark.parametrize("part", PARTS)
def test_kernels_and_weights_are_modules(part):
    fit = Fit(PARTS[part]())
    names = [name for name, _ in fit.named_parameters()]
    assert names and all(name.startswith("part.") for name in names)
    for name in names:
        parameters = {key: p.detach().clone().requires_grad_() for key, p in fit.named_parameters()}
        gradient = torch.autograd.grad(torch.func.functional_call(fit, parameters, ()), parameters[name])[0]
        direction = torch.ones_like(gradient)
        ends = []
        for h in (1e-6, -1e-6):
            moved = copy.deepcopy(fit)
            values = {k: p + (h * direction if k == name else 0) for k, p in parameters.items()}
            moved.load_state_dict(values, assign=True)
            ends.append(moved())
        assert abs((gradient * direction).sum() - (ends[0] - ends[1]) / 2e-6) < 1e-6, name
        assert gradient.any()
