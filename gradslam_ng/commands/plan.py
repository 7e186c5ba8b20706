"""`gradslam-ng plan MAP --start x y --goal x y --out DIR`: the shortest safe path over the floor of a map."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from gradslam_ng import planning
from gradslam_ng.commands.arguments import OPTIONAL, OptionalStr
from gradslam_ng.commands.console import working
from gradslam_ng.commands.errors import NoRoomError, OutsideError, UnreachableError, UnseenError, UsageError
from gradslam_ng.commands.recording import SourceOptions, is_synthetic
from gradslam_ng.commands.run_folder import check_writable, load_estimate, map_file, metrics_beside
from gradslam_ng.io.atomic import write_whole
from gradslam_ng.structures import RGBDFrames, SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.viz.floor_plan import plot_plan

FRAMES = 100  # of a recording, at most, that tell what is free
CHUNK = 10  # frames at a time

MapPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MAP")]
Start = Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="X Y [YAW]", help_behavior_hint=OPTIONAL)]
Goal = Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="X Y", help_behavior_hint=OPTIONAL)]
Up = Annotated[tuple[float, float, float] | None, tyro.conf.arg(metavar="X Y Z", help_behavior_hint=OPTIONAL)]


@dataclass(frozen=True)
class GridOptions:
    """How the map becomes a grid of free, occupied and unknown cells.

    Args:
        unknown: Whether what nobody has seen is an obstacle, is not, or makes a path cost more.
        recording: What the map was made of, whose depth tells what is free; default: that which metrics.json names.
        up: The upward direction in the map; default: that of cameras and level surfaces.
        heights: Meters above the floor between which there must be room.
        cell: Of the grid, meters.
    """

    unknown: Literal["blocked", "free", "costly"] = "blocked"
    recording: OptionalStr = None
    up: Up = None
    heights: tuple[float, float] = (0.1, 1.3)
    cell: float = 0.05

    def check(self) -> None:
        """Raises UsageError for numbers that make no sense."""
        low, high = self.heights
        if not -math.inf < low < high < math.inf:
            raise UsageError(f"heights: expected two, meters above the floor, the lower first, got {low:g} {high:g}")
        if not 0 < self.cell < math.inf:
            raise UsageError(f"cell: expected a positive number of meters, got {self.cell:g}")
        if self.up is not None and not 0 < math.hypot(*self.up) < math.inf:
            raise UsageError(f"up: expected a direction, got {' '.join(f'{x:g}' for x in self.up)}")


@torch.no_grad()
def plan(
    map_: MapPath,
    /,
    *,
    out: Path,
    start: Start = None,
    goal: Goal = None,
    radius: float = 0.25,
    grid: Annotated[GridOptions, tyro.conf.OmitArgPrefixes],
    smooth: bool = True,
) -> None:
    """Find the shortest safe path over the floor: path.txt, plan.png and plan.json. Without start and goal, draw
    where one could go.

    Args:
        map_: The folder of a run; or map.ply, that of a submap, or volume.npz in it.
        out: Folder for the results; made if need be.
        start: Meters, in the axes of plan.png, which are the map's where its z is up; yaw in degrees.
        goal: Meters.
        radius: Of what moves, meters.
        smooth: Smooth the path where it stays safe.
    """
    ends = _check_ends(start, goal)
    if not 0 <= radius < math.inf:
        raise UsageError(f"radius: expected a number of meters from 0 on, got {radius:g}")
    grid.check()
    file = map_file(map_)
    check_writable(out)
    console = Console()
    occupancy = _occupancy(file, grid, console)
    found = planning.esdf(occupancy, unknown=grid.unknown)
    if ends is None:
        plot_plan(out / "plan.png", occupancy, found.distance, radius=radius, title=file.parent.name)
        _print_room(out, found, radius, console)
        return
    for name, p in zip(("start", "goal"), ends, strict=True):
        _check_place(name, p, found, radius, grid.unknown)
    picture = partial(plot_plan, out / "plan.png", occupancy, found.distance, ends=torch.stack(ends), radius=radius)
    try:
        path = planning.safe_path(occupancy, *ends, radius=radius, unknown=grid.unknown, smoothed=smooth)
    except planning.NoWayError as error:
        picture(title=f"{file.parent.name}: no way")
        hint = "" if grid.unknown != "blocked" else "; with --unknown costly it may lead through what nobody has seen"
        raise UnreachableError(f"{error}{hint}") from None
    summary = _summary(path, occupancy, ends, start, radius, grid.unknown)
    _write(out, path, occupancy, summary)
    title = f"{file.parent.name}: {path.length:.2f} m, at least {path.clearance:.2f} m from obstacles"
    picture(points=path.points, title=title)
    _print_summary(out, summary, console)


def _check_ends(start: tuple[float, ...] | None, goal: tuple[float, ...] | None) -> tuple[Tensor, Tensor] | None:
    """Start and goal (2,), or None where neither is given."""
    if (start is None) != (goal is None):
        raise UsageError("start, goal: expected both, or neither, which draws where one could go")
    if start is None or goal is None:
        return None
    for name, value, lengths in (("start", start, (2, 3)), ("goal", goal, (2,))):
        if len(value) not in lengths or not all(map(math.isfinite, value)):
            shape = "x y, or x y yaw," if name == "start" else "x y"
            raise UsageError(f"{name}: expected {shape} meters, got {' '.join(f'{x:g}' for x in value)}")
    return torch.tensor(start[:2], dtype=torch.float64), torch.tensor(goal, dtype=torch.float64)


def _occupancy(file: Path, options: GridOptions, console: Console) -> planning.Occupancy:
    """The grid in the plane of a map, with what its recording's cameras saw to be free."""
    one = VoxelGrid.load(file) if file.suffix.lower() == ".npz" else SurfelMap.load(file)
    submap = re.fullmatch(r"map(_\d+)", file.stem)
    poses = file.with_name(f"trajectory{submap[1] if submap else ''}.txt")
    trajectory = load_estimate(poses) if poses.is_file() else None
    if options.up is None and not trajectory:
        raise ValueError(f"up: no pose in {poses} would tell what is up; give --up, such as --up 0 0 1")
    up = torch.tensor(options.up) if options.up or not trajectory else planning.estimate_up(one, trajectory.T_wc)
    if trajectory and float(-trajectory.T_wc[:, :3, 1].nanmean(0).double() @ up.double()) < 0:
        console.print("[yellow]warning:[/yellow] up: by it most cameras were upside down", soft_wrap=True)
    low = options.cell if not isinstance(one, VoxelGrid) else max(options.cell, one.voxel_size)
    grid = planning.Occupancy.of(one, up=up, heights=options.heights, cell=low)
    if trajectory is not None and not len(trajectory):
        console.print("[yellow]warning:[/yellow] no frame has a pose in this map: only the map tells what is free")
        return grid.flatten()
    recording = _recording(options, metrics_beside(file).get("settings", {}))
    if recording is None or trajectory is None:
        console.print("[yellow]warning:[/yellow] no recording tells what is free: only the map does", soft_wrap=True)
        return grid.flatten()
    step = max(1, math.ceil(len(recording) / FRAMES))
    frames = list(range(0, len(recording), step))
    with working(f"what {len(frames)} frames saw to be free"):
        for first in range(0, len(frames), CHUNK):
            grid = grid.carve(_with_poses([recording[i] for i in frames[first : first + CHUNK]], trajectory))
    return grid.flatten()


