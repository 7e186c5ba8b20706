"""Results of a run, written to its folder: trajectory, map, mesh, metrics and pictures."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import math
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial, reduce
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from gradslam_ng import evaluation
from gradslam_ng.cameras import LatestFrames
from gradslam_ng.commands.errors import UnreliableError
from gradslam_ng.commands.recording import image_reader
from gradslam_ng.commands.run_folder import remove_results
from gradslam_ng.datasets.findings import Finding
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.geometry.upright import estimate_upright
from gradslam_ng.io.atomic import write_whole
from gradslam_ng.io.covariances import save_covariances
from gradslam_ng.meshing import marching_cubes, tsdf_to_surfels
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.slam import Result
from gradslam_ng.structures import Mesh, SurfelMap, Trajectory, VoxelGrid
from gradslam_ng.structures.surfels import concatenate, save_surfels
from gradslam_ng.viz.scene_files import FRAMES, METRICS, TRAJECTORY, Frames

EVERY = 50  # of the surfels on disk, so many-th is in a picture
log = logging.getLogger("gradslam_ng")

# Keys of `metrics.json` in earlier versions, which this one writes beside the new ones.
DEPRECATED = {
    "frames.weak": "frames.degenerate",
    "frames.relocalised": "frames.relocalized",
    "reasons": "status_counts",
    "milliseconds_per_frame.prepare": "milliseconds_per_frame.preprocess",
    "milliseconds_per_frame.localise": "milliseconds_per_frame.localize",
    "milliseconds_per_frame.relocalise": "milliseconds_per_frame.relocalize",
}


def write(
    out: Path,
    result: Result,
    sequence: RGBDSequence,
    settings,
    findings: list[Finding],
    refinement: dict | None = None,
    *,
    frames: LatestFrames | None = None,
) -> tuple[dict, dict[str, bool]]:
    """Write everything; what fails is reported and does not keep the rest from being written.

    refinement: what is told of one, None where there was none. frames: as they came, where they did not wait.

    Returns the metrics, and for each file whether it was written.
    """
    from gradslam_ng.viz.plots import plot_trajectory
    from gradslam_ng.viz.snapshot import snapshot

    written, sizes, poses = {}, {}, result.localized

    def attempt(name: str, action: Callable[[Path], object]) -> None:
        try:
            with warnings.catch_warnings():  # of fonts that lack a letter of the name
                warnings.filterwarnings("ignore", message="Glyph")
                action(out / name)
            written[name] = True
        except Exception as error:  # whatever it is, it must not cost the other results of a long run
            log.warning("%s was not written: %s", name, error)
            written[name] = False

    remove_results(out)
    attempt(TRAJECTORY, poses.save)
    attempt(FRAMES, Frames(result.trajectory.timestamps, result.statuses).save)
    attempt("covariance.txt", lambda path: write_covariances(path, result))
    for number, (map_, trajectory) in enumerate(result.others, start=1):
        attempt(f"trajectory_{number}.txt", trajectory.save)
        attempt(f"map_{number}.ply", map_.save)
    if isinstance(result.map, VoxelGrid):
        attempt("volume.npz", result.map.save)
        mesh = marching_cubes(result.map)
        attempt("mesh.ply", mesh.save)
        attempt("mesh.glb", lambda path: mesh.save(path, _upright(mesh, poses)))
        sizes = {"blocks": len(result.map.keys), "triangles": len(mesh.faces)}
    surfels = tsdf_to_surfels(result.map) if isinstance(result.map, VoxelGrid) else result.map
    result = dataclasses.replace(result, map=surfels)
    has_map = int(surfels.count[0]) > 0  # odometry makes none
    if has_map:
        attempt("map.ply", lambda path: sizes.update(surfels=save_map(path, result)))
        surfels = overview(result)
    metrics, error = measure(result, sequence, settings)
    add_notes(metrics, sizes, findings, refinement, frames)
    attempt(METRICS, lambda path: write_whole(path, json.dumps(metrics, indent=2) + "\n"))
    title = sequence.name.encode("utf-8", "replace").decode()  # names of files may hold what is no text
    plot = partial(plot_trajectory, estimate=poses, error=error, title=title, warning=warning(metrics))
    if len(poses):
        attempt("trajectory.png", plot)
    if len(poses) and has_map:
        attempt("map.png", lambda path: snapshot(path, surfels, poses))
    attempt("report.html", lambda path: report(path, plot if len(poses) else None, sequence))
    return metrics, written


def report(path: Path, plot: Callable[..., None] | None, sequence: RGBDSequence) -> None:
    """Write the report; plot (path, narrow=): draws the trajectory, None where there is none."""
    from gradslam_ng.viz.report import write_report

    if plot is None:
        write_report(path, image_reader(sequence))
        return
    with tempfile.TemporaryDirectory() as folder:
        narrow = Path(folder) / "narrow.png"
        plot(narrow, narrow=True)
        write_report(path, image_reader(sequence), narrow)


def save_map(path: Path, result: Result) -> int:
    """Write the surfels of a run, those on disk after those in memory. Returns how many there are."""
    assert isinstance(result.map, SurfelMap)
    return save_surfels(path, chain([result.map[0]], [] if result.stored is None else result.stored()))


def overview(result: Result) -> SurfelMap:
    """The map of a run, with as many of the surfels on disk as a picture has use for."""
    assert isinstance(result.map, SurfelMap)
    parts = [] if result.stored is None else result.stored()
    some = [part.compact((torch.arange(part.capacity) % EVERY == 0)[None])[0] for part in parts]
    return concatenate(result.map, reduce(concatenate, some)) if some else result.map


def _upright(mesh: Mesh, poses: Trajectory) -> Tensor | None:
    """The upward direction (3,) of a mesh, None where no camera tells it."""
    return estimate_upright(mesh.normals, poses.T_wc) if len(poses) else None


def add_notes(
    metrics: dict, sizes: dict[str, int], findings: list[Finding], refinement: dict | None, frames: LatestFrames | None
) -> None:
    """How large the map is, what is odd about the recording, what refinement did, and, where frames did not wait, how
    many were dropped and how late the others were done."""
    metrics["map"] |= sizes
    metrics["findings"] = [dataclasses.asdict(finding) for finding in findings]
    if refinement is not None:
        metrics["refinement"] = refinement
    if frames is not None:
        metrics["frames"]["dropped"], metrics["latency_ms"] = frames.dropped, frames.latency()


def warning(metrics: dict) -> str:
    """What the picture of a trajectory says of it; nothing where it may be relied on."""
    return "" if metrics["reliable"] else f"not to be trusted: {metrics['unreliable_because']}"


def write_covariances(path: Path, result: Result) -> None:
    """Write the covariances of the poses in `trajectory.txt`; none where no frame has a pose."""
    tracked = result.tracked
    save_covariances(path, result.trajectory.timestamps[tracked], result.covariances[tracked])


def measure(result: Result, sequence: RGBDSequence, settings) -> tuple[dict, evaluation.ATE | None]:
    """Everything in `metrics.json`, and the error against the ground truth where there is one."""
    tracked = int(result.tracked.sum())
    stages = {name: round(ms, 3) for name, ms in result.milliseconds.items()}
    reason = doubt(result)
    origin = [0.0] * 3 if result.map.origin is None else result.map.origin[0].tolist()
    metrics = {
        "version": version(),
        "sequence": sequence.name,
        "reliable": reason is None,
        "unreliable_because": reason,
        "exit_status": 130 if result.interrupted else 0 if reason is None else UnreliableError.status,
        "settings": dataclasses.asdict(settings),
        "camera": describe_camera(sequence),
        "interrupted": result.interrupted,
        "frames": {
            "in_sequence": len(sequence),
            "tracked": tracked,
            "degenerate": int((result.statuses == TrackingStatus.DEGENERATE).sum()),
            "unconfirmed": int((result.statuses == TrackingStatus.UNCONFIRMED).sum()),
            "lost": len(result.tracked) - tracked,
            "skipped": len(result.skipped),
            "relocalized": len(result.relocalized),
        },
        "status_counts": {TrackingStatus(i).name.lower(): n for i, n in Counter(result.statuses.tolist()).items() if i},
        "skipped": result.skipped,
        "relocalized_at": result.relocalized,
        "submaps": result.submaps,
        "milliseconds_per_frame": stages | {"total": round(sum(stages.values()), 3)},
        "seconds_compiling": round(result.seconds_compiling, 1),
        "peak_memory_mb": peak_memory(),
        "map": {"surfels": int(result.map.count[0]), "origin": origin},
        "loops": result.loops,
        "loop_frames": result.loop_frames,
    }
    add_deprecated_keys(metrics)
    if sequence.ground_truth is None:
        return metrics, None
    try:
        error = evaluation.ate(sequence.ground_truth, result.localized)
        rpe = evaluation.rpe(sequence.ground_truth, result.localized)
    except ValueError as reason:
        log.warning("no comparison with the ground truth: %s", reason)
        return metrics, None
    metrics["ate"] = summary(error)
    metrics["rpe"] = {"translation": summary(rpe.translation), "rotation": summary(rpe.rotation)}
    return metrics, error


def version() -> str:
    """Of this package, as it is installed."""
    try:
        return importlib.metadata.version("gradslam_ng")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def describe_camera(sequence: RGBDSequence) -> dict[str, float]:
    """Intrinsics and image size, pixels."""
    (fx, _, cx), (_, fy, cy), _ = sequence.K.tolist()
    height, width = sequence.size
    return {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}


def doubt(result: Result) -> str | None:
    """Why the results of a run are not to be relied on; None where they may be.

    They are not where more than half of the frames were lost or skipped, or where most of those that were tracked are
    uncertain: they left directions of motion open, or nothing confirmed a wide step.
    """
    tracked, frames = int(result.tracked.sum()), len(result.tracked) + len(result.skipped)
    degenerate = int((result.statuses == TrackingStatus.DEGENERATE).sum())
    uncertain = int(TrackingStatus.is_uncertain(result.statuses).sum())
    if 2 * (frames - tracked) > frames:
        lost = len(result.tracked) - tracked
        without = f"{frames - tracked} of {frames} frames have no pose"
        if apart := int((result.statuses == TrackingStatus.UNCONNECTED).sum()):
            rest = f"{apart} in submaps that are not connected with it, {lost - apart} lost"
            return f"{without} in the map: {rest} and {len(result.skipped)} skipped"
        return f"{without}, {lost} lost and {len(result.skipped)} skipped"
    if 2 * degenerate > tracked:
        return (
            f"{degenerate} of {tracked} tracked frames are degenerate: what they see leaves directions of motion open"
        )
    if 2 * uncertain > tracked:
        return (
            f"{uncertain} of {tracked} tracked frames are uncertain: degenerate, or a wide step that nothing confirms"
        )
    return None


def add_deprecated_keys(metrics: dict) -> None:
    """Write what readers of earlier versions look for beside the new keys, and list it under `deprecated_keys`."""
    added = []
    for old, new in DEPRECATED.items():
        *path, name = new.split(".")
        table = metrics[path[0]] if path else metrics
        if name in table:
            table[old.rpartition(".")[2]] = table[name]
            added.append(old)
    metrics["deprecated_keys"] = added


def summary(statistics: evaluation.Statistics) -> dict[str, float]:
    """The summary of a set of errors, meters or degrees; JSON knows no NaN."""
    return {name: value for name, value in statistics.summary().items() if math.isfinite(value)}


def peak_memory() -> float:
    """Of this process so far, on the GPU where one was used, MB; 0 where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
