"""Potentials against closed forms of circuits and harmonic functions; probabilities of any size; what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from benchmarks.planning.harmonic import serpentine
from gradslam_ng.planning import Controller, ResistorGrid
from tests.planning.differences import assert_gradients

WALLS = ("absorbing", "reflecting")


def conductances(grid, *lead, seed=0, spread=0.5):
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(*lead, len(grid.edges), generator=generator, dtype=torch.float64)).exp()


def ones(grid, dtype=torch.float64):
    return torch.ones(len(grid.edges), dtype=dtype)


def resistance(grid, g, a, b):
    """Between two cells: the potential at a, from which a current of 1 goes to b."""
    current = torch.zeros(grid.shape, dtype=torch.float64)
    current[a] = 1.0
    return grid.potential(g, b, current=current).on_grid()[a]


def test_resistance_of_a_ladder():
    grid = ResistorGrid(torch.ones(20, 2, dtype=torch.bool), walls="reflecting")
    expected = 1.0  # the last rung
    for _ in range(19):
        expected = 1 / (1 + 1 / (2 + expected))  # two more sides, one more rung beside
    assert resistance(grid, ones(grid), (0, 0), (0, 1)) == pytest.approx(expected, rel=1e-10)


def test_resistance_across_a_cube():
    grid = ResistorGrid(torch.ones(2, 2, 2, dtype=torch.bool), walls="reflecting")
    assert resistance(grid, ones(grid), (0, 0, 0), (1, 1, 1)) == pytest.approx(5 / 6, rel=1e-10)


def test_resistance_between_neighbors_of_a_large_grid_nears_a_half():
    errors = []
    for size in (21, 61):
        grid, middle = ResistorGrid(torch.ones(size, size, dtype=torch.bool), walls="reflecting"), size // 2
        errors.append(float(resistance(grid, ones(grid), (middle, middle), (middle, middle + 1))) - 0.5)
    assert 0 < errors[1] < 1e-3 and errors[1] < 0.2 * errors[0]


def test_foster_sum_of_conductance_times_resistance():
    free = torch.ones(3, 4, dtype=torch.bool)
    free[1, 2] = False
    grid = ResistorGrid(free, walls="reflecting")
    g, cells = conductances(grid), [tuple(cell) for cell in grid.cells.tolist()]
    parts = [resistance(grid, g, cells[a], cells[b]) for a, b in grid.edges.tolist()]
    assert float((g * torch.stack(parts)).sum()) == pytest.approx(len(cells) - 1, rel=1e-9)


def test_along_a_line_between_wall_and_goal_it_is_linear():
    grid = ResistorGrid(torch.ones(9, 1, dtype=torch.bool))
    across = grid.edges[:, 1] < 0  # resistors into walls; of these only the one before the first cell counts
    g = torch.where(across, 1e-12, 1.0).double()
    g[0] = 1.0
    value = grid.potential(g, (8, 0)).value
    torch.testing.assert_close(value, torch.arange(1, 10, dtype=torch.float64) / 9, rtol=1e-9, atol=0)


def test_in_an_annulus_it_is_the_logarithm_of_the_radius():
    x, y = torch.meshgrid(torch.arange(-60.0, 61), torch.arange(-60.0, 61), indexing="ij")
    radius = (x.square() + y.square()).sqrt()
    grid = ResistorGrid(radius < 59)
    value = grid.potential(ones(grid), radius <= 8).on_grid()
    ring = (radius > 10) & (radius < 56)
    design = torch.stack([radius[ring].double().log(), torch.ones(int(ring.sum()), dtype=torch.float64)], -1)
    fit = torch.linalg.lstsq(design, value[ring][:, None]).solution  # circles of cells have radii within half a cell
    assert (design @ fit - value[ring][:, None]).abs().max() < 0.005
    assert float(fit[0]) == pytest.approx(1 / np.log(8 / 59), rel=0.03)


@pytest.mark.parametrize("walls", WALLS)
@pytest.mark.parametrize("log", [False, True])
def test_gradients_meet_central_differences(walls, log):
    if log and walls == "reflecting":
        pytest.skip("its potential needs no logarithm")
    free = torch.ones(4, 5, dtype=torch.bool)
    free[1, 1:3] = False
    grid = ResistorGrid(free, walls=walls)
    weights = torch.linspace(-1, 1, len(grid.cells), dtype=torch.float64)
    assert_gradients(
        lambda g: (grid.potential(g, (3, 4), log=log).value * weights).sin().sum(), conductances(grid), 1e-7
    )


def test_gradient_to_the_current():
    grid = ResistorGrid(torch.ones(3, 3, dtype=torch.bool), walls="reflecting")
    current = torch.rand(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g = conductances(grid)
    assert_gradients(lambda x: grid.potential(g, (0, 0), current=x).value.square().sum(), current, 1e-8)


def test_a_batch_is_each_alone_whatever_goal_and_precision():
    grid = ResistorGrid(serpentine(17))
    g = conductances(grid, 3)
    both = grid.potential(g, (1, 1)).value
    torch.testing.assert_close(both[1], grid.potential(g[1], (1, 1)).value, rtol=0, atol=0)
    single = grid.potential(g.float(), (1, 1)).value
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), both, rtol=1e-5, atol=0)
    goals = torch.zeros(17, 17, dtype=torch.bool)
    goals[1, 1] = goals[15, 15] = True
    assert (grid.potential(g, goals).value >= both * (1 - 1e-9)).all()


def test_logarithms_go_on_where_probabilities_end():
    grid = ResistorGrid(serpentine(65))
    g = ones(grid).requires_grad_()
    with pytest.raises(ValueError, match="log=True"):
        grid.potential(g, (1, 1))
    potential = grid.potential(g, (1, 1), log=True)
    assert potential.value.min() < -730  # 1e-318
    assert Controller(potential).led_home().all()
    (gradient,) = torch.autograd.grad(potential.value.sum(), g)
    assert gradient.isfinite().all()
    assert float((gradient * g.detach()).sum()) == pytest.approx(0, abs=1e-5 * float(gradient.abs().sum()))  # of scale
    bent = (g.detach() + 1e-6 * torch.linspace(-1, 1, len(g), dtype=torch.float64)).requires_grad_(False)
    change = grid.potential(bent, (1, 1), log=True).value.sum() - potential.value.detach().sum()
    expected = (gradient * (bent - g.detach())).sum()
    assert float(change) == pytest.approx(float(expected), rel=1e-4)


def test_logarithms_against_the_exact_corridor():
    grid = ResistorGrid(torch.ones(1200, 1, dtype=torch.bool))
    logs = grid.potential(ones(grid), (0, 0), log=True).value
    rate = np.log(2 + np.sqrt(3))  # u'' = 2 u in steps of a cell: u = sinh(rate (n - k)) / sinh(rate n)
    k = torch.arange(1200, dtype=torch.float64)
    expected = -rate * k + torch.log1p(-torch.exp(-2 * rate * (1200 - k))) - np.log1p(-np.exp(-2 * rate * 1200))
    torch.testing.assert_close(logs, expected, rtol=1e-9, atol=1e-9)


def rational(grid, g, goal):
    """The probabilities in exact arithmetic; edges join cells less than 8 apart."""
    count = len(grid.cells)
    rows, right = [{} for _ in range(count)], [Fraction(k == goal) for k in range(count)]
    for (a, b), conductance in zip(grid.edges.tolist(), g.long().tolist(), strict=True):
        for i, j in ((a, b), (b, a)) if b >= 0 else ((a, b),):
            rows[i][i] = rows[i].get(i, 0) + conductance
            if j >= 0:
                rows[i][j] = -conductance
    rows[goal] = {goal: 1}
    for i in range(count):
        for k in range(i + 1, min(count, i + 8)):
            share = Fraction(rows[k].pop(i, 0)) / rows[i][i]
            for j in [j for j in rows[i] if j > i and share]:
                rows[k][j] = rows[k].get(j, 0) - share * rows[i][j]
            right[k] -= share * right[i]
    for i in reversed(range(count)):
        right[i] = (right[i] - sum(x * right[j] for j, x in rows[i].items() if j > i)) / rows[i][i]
    return right


def test_each_probability_is_exact_relative_to_itself():
    """Down to 2e-51, to 1e-11 a cell of the way: the factors' diagonal is larger by 2e-12."""
    grid = ResistorGrid(torch.ones(150, 3, dtype=torch.bool))
    g = torch.randint(1, 10, (len(grid.edges),), generator=torch.Generator().manual_seed(0)).double()
    expected = rational(grid, g, 1)
    value, logs = (grid.potential(g, (0, 1), log=log).value for log in (False, True))
    assert float(min(expected)) < 1e-50
    for k, exact in enumerate(expected):
        most = 1e-11 * (1 + k // 3)
        assert abs(Fraction(float(value[k])) / exact - 1) < most
        assert abs(float(logs[k]) - np.log(float(exact))) < most + 1e-13


def test_down_to_the_last_number_every_cell_is_led_home():
    grid = ResistorGrid(torch.ones(520, 1, dtype=torch.bool))
    potential = grid.potential(ones(grid), (0, 0))
    assert potential.value.min() < 1e-290
    assert Controller(potential).led_home().all()
    with pytest.raises(ValueError, match=r"too small for torch\.float32"):
        grid.potential(ones(grid, torch.float32), (0, 0))


def test_reflecting_walls_lead_home_without_logarithms():
    grid = ResistorGrid(serpentine(65), walls="reflecting")
    for dtype in (torch.float32, torch.float64):
        assert Controller(grid.potential(ones(grid, dtype), (1, 1))).led_home().double().mean() == 1


@pytest.mark.parametrize(
    ("walls", "log", "value"),
    [("absorbing", False, 0), ("absorbing", True, -torch.inf), ("reflecting", False, torch.inf)],
)
def test_cells_without_a_way_say_so_and_give_no_gradient(walls, log, value):
    free = torch.ones(5, 5, dtype=torch.bool)
    free[:, 2] = False
    grid = ResistorGrid(free, walls=walls)
    g = ones(grid).requires_grad_()
    potential = grid.potential(g, (2, 0), log=log)
    assert (potential.reachable == (grid.cells[:, 1] < 2)).all()
    assert (potential.value[~potential.reachable] == value).all()
    controller = Controller(potential)
    assert (controller.led_home() == potential.reachable).all()
    travel = controller.travel()
    assert (travel[~potential.reachable] == torch.inf).all()
    (gradient,) = torch.autograd.grad(travel[potential.reachable].sum(), g)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    beyond = (~potential.reachable)[grid.edges[:, 0]]
    assert (gradient[beyond] == 0).all()


@pytest.mark.parametrize("walls", WALLS)
def test_one_cell_and_a_goal_everywhere(walls):
    one = ResistorGrid(torch.ones(1, 1, dtype=torch.bool), walls=walls)
    assert Controller(one.potential(ones(one), (0, 0))).travel().tolist() == [0.0]
    grid = ResistorGrid(torch.ones(3, 3, dtype=torch.bool), walls=walls)
    g = ones(grid).requires_grad_()
    travel = Controller(grid.potential(g, torch.ones(3, 3, dtype=torch.bool))).travel()
    assert (travel == 0).all()
    assert (torch.autograd.grad(travel.sum(), g)[0] == 0).all()


def test_three_dimensions():
    free = torch.ones(5, 6, 4, dtype=torch.bool)
    free[2, 1:] = False
    for walls in WALLS:
        grid = ResistorGrid(free, walls=walls)
        assert Controller(grid.potential(conductances(grid), (4, 5, 3))).led_home().all()


def test_bad_arguments_are_named():
    grid = ResistorGrid(serpentine(9))
    g = ones(grid)
    for error, said, call in (
        (TypeError, "free", lambda: ResistorGrid(torch.ones(3, 3))),
        (ValueError, "one free cell", lambda: ResistorGrid(torch.zeros(3, 3, dtype=torch.bool))),
        (ValueError, "one free cell", lambda: ResistorGrid(torch.ones(3, dtype=torch.bool))),
        (ValueError, "walls", lambda: ResistorGrid(serpentine(9), walls="mixed")),
        (ValueError, "in a wall", lambda: grid.potential(g, (0, 0))),
        (ValueError, "cell of the grid", lambda: grid.potential(g, (9, 1))),
        (ValueError, "got none", lambda: grid.potential(g, torch.zeros(9, 9, dtype=torch.bool))),
        (ValueError, "conductance", lambda: grid.potential(g[1:], (1, 1))),
        (ValueError, "positive", lambda: grid.potential(0 * g, (1, 1))),
        (ValueError, "conductance", lambda: grid.potential(g * torch.nan, (1, 1))),
        (ValueError, "current", lambda: grid.potential(g, (1, 1), current=g)),
    ):
        with pytest.raises(error, match=said):
            call()
    with pytest.raises(ValueError, match="log for absorbing"):
        reflecting = ResistorGrid(serpentine(9), walls="reflecting")
        reflecting.potential(ones(reflecting), (1, 1), log=True)
