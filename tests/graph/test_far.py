"""Graphs at the coordinates of a map projection: what is solved near the origin, with its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se2, se3

D = torch.float64
UTM = {
    "2 km": [1e3, 2e3, 0.0],
    "UTM": [4.5e5, 5.3e6, 400.0],
}
GROUPS = {"SE3": (se3, optim.SE3(), 6), "SE2": (se2, optim.SE2(), 3)}
BACKWARD = ("unroll", "truncated", "implicit", "implicit-gn", "direct")
COUNT = 6
I, J = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1]), torch.tensor([1, 2, 3, 4, 5, 0, 3, 4])


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def offset(place, size: int) -> Tensor:
    """A translation (size, size), zero but for it."""
    shift = torch.zeros(size, size, dtype=D)
    shift[:-1, -1] = torch.tensor(place[: size - 1], dtype=D)
    return shift


def pose_graph(e: Tensor, shift: Tensor, group: str, far_prior: bool = False) -> gs.FactorGraph:
    """Noisy motions, which move with e (), and a start that is off; all poses moved by a shift."""
    module, variable, n = GROUPS[group]
    truth = module.exp(2 * random(0, COUNT, n))
    start = module.exp(0.05 * random(1, COUNT, n)) @ truth
    z = module.inverse(truth[I]) @ truth[J] @ module.exp(0.05 * random(2, len(I), n) + e * random(3, len(I), n))
    graph = gs.FactorGraph()
    graph.add_variables("pose", variable, start + shift)
    graph.fix("pose", [0])
    graph.add_between("pose", I, J, z, weight=optim.IsotropicWeight(0.5 + random(4, len(I)).abs()))
    if far_prior:
        graph.add_factor(lambda T: T[..., :-1, -1] - (truth[3:4] + shift)[..., :-1, -1], ("pose", [3]))
    return graph


def solve(e, shift, group, backward="unroll", far_prior=False) -> tuple[Tensor, gs.graph.GraphSolution]:
    """What of the solution does not depend on the shift, weighed to one number, and the solution."""
    solution = pose_graph(e, shift, group, far_prior).optimize(backward=backward)
    poses = solution["pose"] - shift
    return (random(5, *poses.shape) * poses).sum(), solution


def value_and_slope(shift, group, **options) -> tuple[Tensor, Tensor]:
    e = torch.zeros((), dtype=D, requires_grad=True)
    value, _ = solve(e, shift, group, **options)
    return value.detach(), torch.autograd.grad(value, e)[0]


@pytest.mark.parametrize("place", UTM)
@pytest.mark.parametrize("group", GROUPS)
def test_far_pose_graphs_are_those_near_the_origin(group, place):
    size = GROUPS[group][0].exp(torch.zeros(GROUPS[group][2], dtype=D)).shape[-1]
    near, far = offset([0.0, 0.0, 0.0], size), offset(UTM[place], size)
    for backward in BACKWARD:
        expected = value_and_slope(near, group, backward=backward)
        found = value_and_slope(far, group, backward=backward)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=f"{backward}: {found} {expected}")


@pytest.mark.parametrize("group", GROUPS)
def test_what_ties_far_poses_to_the_world_counts_as_it_does_near_the_origin(group):
    size = GROUPS[group][0].exp(torch.zeros(GROUPS[group][2], dtype=D)).shape[-1]
    near, far = offset([0.0, 0.0, 0.0], size), offset(UTM["UTM"], size)
    for backward in ("unroll", "implicit"):
        options = {"backward": backward, "far_prior": True}
        expected, found = (value_and_slope(shift, group, **options) for shift in (near, far))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, msg=f"{backward}: {found} {expected}")


def test_the_gradient_is_that_of_central_differences():
    shift = offset(UTM["UTM"], 4)
    _, slope = value_and_slope(shift, "SE3", backward="implicit")
    h = torch.tensor(1e-3, dtype=D)
    ends = [solve(sign * h, shift, "SE3")[0] for sign in (1, -1)]
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * h), slope, rtol=1e-4, atol=0)


def test_covariances_are_of_updates_about_the_origin():
    """Ad C Ad^T, Ad of the shift."""
    near, far = offset([0.0, 0, 0], 4), offset([40.0, -70.0, 5.0], 4)
    zero = torch.zeros((), dtype=D)
    expected = solve(zero, near, "SE3")[1].covariance("pose", [2, 4])
    ad = se3.adjoint(torch.eye(4, dtype=D) + far)
    for found in (
        solve(zero, far, "SE3")[1].covariance("pose", [2, 4]),
        pose_graph(zero, far, "SE3").solution_at((solve(zero, far, "SE3")[1]["pose"],)).covariance("pose", [2, 4]),
    ):
        torch.testing.assert_close(found, ad @ expected @ ad.mT, rtol=1e-6, atol=1e-9)


def test_a_batch_of_graphs_at_different_places():
    shifts = torch.stack([offset(place, 4) for place in UTM.values()])
    graph = gs.FactorGraph()
    one = pose_graph(torch.zeros((), dtype=D), offset([0.0, 0, 0], 4), "SE3")
    graph.add_variables("pose", optim.SE3(), one.values["pose"] + shifts[:, None])
    graph.fix("pose", [0])
    graph.add_between("pose", I, J, one.factors[0].residual.z, weight=one.factors[0].weight)
    found = graph.optimize()["pose"] - shifts[:, None]
    torch.testing.assert_close(found, one.optimize()["pose"].expand(2, COUNT, 4, 4), rtol=0, atol=1e-7)


@pytest.mark.parametrize("lag", [None, 3])
def test_far_smoothers_are_those_near_the_origin(lag):
    def end(shift: Tensor) -> tuple[Tensor, Tensor]:
        e = torch.zeros((), dtype=D, requires_grad=True)
        motions = se3.exp(0.5 * random(0, 7, 6) + e * random(1, 7, 6))
        smoother = gs.Smoother(torch.eye(4, dtype=D) + shift, lag=lag)
        for k, T in enumerate(motions):
            smoother.add(T, optim.IsotropicWeight(torch.ones(1, dtype=D)))
            if k > 1:
                smoother.add_loop(
                    k - 1, k + 1, se3.exp(0.8 * random(k, 6)), optim.IsotropicWeight(2 * torch.ones(1, dtype=D))
                )
        poses = smoother.smooth() - shift
        value = (random(2, *poses.shape) * poses).sum()
        return value.detach(), torch.autograd.grad(value, e)[0]

    expected, found = (end(offset(place, 4)) for place in ([0.0, 0, 0], UTM["UTM"]))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("group", GROUPS)
def test_priors_on_far_poses_are_right_or_refused(group):
    """What they say of rotations turns about the world's origin; beyond some distance that cannot be solved for."""
    module, _, n = GROUPS[group]
    size = module.exp(torch.zeros(n, dtype=D)).shape[-1]

    def value(e: Tensor, distance: float, backward: str = "implicit") -> Tensor:
        shift = offset([distance, 0, 0], size)
        graph = pose_graph(torch.zeros((), dtype=D), shift, group)
        z = graph.values["pose"][[2, 4]] - shift
        graph.add_prior("pose", [2, 4], z @ module.exp(e * random(6, 2, n)) + shift)
        poses = graph.optimize(backward=backward)["pose"] - shift
        return (random(5, *poses.shape) * poses).sum()

    e, h = torch.zeros((), dtype=D, requires_grad=True), torch.tensor(1e-4, dtype=D)
    for backward in ("unroll", "implicit"):
        slope = torch.autograd.grad(value(e, 400.0, backward), e)[0]
        torch.testing.assert_close((value(h, 400.0) - value(-h, 400.0)) / (2 * h), slope, rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="prior of 'pose': expected poses within 500 m of the world's origin"):
        value(e, 2000.0)
