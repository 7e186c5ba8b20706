"""Learned information: how sure an alignment is, learned through the trajectory that is smoothed from many of them.

ICP aligns frames with those one, two, four and eight before; a factor graph joins all these motions. How much each is
worth is what its normal equations H say, in theory: in practice H knows nothing of errors that neighbouring pixels
share, nor of a search that ended in the wrong place. A small network looks at each direction of H (its eigenvalue, how
much of it is a turn), at the overlap and at the residuals, and says by how much to trust it more or less. It is taught
by the surrogate loss (Yi et al. 2021) on random rooms: start at the truth, take two Gauss-Newton steps, ask that they
stay. Judged in rooms that it has not seen and on recordings, beside H itself, H divided by the variance of its
residuals, H under a robust kernel, and no weights at all. (A constant factor on H changes nothing: all factors are of
one kind.)

    python demos/learned_information.py --out out --real FOLDER_OF_RECORDINGS
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import tyro
from matplotlib.figure import Figure
from recordings import DATA, ratios, recordings
from rooms import random_room, sense, walk
from torch import Tensor, nn

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.datasets import RGBDSequence
from gradslam_ng.datasets.synthetic import noise as sensor
from gradslam_ng.datasets.synthetic.rooms import Room
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP, association
from gradslam_ng.odometry.icp_problem import ICPProblem
from gradslam_ng.structures import LiveFrame

REAL = {"ICL office": slice(0, 100, 5), "TUM structure": slice(0, 240, 10), "7-Scenes kitchen": slice(0, 240, 10)}
SPANS = (1, 2, 4, 8)  # frames from one end of an edge to the other
SPEEDS = (2, 3, 4, 6)  # thirtieths of a second from one frame to the next
FAR_APART = {"iterations": (8, 6, 4), "max_distance": 0.2, "rows": 1}  # what images of frames eight apart want
WIDTH = 80  # pixels across, of recordings: every edge is an alignment, and there are many
REACH = 2.0  # metres: a turn of one radian moves what is seen about so far
FEATURES = 6
KERNEL = 50.0  # of the robust kernel, standard deviations as H has them: by the median, alignments are 35 of them off
TURNS = torch.tensor([1.0] * 3 + [REACH] * 3, dtype=torch.float64)


@dataclass(frozen=True)
class Edges:
    """Alignments of the frames of B sequences of N, M each, float64."""

    i: Tensor  # (M,)
    j: Tensor  # (M,)
    T_ij: Tensor  # (B, M, 4, 4)
    H: Tensor  # (B, M, 6, 6), of an update of T_ij from the right, turns in units of 1 / REACH radians
    evidence: Tensor  # (B, M, 3), see `evidence`
    ok: Tensor  # (B, M) bool
    truth: Tensor  # (B, N, 4, 4), the first pose at the origin

    def __getitem__(self, which: Tensor | slice) -> Edges:
        """Some of the sequences."""
        return Edges(self.i, self.j, *(getattr(self, field.name)[which] for field in fields(self)[2:]))

    @staticmethod
    def joined(parts: list[Edges]) -> Edges:
        rest = (torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Edges)[2:])
        return Edges(parts[0].i, parts[0].j, *rest)


@torch.no_grad()
def align(frames: gs.RGBDFrames, T_wc: Tensor, odometer: ProjectiveICP | None = None) -> Edges:
    """All edges of one sequence; frames (N, H, W, C), T_wc (N, 4, 4) the truth."""
    odometer = ProjectiveICP(photometric=False, **FAR_APART) if odometer is None else odometer
    live = LiveFrame.of(frames, factor=max(1, frames.size[1] // WIDTH))
    count = len(T_wc)
    origin = torch.eye(4)[None].expand(count, 4, 4)
    parts, chained = [], None
    for span in (span for span in SPANS if span < count):
        i, j = torch.arange(count - span), torch.arange(span, count)
        start = origin[i] if chained is None else se3.inverse(chained[i]) @ chained[j]
        images = (live.color[j], live.depth[j], live.sigma[j])
        model, frame = taken(live.surface, i), LiveFrame(taken(live.surface, j), *images, None)
        found = odometer(frame, model, origin[i], start)
        if chained is None:
            chained = [torch.eye(4)]
            for T in found.T_wc:
                chained.append(chained[-1] @ T)
            chained = torch.stack(chained)
        problem = odometer.problem(frame, frame.surface, model, 0)
        H, _, _, _ = problem.reduce(found.T_wc)
        seen = evidence(problem, found.T_wc)
        turn = se3.adjoint(found.T_wc.double()) / TURNS
        H = turn.mT @ (H * problem.total[:, None, None]).double() @ turn
        parts.append((i, j, found.T_wc.double(), H, seen.double(), found.ok))
    i, j, *rest = (torch.cat(part) for part in zip(*parts, strict=True))
    truth = T_wc.double()
    return Edges(i, j, *(part[None] for part in rest), (se3.inverse(truth[:1]) @ truth)[None])


def evidence(problem: ICPProblem, T_mc: Tensor) -> Tensor:
    """Of the vertices of each frame (B, 3): the share that meets something in the model; of those, the share within 3
    standard deviations of its plane, and the root mean square distance from that, at most 10, in those deviations."""
    model, information = problem.model, problem.information
    p = se3.transform_soa(T_mc, problem.vertices.unbind(-1))
    images = (model.vertices.flatten(1, 2), model.normals.flatten(1, 2), model.weights.flatten(1))
    d, n, _, candidate = association.nearest(p, model.K, images, model.size)
    known = information > 0
    met = (candidate & known).to(information.dtype)
    r = (sum(a * b for a, b in zip(d, n, strict=True)).abs() * information.sqrt()).clamp(max=10.0)
    count = met.sum(-1).clamp(min=1)
    agreed = (met * (r < 3)).sum(-1) / count
    square = (met * r.square()).sum(-1) / count
    return torch.stack([met.sum(-1) / known.sum(-1).clamp(min=1), agreed, square.sqrt()], -1)


def taken(surface, which: Tensor):
    return type(surface)(*(getattr(surface, field.name)[which] for field in fields(surface)))


class Hessian:
    """Information as the normal equations have it, perhaps divided by the variance of the residuals."""

    def __init__(self, by_residual: bool = False) -> None:
        self.by_residual = by_residual

    def __call__(self, edges: Edges) -> Tensor:
        L, V = spectrum(edges)
        if self.by_residual:
            L = L / edges.evidence[..., 2:].square()
        return square_root(edges, L, V)


class Uniform:
    """All alignments the same, so many radians as metres."""

    def __call__(self, edges: Edges) -> Tensor:
        L, V = spectrum(edges)
        return square_root(edges, torch.full_like(L, 1e4), V)


class Learned(nn.Module):
    """What the normal equations say times a factor for each of their directions; at the start that is 1."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, channels), nn.Tanh(), nn.Linear(channels, channels), nn.Tanh())
        self.last = nn.Linear(channels + FEATURES, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, edges: Edges) -> Tensor:
        L, V = spectrum(edges)
        seen = features(edges, L, V)
        logarithm = self.last(torch.cat([self.layers(seen), seen], -1))[..., 0]
        return square_root(edges, L * logarithm.clamp(-12, 12).exp(), V)


