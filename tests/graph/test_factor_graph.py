"""Factor graphs: every kind of unknown and factor, sparse against dense, ways back, and graphs that make no sense."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import se2, se3, so3
from gradslam_ng.graph import graph_problem as graph_module
from gradslam_ng.graph import residuals
from gradslam_ng.graph.gnc import graduated_non_convexity
from gradslam_ng.graph.information import square_root
from gradslam_ng.optim import DiagonalWeight, FullWeight, IsotropicWeight

RULES = [optim.GaussNewton(), optim.LevenbergMarquardt(damping=1e-3), optim.SoftLevenbergMarquardt()]


def moved_away(scene, x):
    return scene.variable.local(scene.truth, x).norm(dim=-1)


@pytest.mark.parametrize("kind", ["SE(3)", "SE(2)", "SO(3)", "Euclidean"])
@pytest.mark.parametrize("strategy", RULES, ids=["gn", "lm", "soft"])
def test_noise_free_measurements_give_the_truth(rings, kind, strategy):
    scene = rings.make(kind, noise=0.0)
    graph = rings.graph(scene)
    graph.add_prior("x", [0], scene.truth[:1], weight=IsotropicWeight(torch.full((1,), 10.0, dtype=torch.float64)))
    solution = graph.optimize(strategy, iterations=100)
    assert bool(solution.solution.converged) and float(moved_away(scene, solution["x"]).max()) < 1e-4
    assert float(solution.error) < 1e-8


@pytest.mark.parametrize("kind", ["SE(3)", "SE(2)", "SO(3)", "Euclidean"])
def test_jacobians_are_those_of_forward_differentiation(rings, kind):
    scene = rings.make(kind, noise=0.3)
    graph = rings.graph(scene)
    graph.add_prior("x", [3, 4], scene.truth[3:5])
    automatic = gs.FactorGraph()
    automatic.add_variables("x", scene.variable, scene.start)
    for factor in graph.factors:
        automatic.add_factor(lambda *x, f=factor: f.residual(*x), *factor.keys, weight=factor.weight)
    for mine, other in zip(graph.linearize(graph.initial), automatic.linearize(graph.initial), strict=True):
        mine, other = (m.dense() if isinstance(m, optim.BlockSparse) else m for m in (mine, other))
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("kind", ["SE(3)", "SE(2)", "SO(3)", "Euclidean"])
def test_gradient_alone_is_that_of_the_normal_equations(rings, kind, batch):
    """With every kind of weight, a kernel and a residual without Jacobians; and so is what it depends on."""
    scene = rings.make(kind, n=9, batch=batch)
    found = []
    for way in (lambda graph, x: graph.linearize(x)[1:], lambda graph, x: graph.gradient(x)):
        leaves = [leaf.clone().requires_grad_() for leaf in (scene.z, scene.W, scene.start)]
        z, W, start = leaves
        graph = rings.graph(scene, z, W, kernel=optim.Cauchy(2.0), start=start)
        graph.add_between("x", scene.i, scene.j, z, weight=DiagonalWeight(W.diagonal(dim1=-2, dim2=-1)))
        graph.add_prior("x", [3, 4], scene.truth.narrow(len(batch), 3, 2), weight=IsotropicWeight(W[..., :2, 0, 0]))
        plain = graph.factors[0].residual
        graph.add_factor(lambda *x, f=plain: f(*x), ("x", scene.i), ("x", scene.j), kernel=optim.Huber(0.3))
        g, error = way(graph, graph.initial)
        weight = torch.linspace(-1, 1, g.numel(), dtype=g.dtype).reshape(g.shape)
        first = torch.autograd.grad((g * weight).sum() + error.sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(f.square().sum() for f in first), leaves)
        found.append((g, error, *first, *second))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-8 * float(other.abs().max()))


def test_dense_and_sparse_equations_agree(rings, monkeypatch):
    scene = rings.make(n=12)
    for batch_scene in (scene, rings.make(n=12, batch=(3,))):
        solved = []
        for limit in (0, 1000):
            monkeypatch.setattr(graph_module, "DENSE_UP_TO", limit)
            solution = rings.graph(batch_scene).optimize(optim.LevenbergMarquardt())
            assert isinstance(solution.solution.H, torch.Tensor) == (limit > 0)
            solved.append((solution["x"], solution.error, solution.covariance("x", [0, 3, 7])))
        for a, b in zip(*solved, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
        assert (solved[0][2][..., 0, :, :] == 0).all()  # held: nothing else ties the graph down


def test_a_batch_is_solved_like_each_graph_alone(rings):
    scene = rings.make(batch=(2,))
    together = rings.graph(scene).optimize()["x"]
    for b in range(2):
        alone = gs.FactorGraph()
        alone.add_variables("x", scene.variable, scene.start[b])
        alone.add_between("x", scene.i, scene.j, scene.z[b], weight=FullWeight(scene.W[b]))
        torch.testing.assert_close(alone.optimize()["x"], together[b], rtol=1e-6, atol=1e-7)


def test_covariances_are_the_spread_of_solutions(rings):
    """A chain of three: the covariance of its end is that of sums of independent steps."""
    graph = gs.FactorGraph()
    graph.add_variables("x", optim.Euclidean(), torch.zeros(3, 2, dtype=torch.float64))
    sigma = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)
    graph.add_between("x", [0, 1], [1, 2], torch.ones(2, 2, dtype=torch.float64), weight=DiagonalWeight(1 / sigma))
    graph.add_prior(
        "x", [0], torch.zeros(1, 2, dtype=torch.float64), weight=IsotropicWeight(torch.tensor([2.0]).double())
    )
    found = graph.optimize().covariance("x", [2, 0])
    torch.testing.assert_close(found[0], (0.25 + sigma.square().sum(0)).diag())
    torch.testing.assert_close(found[1], torch.eye(2, dtype=torch.float64) / 4)


BACKWARD = ("unroll", "truncated", "implicit", "implicit-gn", "direct")


@pytest.mark.parametrize("n", [8, 25], ids=["dense", "sparse"])
@pytest.mark.parametrize("backward", BACKWARD)
def test_ways_back_agree(rings, backward, n):
    """With the truth of noise-free measurements all are exact; with noise all but implicit-gn."""
    gradients = {}
    for noise in (0.0, 0.05):
        scene = rings.make(n=n, noise=noise)
        weight = torch.linspace(-1, 1, n * 16, dtype=torch.float64).reshape(n, 4, 4)
        for mode in ("unroll", backward):
            xi = torch.zeros(len(scene.i), 6, dtype=torch.float64, requires_grad=True)
            graph = rings.graph(scene, scene.z @ se3.exp(xi), W := scene.W.clone().requires_grad_())
            solution = graph.optimize(optim.GaussNewton(), iterations=12, tolerance=None, backward=mode)
            (solution["x"] * weight).sum().backward()
            gradients[mode] = torch.cat([xi.grad.flatten(), W.grad.flatten()])
        difference = (gradients[backward] - gradients["unroll"]).norm() / gradients["unroll"].norm()
        assert difference < (6e-2 if backward == "implicit-gn" and noise else 1e-5)


@pytest.mark.parametrize("n", [8, 25], ids=["dense", "sparse"])
def test_exact_implicit_gradient_against_central_differences(rings, n):
    scene = rings.make(n=n, noise=0.1)
    weight = torch.linspace(-1, 1, n * 16, dtype=torch.float64).reshape(n, 4, 4)
    start = rings.graph(scene).optimize(tolerance=1e-15)["x"].detach()

    def end(W, backward="detach"):
        graph = rings.graph(scene, W=W, kernel=optim.Cauchy(6.0), start=start)
        return (graph.optimize(optim.GaussNewton(), 25, tolerance=None, backward=backward)["x"] * weight).sum()

    W = scene.W.clone().requires_grad_()
    gradient = torch.autograd.grad(end(W, "implicit"), W)[0]
    for seed in range(3):
        direction = torch.randn(W.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scene.W
        h = 1e-4
        numeric = (8 * (end(scene.W + h * direction) - end(scene.W - h * direction))
                   - (end(scene.W + 2 * h * direction) - end(scene.W - 2 * h * direction))) / (12 * h)  # fmt: skip
        assert abs(float((gradient * direction).sum() - numeric)) < 1e-6 * abs(float(numeric)) + 1e-12


def test_noise_from_a_module_learns(rings):
    """The gradient of an error after optimization raises the weight of good edges over that of bad ones."""
    scene = rings.make("SE(2)", noise=0.02)
    bad = torch.arange(len(scene.i)) % 4 == 3
    z = torch.where(bad[:, None, None], scene.z @ se2.exp(0.5 * torch.randn(len(bad), 3, dtype=torch.float64)), scene.z)
    log_weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def weight():
        return log_weight.exp()[bad.long()]

    graph = gs.FactorGraph()
    graph.add_variables("x", scene.variable, scene.truth)
    graph.add_between("x", scene.i, scene.j, z, weight=IsotropicWeight(weight))
    solution = graph.optimize(optim.GaussNewton(), iterations=20, backward="implicit")
    scene.variable.local(scene.truth, solution["x"]).square().sum().backward()
    assert float(log_weight.grad[1]) > 0 > float(log_weight.grad[0])


def test_residuals_of_each_kind_vanish_at_the_truth_and_solve():
    """Keyframes seen through points, planes and pixels, started off the truth."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    T = se3.exp(0.2 * random(4, 6))
    T = T @ se3.inverse(T[:1])
    p_w = random(40, 3) + torch.tensor([0.0, 0, 5.0])
    start = se3.exp(0.03 * torch.cat([torch.zeros(1, 6), random(3, 6)])) @ T

    i, j = torch.randint(0, 4, (200,), generator=generator), torch.randint(1, 4, (200,), generator=generator)
    j = (i + j) % 4
    pick = torch.randint(0, 40, (200,), generator=generator)
    p_i, p_j = (residuals._transform_point(se3.inverse(T[k]), p_w[pick]) for k in (i, j))
    n_j = torch.nn.functional.normalize(random(200, 3), dim=-1)
    graph = gs.FactorGraph()
    graph.add_variables("pose", optim.SE3(), start)
    graph.add_factor(residuals.PointToPlane(p_i, p_j, n_j), ("pose", i), ("pose", j))
    torch.testing.assert_close(graph.optimize()["pose"], T, atol=1e-6, rtol=0)
    plain = gs.FactorGraph()
    plain.add_variables("pose", optim.SE3(), start)
    plain.add_factor(lambda a, b: residuals.PointToPlane(p_i, p_j, n_j)(a, b), *graph.factors[0].keys)
    torch.testing.assert_close(plain.linearize(plain.initial)[0], graph.linearize(graph.initial)[0])

    K = torch.tensor([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]], dtype=torch.float64)
    camera, point = torch.arange(4).repeat_interleave(40), torch.arange(40).repeat(4)
    p_c = residuals._transform_point(se3.inverse(T[camera]), p_w[point])
    uv = (K @ p_c[..., None])[..., 0]
    bundle = gs.FactorGraph()
    bundle.add_variables("pose", optim.SE3(), start)
    bundle.add_variables("point", optim.Euclidean(), p_w + 0.05 * random(40, 3))
    bundle.add_factor(residuals.Reprojection(uv[:, :2] / uv[:, 2:], K), ("pose", camera), ("point", point))
    bundle.fix("pose", [0])
    bundle.add_factor(
        lambda a, b: (se3.inverse(a) @ b)[..., :3, 3] - (se3.inverse(T[0]) @ T[1])[:3, 3], ("pose", [0]), ("pose", [1])
    )
    solution = bundle.optimize()
    torch.testing.assert_close(solution["pose"], T, atol=1e-5, rtol=0)
    torch.testing.assert_close(solution["point"], p_w, atol=1e-4, rtol=0)


