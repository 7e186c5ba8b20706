"""Clearance learned from demonstrations: a cost of what stands around, trained through the planner.

Someone who drives a robot through a living room keeps 40 cm off what stands taller than 70 cm, and less off the rest;
nobody wrote that down. What the map knows of a place is its distance to what reaches above four heights, and the color
of what is nearest. A cost of these goes through soft value iteration, and the loss is the likelihood of the
demonstrated steps, differentiated implicitly. Learned are a sum of sigmoids, one for each height, and networks; they
are tried in three rooms not seen, beside inflation by hand: a grid of radii, weights and softness (and of heights,
too), the best on the demonstrations.

    python -m demos.learned_cost --out out
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from torch import Tensor, nn

import gradslam_ng as gs
from demos.common.room_map import HEIGHTS, SEEN, fuse, in_the_way, record, shuffled, standing
from demos.common.rooms import random_room, walk
from gradslam_ng import planning

CELL, RADIUS = 0.05, 0.1  # of the map and of the robot, meters
ABOVE = (0.1, 0.4, 0.7, 1.0)  # meters above the floor; distances are to what reaches higher
TALL = 2  # of these, that from which on the demonstrator keeps away
KEPT, LOW_KEPT, SOFTNESS = 0.4, 0.2, 0.04  # meters, kept off what is tall and off the rest, and how softly
FAR = 0.8  # meters, beyond which distances are not told apart
TOO_NEAR = KEPT - 2 * CELL  # meters
KNIGHT = [(a * x, b * y) for x, y in ((1, 2), (2, 1)) for a in (-1, 1) for b in (-1, 1)]
STRAIGHT = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]
MOVES = torch.tensor(STRAIGHT + KNIGHT)  # sixteen directions: with eight too many ways are as short
TEMPERATURE = 0.3  # of a cell's cost
SIZE = (96, 128)  # pixels
BATCH = 3  # goals in a step of learning
RADII, WEIGHTS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5), (1.0, 3.0, 10.0, 30.0)  # of inflation by hand
SOFT = (SOFTNESS, 0.1)

Cost = Callable[[Tensor], Tensor]  # features (..., 7) -> cost of a cell, from 1 on


@dataclass(frozen=True, eq=False)
class Floor:
    """What the map of a room tells of its floor."""

    free: Tensor  # (X, Y) bool, where the robot stands clear
    features: Tensor  # (X, Y, 7): distances to what reaches above each height, meters; color of the nearest
    grid: planning.Occupancy

    def walled(self, cost: Tensor) -> Tensor:  # cost (X, Y)
        return torch.where(self.free, cost, torch.inf)


@torch.no_grad()
def floor_of(frames: gs.RGBDFrames, cell: float = CELL) -> Floor:
    """The floor of the room that frames (L,) show; what lies beyond the map counts as tall."""
    volume = fuse(frames)
    grid = planning.Occupancy.of(volume, up=(0.0, 0.0, 1.0), heights=HEIGHTS, cell=cell).carve(frames)
    flat = grid.flatten(SEEN)
    found = planning.esdf(flat)
    distances = [found.distance]
    for height in ABOVE[1:]:
        higher = grid.occupied[..., round((height - HEIGHTS[0]) / cell) :].any(-1)
        level = planning.Occupancy.from_cells(higher, origin=grid.origin[:2], cell=cell)
        distances.append(planning.esdf(level).distance)
    mesh = gs.marching_cubes(volume)
    points = mesh.vertices if mesh.origin is None else mesh.vertices + mesh.origin
    seen = (points[:, 2] > HEIGHTS[0]) & (points[:, 2] < HEIGHTS[1])
    _, nearest = cKDTree(in_the_way(points).numpy()).query(flat.centers().numpy())
    color = mesh.colors[seen][torch.from_numpy(nearest)].double()
    features = torch.cat([torch.stack(distances, -1).clamp(0, FAR), color], -1)
    return Floor(standing(found, RADIUS), features, flat)


def unseen(seed: int, frames: int = 24) -> Floor:
    """The floor of a random room, seen on a walk."""
    view, T_wc, K = walk(random_room(seed), frames, 8, SIZE)
    return floor_of(gs.RGBDFrames(view.color.float(), view.depth.float(), K.expand(frames, 3, 3), T_wc))


def near(distance: Tensor, radius: float | Tensor, softness: float | Tensor = SOFTNESS) -> Tensor:
    """From 0 to 1 as a distance falls below a radius."""
    return torch.sigmoid((radius - distance) / softness)


def hidden(x: Tensor) -> Tensor:  # x (..., 7)
    """What the demonstrator minds (...)."""
    return 1 + 8 * near(x[..., TALL], KEPT) + 4 * near(x[..., 0], LOW_KEPT)


class Sigmoids(nn.Module):
    """A sum of sigmoids, one for each height: never dearer farther away."""

    def __init__(self) -> None:
        super().__init__()
        self.radius = nn.Parameter(torch.full((len(ABOVE),), 0.3, dtype=torch.float64))
        self.log_weight = nn.Parameter(torch.zeros(len(ABOVE), dtype=torch.float64))
        self.log_softness = nn.Parameter(torch.full((len(ABOVE),), 0.06, dtype=torch.float64).log())

    def forward(self, x: Tensor) -> Tensor:  # x (..., 7)
        return 1 + (self.log_weight.exp() * near(x[..., : len(ABOVE)], self.radius, self.log_softness.exp())).sum(-1)


class Network(nn.Module):
    """Two layers of 32, of the first so many features."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.layers = nn.Sequential(
            nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Softplus()
        ).double()

    def forward(self, x: Tensor) -> Tensor:  # x (..., 7)
        return 1 + self.layers((x[..., : self.inputs] - 0.4) / 0.2)[..., 0]  # about within -2 and 2