def _with_poses(frames: list[RGBDFrames], trajectory: Trajectory) -> RGBDFrames:
    clip = RGBDFrames.stack(frames)
    times = torch.stack([torch.as_tensor(frame.timestamps, dtype=torch.float64) for frame in frames])
    return replace(clip, T_wc=trajectory.at(times)[0])


def _recording(options: GridOptions, settings: dict[str, Any]):
    """The recording of which a map was made, None where none is named.

    Raises:
        FileNotFoundError: that which is named is not there.
    """
    source = options.recording or settings.get("source")
    if source is None:
        return None
    if options.recording is None and not is_synthetic(source) and not Path(source).exists():
        raise FileNotFoundError(
            f"recording: {source}, of which the map was made, is not there to tell what is free; give --recording"
        )
    return SourceOptions.of_run(settings, source).load(source)


def _check_place(name: str, p: Tensor, found: planning.ESDF, radius: float, unknown: str) -> None:
    """Raises OutsideError, UnseenError or NoRoomError for a start or goal where nothing can stand."""
    grid, place = found.grid, _place(p)
    cell = grid.index(p)
    if not bool(grid.contains(cell)):
        last = grid.center(torch.tensor(grid.state.shape) - 1)
        reach = " and ".join(f"{a:.2f} to {b:.2f}" for a, b in zip(grid.origin.tolist(), last.tolist(), strict=True))
        raise OutsideError(f"{name}: expected a place on the map, x and y {reach} m, got {place}")
    at = tuple(cell.tolist())
    if unknown == "blocked" and bool(grid.unknown[at]):
        hint = "--unknown free or costly would go there"
        raise UnseenError(f"{name}: nobody has seen {place}{_nearest_room(p, found, radius)}; {hint}")
    distance = float(found.distance[at])
    if distance < radius:
        what = "an obstacle, or unknown space," if unknown == "blocked" else "an obstacle"
        away = f"{place} is in {what}" if distance < 0 else f"{place} is {distance:.3f} m from {what}"
        raise NoRoomError(f"{name}: {away} and {radius:g} m are needed{_nearest_room(p, found, radius)}")


