"""Pose from an image: a camera up to 5 cm and 5 degrees off finds its place by what it should see from there.

The difference between an image and what a map shows from a pose, in color and depth, has a derivative to the pose,
through the renderer. Levenberg-Marquardt descends it, from small images and much tolerance to larger ones and little,
and brings the camera back: in a surfel map, rendered as discs, and in a volume, ray-cast. Nothing is matched and no
feature is found.

    python -m demos.pose_from_image --out out                            # 5 starts for each of 2 images
    python -m demos.pose_from_image --targets 10 --starts 10 --seed 7    # the figures of demos/README.md
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng import optim
from gradslam_ng.geometry import camera, images, se3

# how much the image is shrunk; meters and shades at which a difference counts half of what it can at most; steps
STAGES = ((3, 0.3, 0.5, 20), (2, 0.03, 0.1, 12), (2, 0.005, 0.1, 8))
KERNEL = optim.GemanMcClure(1.0)


class Difference:
    """How a view differs from an image, as a least-squares problem over T_wc (B, 4, 4) for `optim.solve`.

    Differences in depth count along the surface's normal, as tracking has them: along the ray, slanted walls would
    outweigh all else. A reading that the view does not show costs what the worst does, so that to look elsewhere is
    never the way out.

    Image and view are shrunk alike, from full size: a small view drawn as such sees a point in each pixel, and its
    derivative is that of the paint around this point, not of what the pixel holds.
    """

    def __init__(self, show: Callable, frame: gs.RGBDFrames, factor: int, depth: float, color: float) -> None:
        self.show, self.factor = show, factor  # show(T_wc, K, size) is an image of the map
        self.K, self.size = frame.K, frame.size
        self.depth, self.color = shrunk(frame.depth, frame.color, factor)
        self.units = frame.depth.new_tensor([depth, *[color * 3**0.5] * 3])
        self.rays = camera.unproject(torch.ones_like(self.depth), camera.scale_intrinsics(frame.K, 1 / factor))
        self.read = (self.depth > 0)[..., 0]

    def residuals(self, T_wc: Tensor) -> tuple[Tensor, Tensor]:
        """Of depth and color, (B, H, W, 4) without unit, and where there are any, (B, H, W)."""
        seen = self.show(T_wc, self.K, self.size)
        depth, color = shrunk(seen.depth, seen.color, self.factor)
        normal = torch.nn.functional.normalize(images.downsample_color(seen.normal.detach(), self.factor), dim=-1)
        facing = (normal * self.rays).sum(-1, keepdim=True)
        off = torch.cat([facing * (depth - self.depth), color - self.color], -1) / self.units
        both = self.read & (depth.detach() > 0)[..., 0]
        return torch.where(both[..., None], off, 0.0), both

    def cost(self, squares: Tensor, both: Tensor) -> Tensor:
        """Mean over the readings; squares (B, H, W, 2), of depth and of color."""
        rho = torch.where(both[..., None], KERNEL.rho(squares), KERNEL.scale**2)
        return 0.5 * (rho.sum(-1) * self.read).mean((1, 2))

    def error(self, T_wc: Tensor) -> Tensor:
        off, both = self.residuals(T_wc)
        return self.cost(squared(off), both)

    def linearize(self, T_wc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The renderer is differentiated backwards, and that once more: J^T u is linear in u, and its derivative J."""
        with torch.enable_grad():
            xi = T_wc.new_zeros(len(T_wc), 6).requires_grad_()
            off, both = self.residuals(self.retract(T_wc, xi))
            u = torch.zeros_like(off).requires_grad_()
            (pulled,) = torch.autograd.grad(off, xi, u, create_graph=True)
            columns = [torch.autograd.grad(pulled[:, i].sum(), u, retain_graph=True)[0] for i in range(6)]
        off, J = off.detach(), torch.stack(columns, -1).flatten(1, -2)
        squares = squared(off)
        weight = KERNEL.weight(squares)[..., [0, 1, 1, 1]].flatten(1)[..., None]
        normal = J.mT @ (weight * torch.cat([J, off.flatten(1)[..., None]], -1)) / both[0].numel()
        return normal[..., :6], normal[..., 6], self.cost(squares, both)

    def retract(self, T_wc: Tensor, xi: Tensor) -> Tensor:
        """Turned about the camera, not about the world's origin."""
        center = torch.eye(4).to(T_wc).repeat(len(T_wc), 1, 1)
        center[:, :3, 3] = T_wc[:, :3, 3]
        return center @ se3.exp(xi) @ se3.inverse(center) @ T_wc


def squared(off: Tensor) -> Tensor:
    """(..., 2), of depth and of color, from their residuals (..., 4)."""
    return torch.stack([off[..., 0].square(), off[..., 1:].square().sum(-1)], -1)