def test_velocities():
    v = torch.tensor([0.3, 0.0, 0.1, 0.0, 0.2, 0.0], dtype=torch.float64)
    T = se3.exp(torch.arange(6, dtype=torch.float64)[:, None] * 0.5 * v)
    graph = gs.FactorGraph()
    graph.add_variables("pose", optim.SE3(), T.clone())
    graph.add_variables("velocity", optim.Euclidean(), torch.zeros(5, 6, dtype=torch.float64))
    k, dt = torch.arange(5), torch.full((5,), 0.5, dtype=torch.float64)
    graph.add_factor(residuals.Velocity(dt), ("pose", k), ("pose", k + 1), ("velocity", k))
    graph.add_factor(residuals.ConstantVelocity(), ("pose", k[:4]), ("pose", k[:4] + 1), ("pose", k[:4] + 2))
    graph.add_prior("pose", [0, 5], T[[0, 5]])
    solution = graph.optimize()
    torch.testing.assert_close(solution["velocity"], v.expand(5, 6), atol=1e-6, rtol=0)
    torch.testing.assert_close(solution["pose"], T, atol=1e-6, rtol=0)


def test_an_alignment_weighs_as_its_normal_equations_say():
    """ICP's H is of an update of T_ij from the left, `Between` measures from the right: the same cost either way."""
    generator = torch.Generator().manual_seed(0)
    A, xi, delta = (torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((3, 8, 6), (3, 6), (3, 6)))
    H, T_ij = 1e4 * A.mT @ A, se3.exp(xi)
    delta = 1e-4 * delta
    r = residuals.Between(se3, T_ij)(torch.eye(4, dtype=torch.float64).expand(3, 4, 4), se3.exp(delta) @ T_ij)
    cost = FullWeight(square_root(H) @ se3.adjoint(T_ij))(r[..., None]).square().sum((-2, -1))
    torch.testing.assert_close(cost, (delta[:, None] @ H @ delta[..., None]).flatten(), rtol=1e-3, atol=0)