Information = Callable[[Edges], Tensor]


def spectrum(edges: Edges) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, M, 6), none below 1e-6 of the largest, and directions (B, M, 6, 6)."""
    L, V = torch.linalg.eigh(edges.H)
    return L.clamp(min=1.0).maximum(1e-6 * L[..., -1:]), V


def features(edges: Edges, L: Tensor, V: Tensor) -> Tensor:
    """What the network sees of each direction (B, M, 6, F), each of the order of 1."""
    turn = V[..., 3:, :].square().sum(-2)
    overlap, agreed, residual = edges.evidence.unbind(-1)
    overlap = 3 * overlap.clamp(min=0.05).log() + 1
    astray = (1 - agreed + 0.01).log() + 2
    residual = 2 * residual.clamp(min=0.1).log() - 1
    whole = (L.log().mean(-1) - 12) / 2
    each = (L.log() - 12) / 2
    rest = (part[..., None].expand_as(L) for part in (overlap, astray, residual, whole))
    return torch.stack([each, turn - 0.5, *rest], -1)


def square_root(edges: Edges, L: Tensor, V: Tensor) -> Tensor:
    """W (B, M, 6, 6) with W^T W = V diag(L) V^T, in metres and radians; next to nothing where ICP was lost."""
    L = torch.where(edges.ok[..., None], L, 1.0)
    return L.sqrt()[..., None] * V.mT * TURNS


def graph(edges: Edges, W: Tensor, kernel: optim.Kernel | None = None) -> gs.FactorGraph:
    """Poses between all edges, started along the shortest ones."""
    first = edges.T_ij[:, edges.j - edges.i == 1]
    poses = [torch.eye(4, dtype=first.dtype).expand(len(first), 4, 4)]
    for T in first.unbind(1):
        poses.append(poses[-1] @ T)
    made = gs.FactorGraph()
    made.add_variables("pose", optim.SE3(), torch.stack(poses, 1))
    made.hold("pose", [0])
    made.add_between("pose", edges.i, edges.j, edges.T_ij, weight=optim.FullWeight(W), kernel=kernel)
    return made


def train(network: Learned, edges: Edges, steps: int, rate: float, seed: int, batch: int = 16) -> Learned:
    """Fit the network by the surrogate loss, the logarithm of each sequence's: some are harder than others."""
    generator = torch.Generator().manual_seed(seed)
    descent = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    for _ in range(steps):
        some = edges[torch.randperm(len(edges.truth), generator=generator)[:batch]]
        loss = (gs.surrogate_loss(graph(some, network(some)), {"pose": some.truth}, steps=2) + 1e-8).log().mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
        schedule.step()
    return network


