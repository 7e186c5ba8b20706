"""Smoothing: the window against the whole, and what it can refuse; learning through it."""

from __future__ import annotations

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se3
from gradslam_ng.graph import negative_log_likelihood
from gradslam_ng.optim import DiagonalWeight, IsotropicWeight


def walk(count: int, noise: float = 0.02):
    """True poses, noisy motions one and two ahead."""
    generator = torch.Generator().manual_seed(0)
    steps = 0.3 * torch.randn(count - 1, 6, generator=generator, dtype=torch.float64)
    truth = [torch.eye(4, dtype=torch.float64)]
    for step in se3.exp(steps):
        truth.append(truth[-1] @ step)
    truth = torch.stack(truth)

    def measured(in_front: int):
        z = se3.inverse(truth[:-in_front]) @ truth[in_front:]
        return z @ se3.exp(noise * torch.randn(len(z), 6, generator=generator, dtype=torch.float64))

    return truth, measured(1), measured(2)


def smoothed(odometry, skips, lag=None, first=None, scale=50.0):
    smoother = gs.Smoother(torch.eye(4, dtype=torch.float64) if first is None else first, lag=lag)
    scale = torch.as_tensor(scale, dtype=torch.float64)
    weight = DiagonalWeight(scale[None]) if scale.ndim else IsotropicWeight(scale[None])
    for k, T in enumerate(odometry):
        smoother.add(T, weight)
        if k:
            smoother.add_loop(k - 1, k + 1, skips[k - 1], weight)
    return smoother


def test_batch_smoothing_is_the_factor_graph():
    truth, odometry, skips = walk(20)
    smoother = smoothed(odometry, skips)
    drift = torch.stack(smoother.poses)
    found = smoother.smooth()
    graph = gs.FactorGraph()
    graph.add_variables("pose", optim.SE3(), drift)
    graph.fix("pose", [0])
    k = torch.arange(19)
    graph.add_between("pose", k, k + 1, odometry, weight=IsotropicWeight(torch.full((19,), 50.0).double()))
    graph.add_between("pose", k[:-1], k[:-1] + 2, skips, weight=IsotropicWeight(torch.full((18,), 50.0).double()))
    torch.testing.assert_close(found, graph.optimize()["pose"], atol=1e-6, rtol=0)
    assert (found[-1] - truth[-1]).norm() < (drift[-1] - truth[-1]).norm()


def test_a_window_knows_nearly_as_much_as_the_whole():
    truth, odometry, skips = walk(25)
    whole = smoothed(odometry, skips).smooth()
    last = {lag: smoothed(odometry, skips, lag).smooth() for lag in (4, 10)}
    for found in last.values():
        assert found.shape == (25, 4, 4)
        # past marginals the last pose, which has seen everything, is that of the whole but for linearization
        torch.testing.assert_close(found[-1], whole[-1], atol=5e-3, rtol=0)
    error = {lag: (found - truth).norm(dim=(-2, -1)).mean() for lag, found in last.items()}
    assert error[10] < 1.05 * error[4]