def test_memory_of_the_gradient_is_linear_in_edges_and_free_of_iterations(rings):
    """What "implicit-gn" keeps for the backward pass, in bytes."""

    def kept(n: int, iterations: int) -> int:
        scene, sizes = rings.make(n=n), {}

        def pack(x: torch.Tensor) -> torch.Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            graph = rings.graph(scene, scene.z.clone().requires_grad_(), scene.W.clone().requires_grad_())
            graph.optimize(optim.GaussNewton(), iterations, tolerance=None, backward="implicit-gn")
        return sum(sizes.values())

    small, large, longer = kept(100, 3), kept(400, 3), kept(100, 9)
    assert large < 4.4 * small and longer < 1.1 * small


def test_switches_turn_off_false_loops(rings):
    scene = rings.make(n=40, noise=0.01)
    wrong = torch.tensor([3, 20]), torch.tensor([30, 8])
    graph = rings.graph(scene)
    z = se3.exp(torch.ones(2, 6, dtype=torch.float64))
    plain = float(moved_away(scene, rings.graph(scene).optimize()["x"]).max())
    switches = graph.add_switched(
        residuals.Between(se3, z),
        ("x", wrong[0]),
        ("x", wrong[1]),
        weight=IsotropicWeight(torch.full((2,), 50.0).double()),
        cost=5.0,
    )
    solution = graph.optimize()
    assert float(solution[switches].abs().max()) < 0.1
    true = rings.graph(scene)
    on = true.add_switched(residuals.Between(se3, scene.z[-2:]), ("x", scene.i[-2:]), ("x", scene.j[-2:]), cost=5.0)
    assert float(true.optimize()[on].min()) > 0.95
    held = scene.variable.local(rings.graph(scene).optimize()["x"], solution["x"]).norm(dim=-1).max()
    assert float(held) < 0.05 + 0.1 * plain