def _nearest_room(p: Tensor, found: planning.ESDF, radius: float) -> str:
    room = found.grid.centers()[found.distance >= radius]
    if not len(room):
        return "; there is no place on the map with so much room"
    return f"; the nearest place with room is {_place(room[(room - p).norm(dim=-1).argmin()])}"


def _place(p: Tensor) -> str:
    return " ".join(f"{x:.2f}" for x in p.tolist())


def _summary(
    path: planning.SafePath,
    grid: planning.Occupancy,
    ends: tuple[Tensor, Tensor],
    start: tuple[float, ...] | None,
    radius: float,
    unknown: str,
) -> dict[str, Any]:
    """What is in plan.json."""
    return {
        "length_m": path.length,
        "clearance_m": path.clearance if math.isfinite(path.clearance) else None,
        "unknown_m": path.unknown,
        "cost": float(path.cost),
        "smoothed": path.smoothed,
        "turn_at_start_deg": _turn(path.points, start),
        "start": ends[0].tolist(),
        "goal": ends[1].tolist(),
        "radius_m": radius,
        "unknown": unknown,
        "cell_m": grid.cell,
        "floor_m": grid.floor,
        "axes": grid.axes.tolist(),
    }


def _turn(points: Tensor, start: tuple[float, ...] | None) -> float | None:
    """Degrees from the yaw at the start, where it is told, to the direction in which the path begins."""
    steps = points.diff(dim=0)
    moving = steps[steps.norm(dim=-1) > 0]
    if start is None or len(start) < 3 or not len(moving):
        return None
    heading = math.degrees(math.atan2(float(moving[0, 1]), float(moving[0, 0])))
    return (heading - start[2] + 180) % 360 - 180


def _write(out: Path, path: planning.SafePath, grid: planning.Occupancy, summary: dict[str, Any]) -> None:
    lines = ["# x y [m, in the axes of plan.png], then the same on the floor of the map: x y z [m]"]
    for p, world in zip(path.points.tolist(), grid.to_world(path.points).tolist(), strict=True):
        lines.append(" ".join(f"{x:.4f}" for x in (*p, *world)))
    write_whole(out / "path.txt", "\n".join(lines) + "\n")
    write_whole(out / "plan.json", json.dumps(summary, indent=2) + "\n")


def _print_room(out: Path, found: planning.ESDF, radius: float, console: Console) -> None:
    most = float(found.distance.max())
    if most < radius:
        hint = f"the most is {most:.3f} m" if most > 0 else "there is no free cell"
        console.print(f"[yellow]warning:[/yellow] radius: nowhere are {radius:g} m of room; {hint}", soft_wrap=True)
    console.print(f"{escape(str(out / 'plan.png'))}: where one could go; give --start and --goal", soft_wrap=True)


def _print_summary(out: Path, summary: dict[str, Any], console: Console) -> None:
    table = Table(show_header=False, title=escape(str(out)))
    table.add_row("length", f"{summary['length_m']:.2f} m")
    clearance = summary["clearance_m"]
    table.add_row("least distance", "no obstacle" if clearance is None else f"{clearance:.3f} m")
    table.add_row("in unknown space", f"{summary['unknown_m']:.2f} m")
    table.add_row("cost", f"{summary['cost']:.2f}")
    if summary["turn_at_start_deg"] is not None:
        table.add_row("turn at the start", f"{summary['turn_at_start_deg']:.0f} degrees")
    table.add_row("written", "path.txt, plan.png, plan.json")
    console.print(table)
