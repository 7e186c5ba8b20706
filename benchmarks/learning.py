"""Does the gradient through tracking help? `python -m benchmarks.learning [--only TASK]`.

Tasks in which something is learned by descending through PointFusion, once for each way in which poses are
differentiated: not at all (`detach`), through all iterations (`unroll`), through the last (`truncated`) and by the
implicit function theorem (`implicit`). All else is the same: start, clips, steps. What counts is the error afterwards.
How long the parts of the first gradient are that come through depth itself and through poses is given beside it.

Rendered living room of 80x60. Each task and way is measured once and kept in the result file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import tyro
from rich.console import Console
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import gradslam_ng as gs
from benchmarks.report import save, stored
from demos.common.clips import random_indices, rendered
from demos.common.consistency import disagreement
from demos.depth_bias import PRIOR, BiasField, bent, depth_error, with_best_factor
from gradslam_ng.geometry import camera, images, se3
from gradslam_ng.odometry import ProjectiveICP

SIZE = (60, 80)
FRAMES = 40  # rendered, every second one
WAYS = ("detach", "unroll", "truncated", "implicit")
LENGTH, EVERY = 8, 2  # of the clip whose depth is learned
OFF = 0.018  # meters by which its depth is off, standard deviation


@dataclass(frozen=True)
class Room:
    """Frames (N,) of the room with Kinect noise, poses true, and exact depth (N, H, W, 1)."""

    noisy: gs.RGBDFrames
    exact: Tensor

    @staticmethod
    def render(frames: int, size: tuple[int, int]) -> Room:
        recording, exact = rendered(frames, size, every=2)
        return Room(recording.frames, exact)

    def clip(self, length: int, every: int) -> tuple[gs.RGBDFrames, Tensor]:
        """The first frames (1, L), the first at the origin, and their exact depth (1, L, H, W, 1)."""
        part = self.noisy[: length * every : every]
        T_wc = (se3.inverse(part.T_wc[:1]) @ part.T_wc).float()
        return gs.RGBDFrames(part.color, part.depth, part.K, T_wc)[None], self.exact[: length * every : every][None]


class Task:
    """Something to learn: parameters, a loss of the map and poses that they lead to, and an error in `unit`."""

    unit = "mm"
    rate = 1e-3
    learned: nn.Module

    def loss(self, slam: gs.PointFusion, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def error(self) -> float:
        raise NotImplementedError

    def wrong(self) -> Tensor | None:
        """What is wrong with all that is learned (n,), where it is known."""
        return None


class DepthOfClip(Task):
    """An image by which the depth of eight frames is off. Loss: distance of their map from the exact surface."""

    rate = 3e-3

    def __init__(self, room: Room) -> None:
        frames, self.exact = room.clip(LENGTH, EVERY)
        generator = torch.Generator().manual_seed(0)
        coarse = torch.randn(1, 1, 8, 10, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, self.exact.shape[2:4], mode="bicubic")[:, 0, ..., None]
        depth = torch.where(self.exact > 0, self.exact + OFF * smooth / smooth.std(), 0)
        self.frames = gs.RGBDFrames(frames.color, depth, frames.K, frames.T_wc)
        self.learned = nn.ParameterList([nn.Parameter(torch.zeros_like(self.frames.depth[0, 0]))])
        p_w = se3.transform(self.frames.T_wc[..., None, :, :], camera.unproject(self.exact, self.frames.K))
        normals = se3.rotate(
            self.frames.T_wc[..., None, :, :], images.normal_map(camera.unproject(self.exact, self.frames.K))
        )
        good = (normals.norm(dim=-1) > 0.5) & (self.exact[..., 0] > 0)
        self.points, self.normals = p_w[good], normals[good]
        self.tree = cKDTree(self.points.numpy())

    def corrected(self) -> gs.RGBDFrames:
        depth = self.frames.depth
        return gs.RGBDFrames(self.frames.color, torch.where(depth > 0, depth + self.learned[0], 0), self.frames.K)

    def of_map(self, map_: gs.SurfelMap, T_wc: Tensor) -> Tensor:
        """Mean squared distance along the normal of the exact surface, cm^2, each 4 at most."""
        p = map_.points[map_.mask]
        nearest = self.tree.query(p.detach().numpy())[1]
        off = 100 * ((p - self.points[nearest]) * self.normals[nearest]).sum(-1)
        return (off.square() / (1 + off.square() / 4)).mean()

    def loss(self, slam: gs.PointFusion, generator: torch.Generator) -> Tensor:
        return self.of_map(*slam(self.corrected()))

    def error(self) -> float:
        counted = (self.frames.depth > 0) & (self.exact > 0)
        return 1e3 * float((self.corrected().depth.detach() - self.exact)[counted].abs().mean())

    def wrong(self) -> Tensor:
        counted = (self.frames.depth > 0) & (self.exact > 0)
        return torch.where(counted, self.frames.depth - self.exact, 0).sum(dim=(0, 1)).flatten()


class DepthOfClipCentered(DepthOfClip):
    """The same, the map compared where the true poses of the frames that founded its surfels put it."""

    def of_map(self, map_: gs.SurfelMap, T_wc: Tensor) -> Tensor:
        founded = map_.created[map_.mask]
        back = self.frames.T_wc[0] @ se3.inverse(T_wc[0])
        p = se3.transform(back[founded], map_.points[map_.mask][:, None])[:, 0]
        nearest = self.tree.query(p.detach().numpy())[1]
        off = 100 * ((p - self.points[nearest]) * self.normals[nearest]).sum(-1)
        return (off.square() / (1 + off.square() / 4)).mean()


class Bias(Task):
    """A field of depth bias. Loss: how far the frames of random clips disagree. Error: of depth on later frames."""

    def __init__(self, room: Room) -> None:
        cut = int(0.65 * len(room.exact))
        self.earlier, self.later = room.noisy[:cut], room.noisy[cut:]
        self.exact = torch.where(self.later.depth > 0, room.exact[cut:], 0)
        self.learned = BiasField(room.noisy.size)

    def clips(self, generator: torch.Generator) -> tuple[gs.RGBDFrames, Tensor]:
        which = random_indices(len(self.earlier), 2, 4, 4, generator)
        frames = self.earlier
        corrected = self.learned(bent(frames.depth[which]))
        return gs.RGBDFrames(frames.color[which], corrected, frames.K[which]), frames.T_wc[which]

    def loss(self, slam: gs.PointFusion, generator: torch.Generator) -> Tensor:
        corrected, _ = self.clips(generator)
        return disagreement(corrected, slam(corrected)[1]) + PRIOR * self.learned.prior()

    def error(self) -> float:
        measured = bent(self.later.depth)
        corrected = self.learned(measured)
        return depth_error(with_best_factor(corrected, self.exact), self.exact)


class BiasFromPoses(Bias):
    """The same from true poses. Loss: squared distances of the poses found, cm and half degrees."""

    def loss(self, slam: gs.PointFusion, generator: torch.Generator) -> Tensor:
        corrected, truth = self.clips(generator)
        xi = se3.log(se3.inverse(se3.inverse(truth[:, :1]) @ truth).float() @ slam(corrected)[1])
        return (100 * xi[:, 1:]).square().sum(-1).mean()


TASKS: dict[str, tuple[type[Task], int]] = {  # and steps
    "depth of eight frames, from the map": (DepthOfClip, 15),
    "depth of eight frames, from the map at true poses": (DepthOfClipCentered, 15),
    "depth bias, from disagreement": (Bias, 30),
    "depth bias, from poses": (BiasFromPoses, 30),
}


def system(way: str) -> gs.PointFusion:
    """PointFusion whose poses are differentiated that way."""
    odometry = ProjectiveICP(photometric=False, iterations=(3, 3), rotation_iterations=0, backward=way)
    return gs.PointFusion(odometry, factor=1)


def gradient(task: Task, way: str) -> Tensor:
    """That of the first loss in all that is learned, (n,)."""
    loss = task.loss(system(way), torch.Generator().manual_seed(0))
    if not loss.requires_grad:
        return torch.zeros(sum(p.numel() for p in task.learned.parameters()))
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(task.learned.parameters()))])


def measure(task: Task, way: str, steps: int) -> dict[str, Any]:
    """Loss and error before and after so many steps of Adam, and the length of the gradient's parts at the first."""
    whole, direct = gradient(task, way), gradient(task, "detach")
    row: dict[str, Any] = {"through depth": float(direct.norm()), "through poses": float((whole - direct).norm())}
    wrong = task.wrong()
    if wrong is not None:
        parts = {"through depth": direct, "through poses": whole - direct, "both": whole}
        row["cosine to what is wrong"] = {name: float(cosine_similarity(g, wrong, dim=0)) for name, g in parts.items()}
    generator, losses = torch.Generator().manual_seed(0), []
    with torch.no_grad():
        row["error before"] = task.error()
    if float(whole.norm()) == 0:
        return row | {"error after": row["error before"]}
    descent = torch.optim.Adam(task.learned.parameters(), lr=task.rate, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps)
    for _ in range(steps):
        loss = task.loss(system(way), generator)
        descent.zero_grad()
        loss.backward()
        descent.step()
        schedule.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        row["error after"] = task.error()
    few = max(1, steps // 10)
    return row | {"loss before": sum(losses[:few]) / few, "loss after": sum(losses[-few:]) / few}


def measured() -> dict[str, Any]:
    """What has been measured."""
    return stored("learning").get("rows", {})


def main(only: str = "", frames: int = FRAMES) -> None:
    """Measure what is not there yet, and print it.

    Args:
        only: Part of "task/way".
        frames: Of the room, rendered.
    """
    torch.set_num_threads(1)
    console, room = Console(), None
    for name, (task, steps) in TASKS.items():
        for way in WAYS:
            key = f"{name}/{way}"
            if only not in key or key in measured():
                continue
            room = Room.render(frames, SIZE) if room is None else room
            row = measure(task(room), way, steps)
            save("learning", {"rows": measured() | {key: row | {"steps": steps}}}, images="80x60")
            console.print(key, row)


if __name__ == "__main__":
    tyro.cli(main)