def test_graph_without_factors_is_its_own_solution():
    T = se3.exp(torch.ones(3, 6, dtype=torch.float64))
    graph = gs.FactorGraph()
    graph.add_variables("x", optim.SE3(), T)
    solution = graph.optimize()
    torch.testing.assert_close(solution["x"], T, rtol=0, atol=0)
    assert float(solution.error) == 0
    with pytest.raises(ValueError, match="no variables"):
        gs.FactorGraph().ordering  # noqa: B018


def test_one_unknown():
    z = so3.exp(torch.tensor([[0.5, 0.2, -3.0]], dtype=torch.float64))
    graph = gs.FactorGraph()
    graph.add_variables("x", optim.SO3(), torch.eye(3, dtype=torch.float64)[None])
    graph.add_prior("x", [0], z)
    torch.testing.assert_close(graph.optimize()["x"], z)


def test_parts_that_nothing_ties_down_keep_their_first_pose(rings):
    scene = rings.make(n=10, noise=0.02)
    graph = gs.FactorGraph()
    twice = torch.cat([scene.start, scene.start])
    graph.add_variables("x", optim.SE3(), twice)
    i, j = (torch.cat([k, k + 10]) for k in (scene.i, scene.j))
    graph.add_between("x", i, j, torch.cat([scene.z, scene.z]))
    x = graph.optimize()["x"]
    torch.testing.assert_close(x[[0, 10]], twice[[0, 10]], rtol=0, atol=0)
    torch.testing.assert_close(x[:10], x[10:], atol=1e-8, rtol=0)