def test_a_linear_problem_loses_nothing_in_the_window():
    """Translations between frames that are known not to turn: marginals are exact, and so is the last pose."""
    generator = torch.Generator().manual_seed(1)
    t = torch.randn(2, 15, 3, generator=generator, dtype=torch.float64)
    odometry, skips = (torch.eye(4, dtype=torch.float64).repeat(15, 1, 1) for _ in range(2))
    odometry[:, :3, 3] = t[0]
    skips[:14, :3, 3] = t[0, :-1] + t[0, 1:] + 0.1 * t[1, :-1]
    scale = [5.0] * 3 + [1e4] * 3
    whole, window = (smoothed(odometry, skips, lag, scale=scale).smooth() for lag in (None, 4))
    torch.testing.assert_close(window[-1], whole[-1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("lag", [None, 5])
def test_gradients_to_motions_weights_and_the_first_pose(lag):
    _, odometry, skips = walk(9, noise=0.05)
    first, scale = torch.zeros(6, dtype=torch.float64), torch.tensor(50.0, dtype=torch.float64)
    moves, bend = torch.zeros(8, 6, dtype=torch.float64), torch.zeros(7, 6, dtype=torch.float64)
    inputs = [first, moves, bend]
    weight = torch.linspace(-1, 1, 9 * 16, dtype=torch.float64).reshape(9, 4, 4)

    def end(first, moves, bend):
        smoother = smoothed(odometry @ se3.exp(moves), skips @ se3.exp(bend), lag, se3.exp(first), scale)
        smoother.strategy, smoother.iterations = optim.GaussNewton(), 6
        return (smoother.smooth() * weight).sum()

    inputs = [x.clone().requires_grad_() for x in inputs]
    gradients = torch.autograd.grad(end(*inputs), inputs)
    generator = torch.Generator().manual_seed(0)
    for k, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        ends = []
        for h in (1e-5, -1e-5):
            moved = [x.detach() + (h * direction if k == m else 0) for m, x in enumerate(inputs)]
            ends.append(end(*moved))
        numeric = (ends[0] - ends[1]) / 2e-5
        assert abs((gradient * direction).sum() - numeric) < 1e-5 * abs(numeric) + 1e-7


def test_what_has_left_is_refused():
    _, odometry, skips = walk(12)
    smoother = smoothed(odometry, skips, lag=4)
    with pytest.raises(ValueError, match="expected poses 8 to 11, got 2"):
        smoother.add_loop(2, 11, odometry[0])
    with pytest.raises(ValueError, match="lag: expected at least 2"):
        gs.Smoother(torch.eye(4), lag=1)
    with pytest.raises(ValueError, match="T_0: expected"):
        gs.Smoother(torch.eye(3))
    assert gs.Smoother(torch.eye(4)).smooth().shape == (1, 4, 4)


def noisy_positions(log_sigma, good, z, truth):
    graph = gs.FactorGraph()
    graph.add_variables("x", optim.Euclidean(), torch.zeros_like(truth))
    k = torch.arange(truth.shape[-2])
    sigma = torch.where(good, log_sigma[0], log_sigma[1]).exp()
    graph.add_prior("x", k, z, weight=IsotropicWeight(1 / sigma))
    steady = truth.new_full((*truth.shape[:-2], len(k) - 1), 10.0)
    graph.add_factor(lambda a, b: b - a, ("x", k[:-1]), ("x", k[1:]), weight=IsotropicWeight(steady))
    return graph


@pytest.mark.parametrize("loss", ["surrogate", "likelihood"])
def test_noise_is_learned(loss):
    """Positions of something that hardly moves, one in three far off: the two standard deviations come out."""
    generator = torch.Generator().manual_seed(0)
    truth = 0.1 * torch.randn(8, 30, 2, generator=generator, dtype=torch.float64).cumsum(-2)
    good = torch.rand(8, 30, generator=generator) > 0.3
    z = truth + torch.where(good, 0.1, 1.0)[..., None] * torch.randn(8, 30, 2, generator=generator, dtype=torch.float64)
    log_sigma = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_sigma], 0.1)
    for _ in range(60):
        graph = noisy_positions(log_sigma, good, z, truth)
        if loss == "surrogate":
            value = gs.surrogate_loss(graph, {"x": truth}, steps=1).mean()
        else:
            value = negative_log_likelihood(graph, {"x": truth}).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    if loss == "likelihood":
        torch.testing.assert_close(log_sigma.detach().exp(), torch.tensor([0.1, 1.0]).double(), rtol=0.1, atol=0)
    assert log_sigma[1] - log_sigma[0] > 1.0


def test_surrogate_loss_is_zero_for_perfect_measurements(rings):
    scene = rings.make(noise=0.0)
    graph = rings.graph(scene)
    assert float(gs.surrogate_loss(graph, {"x": scene.truth}, steps=3)) < 1e-20
    with pytest.raises(ValueError, match="expected some of x, got 'y'"):
        gs.surrogate_loss(graph, {"y": scene.truth})
    with pytest.raises(ValueError, match="steps"):
        gs.surrogate_loss(graph, {"x": scene.truth}, steps=0)