@torch.no_grad()
def judge(models: dict[str, Information], edges: Edges) -> dict[str, float]:
    """Absolute trajectory error, RMSE in cm, of the trajectory (B = 1) smoothed under each model."""
    truth = gs.Trajectory(torch.arange(edges.truth.shape[1], dtype=torch.float64), edges.truth[0])
    errors = {}
    for name, model in models.items():
        kernel = optim.Cauchy(KERNEL) if name.endswith("robust") else None
        made = graph(edges, model(edges), kernel)
        T_wc = made.optimize(optim.LevenbergMarquardt(damping=1e-6), iterations=30, tolerance=1e-8)["pose"][0]
        errors[name] = 100 * gs.evaluation.ate(truth, gs.Trajectory(truth.timestamps, T_wc)).rmse
    return errors


def clip(place: Room, every: int, seed: int, frames: int, size: tuple[int, int], kinect: bool = False) -> Edges:
    """A walk through a room, aligned, as the sensor of `rooms.py` sees it or as a Kinect does.

    Their noise differs from frame to frame, as blur and interference have it: by a factor of 1/2 to 4.
    """
    view, T_wc, K = walk(place, frames, every, size, seed)
    generator = torch.Generator().manual_seed(seed)
    if kinect:
        parts = zip(view.color, view.depth, view.normal, strict=True)
        seen = [sensor.kinect(*part, K, 1000 * seed + k) for k, part in enumerate(parts)]
        color, depth = (torch.stack(part) for part in zip(*seen, strict=True))
    else:
        color, depth = view.color, sense(view.depth, view.normal, K, generator)
    strength = 0.5 * 8 ** torch.rand(frames, 1, 1, 1, generator=generator)
    depth = torch.where(depth > 0, view.depth + strength * (depth - view.depth), 0.0).clamp(min=0)
    return align(gs.RGBDFrames(color, depth, K.expand(frames, 3, 3)), T_wc)


def recording(sequence: RGBDSequence) -> Edges:
    """Frames of a recording and its true trajectory, aligned."""
    frames = [sequence[k] for k in range(len(sequence))]
    known = [frame for frame in frames if frame.T_wc is not None and bool(frame.T_wc.isfinite().all())]
    return align(gs.RGBDFrames.stack(known), torch.stack([frame.T_wc for frame in known]))