def shrunk(depth: Tensor, color: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Both (B, H, W, ...) at a smaller size."""
    return images.downsample_depth(depth, factor), images.downsample_color(color, factor)


@torch.no_grad()
def localize(show: Callable, T_wc: Tensor, frame: gs.RGBDFrames) -> list[Tensor]:
    """The pose (B, 4, 4) at which a camera that starts at T_wc ends, after each of the stages."""
    poses = []
    for factor, depth, color, steps in STAGES:
        problem = Difference(show, frame, factor, depth, color)
        T_wc = optim.solve(problem, T_wc, optim.LevenbergMarquardt(), steps, tolerance=1e-3).x
        poses.append(T_wc)
    return poses


def off(T_wc: Tensor, truth: Tensor) -> tuple[float, float]:
    """Millimeters and degrees between two poses (1, 4, 4)."""
    xi = se3.log(se3.inverse(truth.double()) @ T_wc.double())[0]
    return 1e3 * float((T_wc - truth)[0, :3, 3].norm()), float(xi[3:].norm().rad2deg())


def astray(truth: Tensor, generator: torch.Generator) -> Tensor:
    """A pose (1, 4, 4) up to 5 cm and 5 degrees from the truth, even over the two balls."""
    direction = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator), dim=-1)
    reach = torch.rand(2, 1, generator=generator) ** (1 / 3) * torch.tensor([[0.05], [torch.pi / 36]])
    return truth @ se3.exp((reach * direction).reshape(1, 6))


def main(
    out: Path = Path("out"),
    targets: int = 2,
    starts: int = 5,
    seed: int = 0,
    room: str = "living_room",
    path: str = "handheld",
    frames: int = 12,
    size: tuple[int, int] = (180, 240),
    maps: tuple[Literal["surfels", "volume"], ...] = ("surfels", "volume"),
) -> dict:
    """Write pose_from_image.png and .json.

    Args:
        out: folder for both.
        targets: images to be localized, none of them in the maps.
        starts: random ones for each image.
        seed: of the camera's motion and of the starts.
        room: see `gs.datasets.Synthetic`.
        path: likewise.
        frames: that the maps are made of, 6 apart.
        size: height and width of the images.
        maps: in which to look.
    """
    every = 6
    build = gs.datasets.Synthetic(room, frames=every * frames, size=(240, 320), path=path, seed=seed)
    clip = gs.RGBDFrames.stack([build[i] for i in range(0, every * frames, every)])
    systems = {"surfels": (gs.PointFusion, gs.render), "volume": (gs.KinectFusion, gs.raycast)}
    views = gs.datasets.Synthetic(room, frames=every * frames, size=size, path=path, seed=seed)
    middles = [every * round((i + 0.5) * (frames - 1) / targets - 0.5) + every // 2 for i in range(targets)]
    found = [views[i].map(lambda value: value[None]).to(dtype=torch.float32) for i in middles]
    result, pictures = {"room": room, "path": path, "seed": seed, "targets": middles}, {}
    for name in maps:
        system, draw_map = systems[name]
        with torch.no_grad():
            renderer = partial(draw_map, system(odometry="ground-truth")(clip)[0])
        generator, errors = torch.Generator().manual_seed(seed), []
        began = time.process_time()
        for frame in found:
            for _ in range(starts):
                start = astray(frame.T_wc, generator)
                poses = [start, *localize(renderer, start, frame)]
                errors.append([off(T, frame.T_wc) for T in poses])
                pictures.setdefault(name, [frame, renderer, poses[0], poses[-1]])
        spent = (time.process_time() - began) / len(errors)
        e = torch.tensor(errors)  # (starts, stages, 2)
        there = (e[:, -1, 0] < 2) & (e[:, -1, 1] < 0.1)
        result[name] = {
            "starts": len(errors),
            "there": int(there.sum()),
            "start, mm and degrees (mean)": e[:, 0].mean(0).tolist(),
            "end, mm and degrees (median)": e[:, -1].median(0).values.tolist(),
            "end, mm and degrees (worst)": e[:, -1].amax(0).tolist(),
            "seconds a start": spent,
            "mm and degrees by stage": [[[round(x, 4) for x in stage] for stage in row] for row in e.tolist()],
        }
        pictures[name].append(e)
        print(name, result[name], flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "pose_from_image.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(out / "pose_from_image.png", pictures)
    return result


@torch.no_grad()
def draw(path: Path, pictures: dict[str, list]) -> None:
    """The image, how it differs from what is seen from the first start and from its end, and the errors of all."""
    figure = Figure(figsize=(13, 2.6 * len(pictures)), dpi=90, layout="constrained")
    rows = figure.subplots(len(pictures), 4, squeeze=False)
    for axes, (name, (frame, show, *poses, errors)) in zip(rows, pictures.items(), strict=True):
        seen = [show(T, frame.K, frame.size).color for T in poses]
        shown = [frame.color[0], *(0.5 + 2 * (x - frame.color)[0] for x in seen)]
        titles = "image", f"{name}: difference, from the start", "from where it ended"
        for ax, picture, title in zip(axes, shown, titles, strict=False):
            ax.imshow(picture.clamp(0, 1).numpy())
            ax.set(xticks=[], yticks=[], title=title)
        for mm, degrees in errors.movedim(-1, 1):
            axes[3].semilogy(mm, color="tab:blue", lw=0.7, alpha=0.6)
            axes[3].semilogy(degrees, color="tab:orange", lw=0.7, alpha=0.6)
        axes[3].axhline(2, color="tab:blue", ls=":")
        axes[3].axhline(0.1, color="tab:orange", ls=":")
        axes[3].set(xticks=range(errors.shape[1]), xlabel="stage", title="mm (blue) and degrees (orange) off")
    figure.savefig(path)


if __name__ == "__main__":
    tyro.cli(main)