def still_smoother(pairs, lag, batch=(), noise=0.1, T_0=None):
    """A smoother of eight poses known not to turn, which makes its problem linear, with loops (i, j) as measured."""
    generator = torch.Generator().manual_seed(2)

    def measured(distance):
        T = torch.eye(4, dtype=torch.float64).repeat(*batch, 1, 1)
        T[..., 0, 3] = distance
        T[..., :3, 3] += noise * torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
        return T

    weight = DiagonalWeight(torch.tensor([[5.0] * 3 + [1e4] * 3], dtype=torch.float64))
    start = torch.eye(4, dtype=torch.float64) if T_0 is None else T_0
    smoother = gs.Smoother(start, lag=lag, strategy=optim.GaussNewton(), iterations=3)
    odometry, loops = [measured(1.0) for _ in range(7)], [measured(float(j - i)) for i, j in pairs]
    for k, T in enumerate(odometry):
        smoother.add(T, weight)
        for (i, j), T_ij in zip(pairs, loops, strict=True):
            if max(i, j) == k + 1:
                smoother.add_loop(i, j, T_ij, weight)
    return smoother


WINDOW_PAIRS = [(0, 2), (0, 3), (1, 3), (1, 4), (2, 5), (3, 0), (5, 2)]


@pytest.mark.parametrize("pair", WINDOW_PAIRS)
def test_a_loop_between_any_two_poses_of_a_window_is_that_of_the_whole(pair):
    whole, window = (still_smoother([pair], lag).smooth() for lag in (None, 4))
    torch.testing.assert_close(window[-1], whole[-1], atol=1e-6, rtol=0)


def test_all_loops_of_a_window_in_a_batch():
    whole, window = (still_smoother(WINDOW_PAIRS, lag, batch=(3,)).smooth() for lag in (None, 4))
    assert window.shape == (3, 8, 4, 4)
    torch.testing.assert_close(window[:, -1], whole[:, -1], atol=1e-6, rtol=0)
    assert (window[0] - window[1]).abs().max() > 0.01


def test_gradient_through_a_loop_whose_first_pose_has_left():
    first = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    found = {lag: still_smoother([(0, 3), (1, 4), (2, 5)], lag, (2,), T_0=se3.exp(first)) for lag in (None, 4)}
    gradients = {lag: torch.autograd.grad(x.smooth()[:, -1, 0, 3].sum(), first)[0] for lag, x in found.items()}
    torch.testing.assert_close(gradients[4], gradients[None], atol=1e-5, rtol=0)
    assert torch.allclose(gradients[4][:, 0], torch.ones(2, dtype=torch.float64), atol=1e-6)


def test_an_edge_that_says_nothing_leaves_a_window_finite():
    smoother = gs.Smoother(torch.eye(4, dtype=torch.float64), lag=3)
    for k in range(6):
        smoother.add(torch.eye(4, dtype=torch.float64), IsotropicWeight(torch.full((1,), float(k != 2)).double()))
    assert smoother.smooth().isfinite().all()


def test_a_loop_that_is_none_is_refused():
    smoother = still_smoother([], 4)
    with pytest.raises(ValueError, match="loop: expected two poses, got 6 twice"):
        smoother.add_loop(6, 6, torch.eye(4).double())
    with pytest.raises(ValueError, match="T_ij: expected"):
        smoother.add_loop(5, 6, torch.eye(3).double())
    with pytest.raises(ValueError, match="T_ij: expected"):
        smoother.add(torch.zeros(6))


def test_what_is_no_motion_and_what_is_of_another_precision_is_refused():
    with pytest.raises(ValueError, match="T_0: expected elements of SE3"):
        gs.Smoother(torch.zeros(4, 4))
    smoother = gs.Smoother(torch.eye(4))
    smoother.add(torch.eye(4))
    for T_ij, message in ((2 * torch.eye(4), "elements of SE3"), (torch.eye(4).double(), "float32 .*got torch.float64"),
                          (torch.eye(3), r"expected \(\.\.\., 4, 4\)"), (torch.eye(4) / 0, "finite")):  # fmt: skip
        with pytest.raises(ValueError, match=f"T_ij: .*{message}"):
            smoother.add(T_ij)
        with pytest.raises(ValueError, match=f"T_ij: .*{message}"):
            smoother.add_loop(0, 1, T_ij)
    assert len(smoother) == 2
