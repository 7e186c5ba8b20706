"""A wheeled robot follows paths through a reconstructed room by model predictive control, and learns its slip.

The living room is fused into a volume, carved, and flattened into signed distances on the floor. A hundred starts and
goals: `planning.shortest_path` gives a way, `planning.smooth` makes it a path, `planning.MPC` follows it, twenty steps
ahead, twenty times a second, with limits on speed and turn rate and a cost near obstacles. The wheels slip, the left
one more than the right, and stand farther apart than the drawing says; how much is learned from ten short drives, by
descending the error of the motion that the model predicts. Whether the robot hits anything is asked of the true room.
The same drives with the drawing's robot, and with the true one, stand beside it.

    python -m demos.mpc_follow --out out
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from torch import Tensor, nn

from demos.common.room_map import floor_map, in_the_way, record, shuffled, standing
from gradslam_ng import planning

RADIUS = 0.12  # of the robot, meters
MARGIN, SAFETY = 0.06, 0.12  # that ways keep and robots try to, and that paths do where there is room, meters
DT, HORIZON = 0.05, 20  # seconds, steps
LIMITS = torch.tensor([0.5, 1.0], dtype=torch.float64)  # of commands, m/s and rad/s
CRUISE, CREEP = 0.35, 0.2  # m/s, of the reference along the path; the share of it at which it goes on in any case
LAG = 0.4  # meters of path that the robot may be behind
DRAWING = torch.tensor([1.0, 1.0, 0.30], dtype=torch.float64)  # what each wheel does of what it is told; base, meters
TRUE = torch.tensor([0.78, 0.92, 0.34], dtype=torch.float64)
DRIVES, DRIVE_STEPS = 10, 100
MEASURED = torch.tensor([0.005, 0.005, 0.005], dtype=torch.float64)  # noise of poses on the drives, meters and radians
ROUGH = 0.05  # standard deviation of what the floor adds, of each command
POINTS, SPACING = 30, 0.5  # states of a smooth path, seconds between them
ARRIVED = 0.1  # meters


class Robot(nn.Module):
    """A unicycle whose command [v, w] its controller turns into turns of two wheels by the drawing's base.

    wheels (3,): what the left and the right one do of what they are told, and how far apart they stand, meters.
    """

    def __init__(self, wheels: Tensor) -> None:
        super().__init__()
        left, right, base = wheels
        half = 0.5 * float(DRAWING[2])
        to_wheels = torch.tensor([[1.0, 1.0], [-half, half]], dtype=torch.float64)
        to_body = torch.stack([0.5 * left, -left / base, 0.5 * right, right / base]).view(2, 2)
        self.told = to_wheels @ to_body
        self.body = planning.Unicycle(DT)

    def forward(
        self,
        x: Tensor,  # (..., 3)
        u: Tensor,  # (..., 2)
    ) -> Tensor:
        """The state (..., 3) after a step."""
        return self.body(x, u @ self.told)

    def drive(self, x: Tensor, u: Tensor) -> Tensor:
        """States (B, N + 1, 3) from the first (B, 3) under commands (B, N, 2)."""
        states = [x]
        for command in u.unbind(1):
            states.append(self(states[-1], command))
        return torch.stack(states, 1)


def drives(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random commands, each for half a second (count, N, 2), and the states measured on the way (count, N + 1, 3)."""
    u = (2 * torch.rand(count, DRIVE_STEPS // 10, 2, generator=generator, dtype=torch.float64) - 1) * LIMITS
    u = u.repeat_interleave(10, 1)
    rough = 1 + ROUGH * torch.randn(u.shape, generator=generator, dtype=torch.float64)
    states = Robot(TRUE).drive(torch.zeros(count, 3, dtype=torch.float64), u * rough)
    return u, states + MEASURED * torch.randn(states.shape, generator=generator, dtype=torch.float64)


def learn(u: Tensor, states: Tensor) -> Tensor:
    """The wheels (3,) under which the model, from the start of each drive on, predicts its states best."""
    logs = DRAWING.log().requires_grad_()
    optimizer = torch.optim.LBFGS([logs], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        start = torch.zeros(len(u), 3, dtype=torch.float64)  # where each drive begins, exactly
        error = (Robot(logs.exp()).drive(start, u) - states) / MEASURED
        loss = error.square().mean()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    return logs.detach().exp()


def plan(map_: planning.ESDF, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Starts (count, 3), in any direction, and smooth paths (count, POINTS, 2) of 1.5 m at least to random goals."""
    free = standing(map_, RADIUS + MARGIN)
    cost = torch.where(free, 1 + 4 * torch.exp(-map_.distance / 0.2), torch.inf)
    yaws = 2 * torch.pi * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    paths, starts = [], []
    for a, b in zip(shuffled(free, generator), shuffled(free, generator), strict=True):
        points = map_.grid.center(planning.shortest_path(cost, b.tolist(), cell=map_.grid.cell).path(a.tolist()))
        if (points[1:] - points[:-1]).norm(dim=-1).sum() >= 1.5:
            starts.append(torch.cat([points[0], yaws[len(paths)]]))
            paths.append(resample(points, POINTS))
        if len(paths) == count:
            break
    with torch.no_grad():
        found = planning.smooth(
            torch.stack(paths), map_.field(), radius=RADIUS, safety_distance=SAFETY, dt=SPACING, acceleration=0.1
        )
    return torch.stack(starts), found.position


def resample(points: Tensor, count: int) -> Tensor:
    """(count, 2), evenly along a polyline (N, 2)."""
    along = torch.cat([torch.zeros(1), (points[1:] - points[:-1]).norm(dim=-1).cumsum(0)]).numpy()
    at = np.linspace(0, along[-1], count)
    return torch.from_numpy(np.stack([np.interp(at, along, points[:, k].numpy()) for k in range(2)], -1))


class Follower:
    """MPC along paths (B, N, 2): the reference begins at the nearest point of each, and creeps on where that stays, for
    a robot beside its path can be where no motion of it helps at first."""

    def __init__(self, map_: planning.ESDF, paths: Tensor, wheels: Tensor, iterations: int) -> None:
        self.field, self.fine = map_.field(), torch.stack([resample(path, 400) for path in paths])
        self.spacing = (self.fine[:, 1:] - self.fine[:, :-1]).norm(dim=-1).mean(-1)
        self.at = torch.zeros(len(paths), dtype=torch.float64)  # on the fine path, of the reference
        self.u: Tensor | None = None  # the plan before
        self.targets = self.fine[:, :HORIZON]
        self.mpc = planning.MPC(
            Robot(wheels), cost=self.cost, horizon=HORIZON, controls=2, limits=(-LIMITS, LIMITS), slew=0.05,
            iterations=iterations, tolerance=1e-3, backward="detach",
        )  # fmt: skip

    def cost(self, x: Tensor, u: Tensor) -> Tensor:
        away = (x[..., :2] - self.targets).square().sum(-1)
        near = (RADIUS + MARGIN - self.field(x[..., :2])).clamp(min=0)
        return 4 * away + 400 * near.square() + 0.02 * u.square().sum(-1)

    def __call__(self, x: Tensor, previous: Tensor) -> Tensor:
        """Commands (B, 2) for states (B, 3), the plan before as a start."""
        self.targets = self.reference(x)
        start = None if self.u is None else torch.cat([self.u[:, 1:], self.u[:, -1:]], 1)
        self.u = self.mpc(x, u_init=start, previous=previous).u.detach()
        return self.u[:, 0]

    def reference(self, x: Tensor) -> Tensor:
        """Points (B, HORIZON, 2) to be at."""
        index, lag, cruise = torch.arange(self.fine.shape[1]), LAG / self.spacing, CRUISE * DT / self.spacing
        away = (self.fine - x[:, None, :2]).norm(dim=-1)
        near = (index - self.at[:, None]).abs() <= lag[:, None]  # not where the path comes by again
        nearest = torch.where(near, away, torch.inf).argmin(-1)
        self.at = torch.minimum(torch.maximum(nearest.double(), self.at + CREEP * cruise), nearest + lag)
        at = (self.at[:, None] + cruise[:, None] * torch.arange(HORIZON)).long().clamp(max=self.fine.shape[1] - 1)
        return self.fine.gather(1, at[..., None].expand(-1, -1, 2))


@torch.no_grad()
def follow(follower: Follower, starts: Tensor, goals: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """States (steps + 1, B, 3) of the true robot; one that arrives stays."""
    robot, x, previous, states = Robot(TRUE), starts, torch.zeros(len(starts), 2, dtype=torch.float64), [starts]
    for _ in range(steps):
        u = follower(x, previous)
        rough = 1 + ROUGH * torch.randn(u.shape, generator=generator, dtype=torch.float64)
        there = (x[:, :2] - goals).norm(dim=-1) < ARRIVED
        x, previous = torch.where(there[:, None], x, robot(x, u * rough)), u
        states.append(x)
        if bool(there.all()):
            break
    return torch.stack(states)


def judge(states: Tensor, paths: Tensor, obstacles: Tensor) -> dict:
    """How many arrived and hit the true room, how near they came to it, how far from their paths they were."""
    clearance = cKDTree(obstacles.numpy()).query(states[..., :2].numpy())[0].min(0) - RADIUS
    away = torch.stack([torch.cdist(states[:, b, :2], resample(path, 400)).amin(-1) for b, path in enumerate(paths)], 1)
    there = (states[..., :2] - paths[:, -1]).norm(dim=-1) < ARRIVED
    moving = ~there
    return {
        "starts": len(paths),
        "arrived": int(there[-1].sum()),
        "collisions": int((clearance < 0).sum()),
        "least clearance, cm": 100 * float(clearance.min()),
        "from the path, mean, cm": 100 * float(away[moving].mean()),
        "from the path, 95%, cm": 100 * float(away[moving].quantile(0.95)),
        "from the path, at most, cm": 100 * float(away.max()),
        "seconds on the way, mean": DT * float(moving.sum(0).double().mean()),
    }


@torch.no_grad()
def predict(wheels: Tensor, generator: torch.Generator) -> dict:
    """How far off the model is on a hundred new drives, without noise."""
    u, _ = drives(100, generator)
    start = torch.zeros(100, 3, dtype=torch.float64)
    off = (Robot(wheels).drive(start, u) - Robot(TRUE).drive(start, u))[..., :2].norm(dim=-1).mean(0)
    return {"prediction off after 1 s, cm": 100 * float(off[20]), "after 5 s, cm": 100 * float(off[100])}


def measure(map_: planning.ESDF, start: Tensor, path: Tensor, wheels: Tensor, iterations: int, steps: int = 80) -> dict:
    """Milliseconds of processor time that the controller of one robot takes a step, in closed loop; of each step the
    least of three runs, which are alike."""
    took = []
    for _ in range(3):
        follower, x, previous = Follower(map_, path, wheels, iterations), start, torch.zeros(1, 2, dtype=torch.float64)
        took.append([])
        for _ in range(steps):
            began = time.process_time()
            previous = follower(x, previous)
            took[-1].append(1e3 * (time.process_time() - began))
            x = Robot(TRUE)(x, previous)
    first, *later = np.min(took, 0)
    return {
        "first, ms": float(first), "median, ms": float(np.median(later)),
        "95%, ms": float(np.quantile(later, 0.95)), "at most, ms": float(max(later)),
    }  # fmt: skip


def identify(generator: torch.Generator) -> tuple[Tensor, dict]:
    """The wheels learned from `DRIVES` drives, and errors by their number."""
    u, states = drives(DRIVES, generator)
    rows = {}
    for count in sorted({1, 3, DRIVES}):
        learned = learn(u[:count], states[:count])
        off = (100 * (learned / TRUE - 1)).abs().tolist()
        rows[f"{count} drives"] = {"learned": learned.tolist(), "off, %": off}
    return learned, rows


def main(
    out: Path = Path("out"), starts: int = 100, steps: int = 700, iterations: int = 3, frames: int = 24, seed: int = 0
) -> dict:
    """Write mpc_follow.png and .json.

    Args:
        out: folder for both.
        starts: to drive from.
        steps: after which a robot that has not arrived is late.
        iterations: of MPC at each step.
        frames: of the living room that the map is made of.
        seed: of starts, goals, drives and noise.
    """
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "MPC:")
    sequence, clip = record(frames)
    map_, obstacles = floor_map(clip), in_the_way(sequence.mesh[0])
    generator = torch.Generator().manual_seed(seed)
    learned, numbers = identify(generator)
    begins, paths = plan(map_, starts, generator)
    tracks = {}
    for name, wheels in (("as drawn", DRAWING), ("learned", learned), ("true", TRUE)):
        noise = torch.Generator().manual_seed(seed + 1)
        follower = Follower(map_, paths, wheels, iterations)
        tracks[name] = follow(follower, begins, paths[:, -1], steps, noise)
        numbers[f"wheels {name}"] = predict(wheels, noise) | judge(tracks[name], paths, obstacles)
        print(name, numbers[f"wheels {name}"], flush=True)
    numbers["controller"] = measure(map_, begins[:1], paths[:1], learned, iterations)
    out.mkdir(parents=True, exist_ok=True)
    (out / "mpc_follow.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "mpc_follow.png", map_, paths, tracks)
    print(json.dumps(numbers, indent=2))
    return numbers


def draw(path: Path, map_: planning.ESDF, paths: Tensor, tracks: dict[str, Tensor], shown: int = 25) -> None:
    """Paths and ways over the map, as drawn and learned; distances from the path of all."""
    figure = Figure(figsize=(14, 5), dpi=90, layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 0.8))
    low, high = map_.grid.center(torch.tensor([[-0.5, -0.5], [*map_.distance.shape]]) - torch.tensor([[0.0], [0.5]]))
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    for ax, name in zip(axes, ("as drawn", "learned"), strict=False):
        states = tracks[name]
        ax.imshow(map_.distance.T, origin="lower", extent=extent, cmap="RdYlGn", vmin=-0.8, vmax=0.8)
        for b in range(min(len(paths), shown)):
            ax.plot(*paths[b].T, color="black", lw=0.7, ls=":")
            ax.plot(*states[:, b, :2].T, color="tab:blue", lw=0.9)
        ax.scatter(*states[0, :shown, :2].T, s=12, color="tab:blue", zorder=3)
        ax.scatter(*paths[:shown, -1].T, s=18, marker="*", color="black", zorder=3)
        ax.set(title=f"wheels {name}", xlabel="m")
    for name, states in tracks.items():
        away = torch.cat([torch.cdist(states[:, b, :2], resample(p, 400)).amin(-1) for b, p in enumerate(paths)])
        axes[2].plot(100 * away.sort().values, np.linspace(0, 1, len(away)), label=f"wheels {name}")
    axes[2].set(xlabel="cm from the path", ylabel="share of steps", xlim=(0, None))
    axes[2].legend()
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