def main(
    out: Path = Path("out"),
    real: Path = DATA,
    size: tuple[int, int] = (60, 80),
    rooms: int = 16,
    unseen: int = 6,
    frames: int = 12,
    steps: int = 80,
    seeds: int = 2,
) -> dict:
    """Write learned_information.png and .json: each ATE, cm, and the mean over that with H itself.

    Args:
        out: folder for both.
        real: folder of recordings (see REAL); those that are not there are left out.
        size: image height and width.
        rooms: to train in.
        unseen: rooms to test in, every other one with a Kinect's noise instead of that trained with.
        frames: of each walk, of training and test.
        steps: of training.
        seeds: networks trained; the table has the mean of their errors.
    """
    began = time.perf_counter()
    taught = Edges.joined([clip(random_room(2000 + k), SPEEDS[k % 4], k, frames, size) for k in range(rooms)])
    models = {"H": Hessian(), "H / residual": Hessian(True), "none": Uniform(), "H, robust": Hessian()}
    for seed in range(seeds):
        torch.manual_seed(seed)
        models[f"learned {seed}"] = train(Learned().double(), taught, steps, 0.02, seed)
    tables = {"unseen rooms": {}, "recordings": {}}
    for k in range(unseen):
        edges = clip(random_room(k), SPEEDS[k // 2 % 4], 100 + k, frames, size, kinect=k % 2 == 1)
        name = f"room {k}, {SPEEDS[k // 2 % 4]} frames a step, {'Kinect' if k % 2 else 'as trained'}"
        tables["unseen rooms"][name] = judge(models, edges)
        print(name, tables["unseen rooms"][name], flush=True)
    for name, sequence in recordings(real, REAL):
        tables["recordings"][name] = judge(models, recording(sequence))
        print(name, tables["recordings"][name], flush=True)
    numbers = {
        "ATE, cm": tables,
        "mean ratio to H": {kind: ratios(rows, to="H") for kind, rows in tables.items() if rows},
        "seconds": time.perf_counter() - began,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "learned_information.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "learned_information.png", tables, taught, models["learned 0"])
    print(json.dumps(numbers["mean ratio to H"], indent=2))
    return numbers


@torch.no_grad()
def draw(path: Path, tables: dict, edges: Edges, network: Learned) -> None:
    """How much each alignment of the training rooms is trusted against how far off it is; and the errors."""
    motion = se3.inverse(edges.truth[:, edges.i]) @ edges.truth[:, edges.j]
    off = 100 * (se3.log(se3.inverse(edges.T_ij) @ motion) * TURNS).norm(dim=-1)[edges.ok]
    figure = Figure(figsize=(12, 4.4), dpi=100, layout="constrained")
    left, *right = figure.subplots(1, 3, width_ratios=(1.1, 1.3, 1.0))
    for name, model, color in (("H", Hessian(), "#999999"), ("learned", network, "#d95f02")):
        W = model(edges)[edges.ok]
        sigma = 1 / (W / TURNS).square().sum((-2, -1)).sqrt()  # of the best known direction
        sigma = sigma / sigma[off < 3].median() * off[off < 3].median()
        left.loglog(off, sigma, ".", ms=3, color=color, alpha=0.5, label=name)
    left.set(xlabel="error of an alignment [cm]", ylabel="standard deviation, to scale [cm]", title="training rooms")
    left.legend(frameon=False)
    for axes, (kind, rows) in zip(right, tables.items(), strict=True):
        axes.axvline(1, color="0.7", lw=1)
        for k, row in enumerate(rows.values()):
            for name, error in row.items():
                color = "#d95f02" if name.startswith("learned") else {"H, robust": "#1b9e77"}.get(name)
                if color:
                    axes.plot(error / row["H"], k, "o", ms=5, color=color, alpha=0.7)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
        axes.set(title=f"{kind}; green: robust H", xlabel="error / error with H")
    for axes in (left, *right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