def test_duplicate_edges_count_twice(rings):
    scene = rings.make(n=10)
    graph = rings.graph(scene)
    graph.add_between("x", scene.i, scene.j, scene.z, weight=FullWeight(scene.W))
    doubled = rings.graph(scene, W=2**0.5 * scene.W).optimize()
    twice = graph.optimize()
    torch.testing.assert_close(twice["x"], doubled["x"], atol=1e-6, rtol=0)
    torch.testing.assert_close(twice.error, doubled.error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backward", ["unroll", "implicit", "implicit-gn", "truncated", "direct"])
def test_gradients_are_finite_where_there_is_nothing_to_do(rings, backward, dtype):
    """At the optimum from the start, without weight, and where two poses are one."""
    for case in ("at rest", "no weight", "all the same"):
        scene = rings.make(n=20, noise=0.0)
        start = {"all the same": torch.eye(4).double().expand_as(scene.truth)}.get(case, scene.truth).to(dtype)
        z = (torch.eye(4).double().expand_as(scene.z) if case == "all the same" else scene.z).to(dtype).requires_grad_()
        W = (torch.zeros_like(scene.W) if case == "no weight" else scene.W).to(dtype).requires_grad_()
        solution = rings.graph(scene, z, W, start=start).optimize(iterations=6, tolerance=None, backward=backward)
        (solution["x"].sin().sum() + solution.error).backward()
        assert solution["x"].isfinite().all() and z.grad.isfinite().all() and W.grad.isfinite().all(), case


def test_bad_input_is_refused_by_name(rings):
    scene = rings.make(n=10)
    graph = rings.graph(scene)
    with pytest.raises(ValueError, match=r"expected \(\.\.\., N, 4, 4\), got"):
        graph.add_variables("y", optim.SE3(), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="the name is taken"):
        graph.add_variables("x", optim.SE3(), scene.start)
    with pytest.raises(ValueError, match="variables 'y': expected finite numbers, 160 of 160"):
        graph.add_variables("y", optim.SE3(), scene.start * torch.nan)
    with pytest.raises(ValueError, match="'x' has 10 variables, got 10"):
        graph.add_between("x", [0], [10], scene.z[:1])
    with pytest.raises(ValueError, match="'x' 4 meets itself"):
        graph.add_between("x", [3, 4], [2, 4], scene.z[:2])
    with pytest.raises(ValueError, match="same length"):
        graph.add_between("x", [3, 4], [2], scene.z[:2])
    with pytest.raises(ValueError, match="one of the variables x, got 'nothing'"):
        graph.add_prior("nothing", [0], scene.z[:1])
    with pytest.raises(ValueError, match="weight: expected finite numbers, 1 of 36"):
        W = torch.eye(6, dtype=torch.float64)[None].clone()
        W[0, 0, 0] = torch.nan
        graph.add_between("x", [0], [1], scene.z[:1], weight=FullWeight(W))
    with pytest.raises(ValueError, match="measurement of 'x': expected finite"):
        graph.add_between("x", [0], [1], torch.nan * scene.z[:1])
    with pytest.raises(ValueError, match="one for each factor"):
        graph.add_factor(lambda x: x.sum((-2, -1)), ("x", [0, 1]))
    with pytest.raises(ValueError, match="one of the variables x, got 'nothing'"):
        graph.fix("nothing", [0])
    for index in ([0.5], torch.tensor([True]), np.array([1.0]), slice(0, 1)):
        with pytest.raises(ValueError, match=r"index: expected whole numbers of variables .x.*, got (torch|slice)"):
            graph.add_between("x", index, [3], scene.z[:1])
    with pytest.raises(ValueError, match=r"measurement of 'x': expected \(\.\.\., 4, 4\), got \(1, 3, 3\)"):
        graph.add_between("x", [0], [1], scene.z[:1, :3, :3])
    for weight in (FullWeight(torch.eye(3).double()[None]), DiagonalWeight(torch.ones(1, 5).double())):
        with pytest.raises(ValueError, match="factor: expected weights for 1 factors of 6 numbers each, got"):
            graph.add_between("x", [0], [1], scene.z[:1], weight=weight)
    for strategy in ("gauss-newton", optim.GaussNewton):
        with pytest.raises(TypeError, match=r"strategy: expected an object such as optim\.GaussNewton\(\)"):
            graph.optimize(strategy)


@pytest.mark.parametrize(("what", "change", "message"), [
    ("start", lambda T: 0 * T, "variables 'pose': expected elements of SE3"),
    ("start", lambda T: 2 * T, "variables 'pose': expected elements of SE3"),
    ("start", lambda T: T * torch.tensor([-1.0, 1, 1, 1]), "variables 'pose': expected elements of SE3"),
    ("measured", lambda T: T.mT + 1.0, "measurement of 'pose': expected elements of SE3"),
    ("measured", lambda T: T.double(), r"measurement of 'pose': expected torch.float32 .*got torch.float64"),
    ("weight", lambda W: W.double(), r"weight: expected torch.float32 .*got torch.float64"),
    ("more", lambda x: x.double(), r"variables 'more': expected torch.float32 .*got torch.float64"),
])  # fmt: skip
def test_what_is_no_pose_and_what_is_of_another_precision_is_refused(what, change, message):
    values = {"start": torch.eye(4).repeat(3, 1, 1), "measured": torch.eye(4).repeat(2, 1, 1)}
    values |= {"weight": torch.ones(2), "more": torch.zeros(2, 3)}
    values[what] = change(values[what])
    graph = gs.FactorGraph()
    with pytest.raises(ValueError, match=message):
        graph.add_variables("pose", optim.SE3(), values["start"])
        graph.add_variables("more", optim.Euclidean(), values["more"])
        graph.add_between("pose", [0, 1], [1, 2], values["measured"], weight=optim.IsotropicWeight(values["weight"]))


@pytest.mark.parametrize(
    ("start", "backward"),
    [
        ("by graduated non-convexity", "unroll"),
        ("nothing fixed", "implicit"),
        *(("fixed", way) for way in optim.BACKWARD if way != "detach"),
    ],
)
def test_what_a_variable_is_fixed_at_has_a_gradient(rings, backward, start):
    """The whole solution moves with it; without one the first of a part is fixed where it starts."""
    scene = rings.make("SE(3)", noise=0.05)
    kernel = optim.GemanMcClure(5.0)

    def solution(xi):
        graph = gs.FactorGraph()
        graph.add_variables("x", scene.variable, torch.cat([se3.exp(xi) @ scene.start[:1], scene.start[1:]]))
        for factor in rings.graph(scene).factors:
            graph.add_factor(factor.residual, *factor.keys, weight=factor.weight, kernel=kernel)
        if start == "fixed":
            graph.fix("x", [0])
        if start.startswith("by"):
            graph = graduated_non_convexity(graph)
        return graph.optimize(backward=backward, iterations=100, tolerance=1e-14)["x"]

    weight = torch.randn(scene.start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    xi = torch.zeros(1, 6, dtype=torch.float64).requires_grad_()
    direction = torch.tensor([[0.3, -0.2, 0.5, 0.1, 0.4, -0.6]], dtype=torch.float64)
    with torch.no_grad():
        ends = [(weight * solution(step * direction)).sum() for step in (1e-5, -1e-5)]
    (gradient,) = torch.autograd.grad((weight * solution(xi)).sum(), xi)
    expected = float(ends[0] - ends[1]) / 2e-5
    bias = 1e-2 if backward == "implicit-gn" else 1e-4  # the former by the residuals that are left
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=bias)