@dataclass(frozen=True)
class Trips:
    """Ways to goals from some starts each, cells."""

    goals: Tensor  # (G, 2)
    starts: Tensor  # (G, S, 2)


def trips(floor: Floor, goals: int, starts: int, generator: torch.Generator, least: float = 1.5) -> Trips:
    """Random goals, and starts that far from them at least, meters."""
    ends, begins = [], []
    for goal in shuffled(floor.free, generator):
        cells = shuffled(floor.free, generator)
        far = cells[(cells - goal).double().norm(dim=-1) * floor.grid.cell > least]
        if len(far) >= starts:
            ends.append(goal)
            begins.append(far[:starts])
        if len(ends) == goals:
            break
    return Trips(torch.stack(ends), torch.stack(begins))


@torch.no_grad()
def drive(floor: Floor, cost: Cost, asked: Trips) -> list[Tensor]:
    """The cheapest path (K, 2) of each trip, cells."""
    planner, field = planning.ValueIteration(MOVES), floor.walled(cost(floor.features))
    paths = []
    for goal, starts in zip(asked.goals, asked.starts, strict=True):
        found = planner(field, goal)
        paths += [found.path(start) for start in starts]
    return paths


def steps_taken(paths: list[Tensor], asked: Trips, shape: torch.Size) -> Tensor:
    """How often each move was made in each cell on the way to each goal, (G, A, X, Y)."""
    count = torch.zeros(len(asked.goals), len(MOVES), *shape, dtype=torch.float64)
    for k, path in enumerate(paths):
        made = (path.diff(dim=0)[:, None] == MOVES).all(-1).int().argmax(-1)
        goal = torch.full_like(made, k // asked.starts.shape[1])
        count.index_put_((goal, made, *path[:-1].T), torch.ones(len(made), dtype=torch.float64), accumulate=True)
    return count


def learn(model: nn.Module, floor: Floor, taken: Tensor, goals: Tensor, steps: int, rate: float) -> Cost:
    """The model (features -> cost), by the likelihood of the steps taken (G, A, X, Y) under the soft policy."""
    planner = planning.ValueIteration(MOVES, temperature=TEMPERATURE)
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        some = torch.arange(step * BATCH, (step + 1) * BATCH) % len(goals)
        cost = floor.walled(model(floor.features)).expand(BATCH, *floor.free.shape)
        found = planner(cost, goals[some])
        wasted = found.action_costs() - found.cost_to_go[:, None]
        demonstrated = taken[some] > 0
        loss = (taken[some][demonstrated] * wasted[demonstrated]).sum() / TEMPERATURE / taken[some].sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return model.eval()


def meters(path: Tensor, cell: float) -> tuple[Tensor, Tensor]:
    """Points (10 (K - 1), 2) along a path, cells, evenly spaced on each step, and the length of path of each."""
    share = (torch.arange(10) + 0.5) / 10
    step = path.diff(dim=0).double()
    points = path[:-1, None] + share[:, None] * step[:, None]
    return points.flatten(0, 1), (cell * step.norm(dim=-1) / 10).repeat_interleave(10)


def judge(floor: Floor, paths: list[Tensor], shown: list[Tensor]) -> dict:
    """Paths against those demonstrated."""
    cell, tall = floor.grid.cell, floor.features[..., TALL]
    away, same, intruded, length, minded = [], [], [], [], []
    for path, other in zip(paths, shown, strict=True):
        (p, part), (q, demonstrated) = meters(path, cell), meters(other, cell)
        apart = cell * torch.cdist(p, q)
        to, back = apart.amin(1), apart.amin(0)
        away.append(0.5 * (to.mean() + back.mean()))
        same.append(max(to.max(), back.max()) < 0.2)
        at, there = p.round().long().T, q.round().long().T
        intruded.append((part * (tall[tuple(at)] < TOO_NEAR)).sum())
        length.append(part.sum())
        price = hidden(floor.features)
        minded.append((part * price[tuple(at)]).sum() / (demonstrated * price[tuple(there)]).sum() - 1)
    mean = {
        "from the demonstrations, cm": 100 * torch.stack(away).mean(),
        "the same way, %": 100 * torch.stack(same).double().mean(),
        "too near, cm a trip": 100 * torch.stack(intruded).mean(),
        "length, m": torch.stack(length).mean(),
        "hidden cost above, %": 100 * torch.stack(minded).mean(),
    }
    return {name: float(value) for name, value in mean.items()}


def inflation(radius: float, weight: float, softness: float, level: int) -> Cost:
    """By hand: a cost within a radius of what reaches above a height."""
    return lambda x: 1 + weight * near(x[..., level], radius, softness)


def tune(floor: Floor, asked: Trips, shown: list[Tensor]) -> list[tuple[float, float, float, int]]:
    """Settings of inflation by how far their paths are from the demonstrations, the best first."""
    off = {}
    for setting in itertools.product(RADII, WEIGHTS, SOFT, range(len(ABOVE))):
        off[setting] = judge(floor, drive(floor, inflation(*setting), asked), shown)["from the demonstrations, cm"]
    return sorted(off, key=lambda setting: off[setting])


def costs(floor: Floor, asked: Trips, shown: list[Tensor], steps: int) -> tuple[dict[str, Cost], dict]:
    """Ways to charge for nearness, by name, and how each came about."""
    found: dict[str, Cost] = {"shortest": lambda x: torch.ones_like(x[..., 0])}
    made: dict[str, dict] = {}
    taken = steps_taken(shown, asked, floor.free.shape)
    began = time.process_time()
    ranked = tune(floor, asked, shown)
    for name, levels in (("inflation", 1), ("inflation, height too", len(ABOVE))):
        setting = next(setting for setting in ranked if setting[-1] < levels)
        found[name] = inflation(*setting)
        made[name] = dict(zip(("radius", "weight", "softness"), setting, strict=False)) | {"above": ABOVE[setting[-1]]}
    made["tuning"] = {"seconds": time.process_time() - began}
    learned = (("sigmoids", Sigmoids(), 0.05), ("network", Network(len(ABOVE)), 0.02))
    for name, model, rate in (*learned, ("network, color too", Network(len(ABOVE) + 3), 0.02)):
        began = time.process_time()
        found[name] = learn(model, floor, taken, asked.goals, steps, rate)
        made[name] = {"seconds": time.process_time() - began}
        if isinstance(model, Sigmoids):
            weight = model.log_weight.exp()
            made[name] |= {"radius": model.radius.tolist(), "weight": weight.tolist()}
        print(name, made[name], flush=True)
    return found, made


def main(
    out: Path = Path("out"), goals: int = 12, starts: int = 6, steps: int = 75, rooms: int = 3, seed: int = 0
) -> dict:
    """Write learned_cost.png and .json.

    Args:
        out: folder for both.
        goals: of the demonstrations, and in each other room.
        starts: for each goal.
        steps: of learning.
        rooms: not seen.
        seed: of networks, starts and goals.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    known = floor_of(record(24, SIZE)[1])
    asked = trips(known, goals, starts, generator)
    shown = drive(known, hidden, asked)
    found, numbers = costs(known, asked, shown, steps)
    new = {f"random {k + 1}": unseen(k + 1) for k in range(rooms)}
    other = trips(known, goals, starts, generator)
    places = {"demonstrations": (known, asked), "living room, other trips": (known, other)}
    places |= {name: (floor, trips(floor, goals, starts, generator)) for name, floor in new.items()}
    results: dict[str, dict] = {}
    for place, (floor, wanted) in places.items():
        shown = drive(floor, hidden, wanted)
        results[place] = {"demonstrator": judge(floor, shown, shown)}
        results[place] |= {name: judge(floor, drive(floor, cost, wanted), shown) for name, cost in found.items()}
        print(place, json.dumps(results[place], indent=1), flush=True)
    numbers["places"] = results
    out.mkdir(parents=True, exist_ok=True)
    (out / "learned_cost.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "learned_cost.png", *list(places.values())[2], found)
    return numbers


def draw(path: Path, floor: Floor, wanted: Trips, found: dict[str, Cost], shown: int = 8) -> None:
    """The costs of a room, and some ways in it beside the demonstrator's."""
    some = Trips(wanted.goals[:shown], wanted.starts[:shown, :1])
    truth = drive(floor, hidden, some)
    names = {"demonstrator": hidden} | {name: cost for name, cost in found.items() if name != "shortest"}
    figure = Figure(figsize=(15, 4.2), dpi=90, layout="constrained")
    for ax, (name, cost) in zip(figure.subplots(1, len(names)), names.items(), strict=True):
        with torch.no_grad():
            field = torch.where(floor.free, cost(floor.features).log(), torch.nan)
        ax.imshow(field.T, origin="lower", cmap="viridis")
        for ours, theirs in zip(drive(floor, cost, some), truth, strict=True):
            ax.plot(*theirs.T, color="white", lw=2.5)
            ax.plot(*ours.T, color="tab:red", lw=1.2)
        ax.set(title=name, xticks=[], yticks=[])
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
