"""A report on a run: one HTML file with everything in it, which needs no network.

What was run and how it went in a sentence, the map to turn around (WebGL), the trajectory and its error, timing, frames
lost and why, what is odd about the recording, camera, settings, and the command that runs it again.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch

from gradslam_ng.io.atomic import write_whole
from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.viz.report_scene import describe_scene
from gradslam_ng.viz.scene import COLORS, LOOP_COLOR, NAMES, Scene
from gradslam_ng.viz.scene_files import FRAMES, Frames, read_metrics, read_run

MOST_POINTS = 80_000  # of the map, 16 bytes each
MOST_IMAGES = 6  # of frames that were lost
IMAGE_WIDTH = 200  # pixels, of their pictures
PHONE = 700  # pixels, where a page is narrow
ALL_FRAMES = "::"
FEW = 0.05  # of the frames, that a good run may have lost or be uncertain of
BARS = ("#2166ac", "#67a9cf", "#d1a33c", "#7fbf7b", "#af8dc3", "#ef8a62", "#999999", "#5aae61")
SEVERITY = {"note": "#2166ac", "warning": "#b8860b", "error": "#b2182b"}
REASONS = {
    TrackingStatus.NO_DEPTH: "hardly a pixel had depth",
    TrackingStatus.NO_OVERLAP: "too few points found a partner in the map: fast motion, or something covered the view",
    TrackingStatus.JUMP: "found farther away than a camera moves between two frames",
    TrackingStatus.NOT_FINITE: "the alignment gave no number",
    TrackingStatus.DEGENERATE: "tracked, but what is seen leaves directions of motion open: a wall or a floor alone",
    TrackingStatus.NO_POSE: "poses are taken from the recording, which has none here",
    TrackingStatus.NO_CAMERA: "the intrinsics are no pinhole camera's",
    TrackingStatus.WIDE_STEP: "found far from where it was expected, and nothing confirms it",
    TrackingStatus.UNCONFIRMED: "tracked over a wide step that only one of features and alignment found",
    TrackingStatus.UNCONNECTED: "tracked in a submap that is not connected with the map",
}
Images = Callable[[float], np.ndarray | None]  # seconds of a frame -> (H, W, 3) uint8, None where there is none


def write_report(path: Path, images: Images = lambda seconds: None, narrow: Path | None = None) -> None:
    """Write the report on the run whose results lie beside it; images: what the camera saw; narrow: the picture of the
    trajectory for a phone, the one beside the report where there is none.

    Raises:
        FileNotFoundError, ValueError: results are missing, or cannot be read.
    """
    folder = path.parent
    metrics, scene = read_metrics(folder), read_run(folder, MOST_POINTS)
    frames = Frames.load(folder / FRAMES)
    counts, settings = metrics["frames"], dict(metrics["settings"])
    command = settings.pop("command")
    colors = {name: f"rgb{COLORS[key]}" for key, name in NAMES.items()} | {"loop": f"rgb{LOOP_COLOR}"}
    keys = (f"<span>{_key(color)}{name}</span> " for name, color in colors.items())
    picture = folder / "trajectory.png"
    values = {
        "title": _text(metrics["sequence"]),
        "verdict": _text(summarize(metrics)),
        "verdict_class": grade(metrics),
        "what": _text(f"{metrics['settings']['system']} on {counts['in_sequence']} frames of {metrics['sequence']}"),
        "outcome_keys": "".join(keys),
        "map_note": _text(describe_map(scene, metrics)),
        "trajectory": _picture(picture, narrow) if picture.is_file() else "<p>no picture</p>",
        "numbers": _rows(numbers(metrics)),
        "timing": timing(metrics),
        "frames": lost_frames(frames, metrics, images),
        "findings": findings(metrics["findings"]),
        "camera": _rows((name, f"{value:g}") for name, value in metrics["camera"].items()),
        "settings": _rows((name, _setting(value)) for name, value in settings.items() if value is not None),
        "command": _text(command),
        "version": _text(f"gradslam_ng {metrics['version']}"),
        "scene": json.dumps(describe_scene(scene)),
    }
    template = Template(files("gradslam_ng.viz").joinpath("report.html").read_text(encoding="utf-8"))
    write_whole(path, template.substitute(values))


def describe_map(scene: Scene, metrics: dict[str, Any]) -> str:
    """What the picture of the map shows."""
    if not len(scene.cloud):
        return "There is no map."
    told = f"{len(scene.cloud)} points of the map."
    if (apart := len(metrics["submaps"]) - 1) > 0:
        told += (
            f" Beside it stand submaps that are not connected with it, {apart} of them: where they belong is not known."
        )
    return told


def summarize(metrics: dict[str, Any]) -> str:
    """How the run went, in a sentence."""
    counts = metrics["frames"]
    if not metrics["reliable"]:
        return f"Not to be relied on: {metrics['unreliable_because']}."
    told = f"{counts['tracked']} of {counts['in_sequence']} frames were tracked"
    if uncertain := counts["degenerate"] + counts["unconfirmed"]:
        told += f", {uncertain} of them uncertain"
    apart = sum(metrics["submaps"][1:])
    if lost := counts["lost"] - apart:
        told += f"; {lost} lost"
    if counts["skipped"]:
        told += f"; {counts['skipped']} could not be read"
    if apart:
        told += f"; {apart} more in submaps that are not connected with the map"
    if "ate" in metrics:
        told += f"; the trajectory is {100 * metrics['ate']['rmse']:.2f} cm off the ground truth (RMSE)"
    return f"{told}{'; interrupted before the end' if metrics['interrupted'] else ''}."


def grade(metrics: dict[str, Any]) -> str:
    """Good, fair or bad: fair where the results may be relied on, but not all went well."""
    if not metrics["reliable"]:
        return "bad"
    counts = metrics["frames"]
    frames = sum(counts[name] for name in ("tracked", "lost", "skipped"))
    good = counts["tracked"] - counts["degenerate"] - counts["unconfirmed"]
    return "fair" if metrics["interrupted"] or frames - good > FEW * frames else "good"


def numbers(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """What came out, name and value."""
    counts, map_ = metrics["frames"], metrics["map"]
    rows = [("tracked", f"{counts['tracked']} frames"), ("lost", f"{counts['lost']} frames")]
    rows += [(name, f"{counts[name]} frames") for name in ("skipped", "dropped", "relocalized") if counts.get(name)]
    rows += [(name, f"{map_[name]}") for name in ("surfels", "blocks", "triangles") if map_.get(name)]
    rows += [("submaps", ", ".join(map(str, metrics["submaps"])) + " frames")] if len(metrics["submaps"]) > 1 else []
    rows += [("loops closed", f"{metrics['loops']}")] if metrics["settings"]["loops"] else []
    if "ate" in metrics:
        rows.append(("ATE", f"{100 * metrics['ate']['rmse']:.2f} cm RMSE"))
        drift, turn = (metrics["rpe"][kind]["rmse"] for kind in ("translation", "rotation"))
        rows.append(("RPE", f"{100 * drift:.2f} cm, {turn:.2f} degrees a frame"))
    return [*rows, ("memory", f"{metrics['peak_memory_mb']:.0f} MB at most")]


def timing(metrics: dict[str, Any]) -> str:
    """A bar of the stages' milliseconds a frame."""
    old = {name.rpartition(".")[2] for name in metrics["deprecated_keys"] if name.startswith("milliseconds")}
    stages = {k: ms for k, ms in metrics["milliseconds_per_frame"].items() if k not in old and k != "total"}
    total = sum(stages.values())
    parts = [(name, ms, BARS[i % len(BARS)]) for i, (name, ms) in enumerate(stages.items())]
    percent = 100 / total if total else 0.0
    share = (f"<div style='width:{percent * ms:.2f}%;background:{color}'></div>" for _, ms, color in parts)
    keys = (f"<span>{_key(color)}{_text(name)} {ms:.1f} ms</span> " for name, ms, color in parts)
    spent = round(metrics["seconds_compiling"])
    note = f"<p class='soft'>{spent} s of compiling beside that</p>" if spent else ""
    bar = f"<div class='bar'>{''.join(share)}</div><p class='keys'>{''.join(keys)}</p>"
    return f"{bar}<p>{total:.1f} ms in all</p>{note}"


def lost_frames(frames: Frames, metrics: dict[str, Any], images: Images) -> str:
    """How many frames were lost or uncertain and why, and what the camera saw in some of the lost ones."""
    counts = {status: int((frames.statuses == int(status)).sum()) for status in REASONS}
    rows = [(f"{count} {_name(status)}", REASONS[status]) for status, count in counts.items() if count]
    skipped = metrics["skipped"]
    rows += [("skipped", each) for each in skipped[:MOST_IMAGES]]
    rows += [("skipped", f"{more} more, see run.log")] if (more := len(skipped) - MOST_IMAGES) > 0 else []
    if not rows:
        return "<p>All frames were tracked.</p>"
    lost = (~TrackingStatus.is_tracked(frames.statuses)).nonzero().flatten()
    some = lost[torch.linspace(0, len(lost) - 1, min(MOST_IMAGES, len(lost))).round().long()] if len(lost) else lost
    figures = []
    for number in some.tolist():
        image = images(float(frames.seconds[number]))
        told = f"frame {number}, {_name(TrackingStatus(int(frames.statuses[number])))}"
        shown = "" if image is None else _jpeg(image)
        figures.append(f"<figure>{shown}<figcaption>{_text(told)}</figcaption></figure>")
    return f"<table>{_rows(rows)}</table><div class='frames'>{''.join(figures)}</div>"


def findings(found: list[dict[str, str]]) -> str:
    """What is odd about the recording."""
    lines = (
        f"<p>{_key(SEVERITY.get(each['severity'], '#999999'))}{_text(each['severity'])}: {_text(each['message'])}</p>"
        for each in found
    )
    return "".join(lines) or "<p>Nothing odd was found.</p>"


def _name(status: TrackingStatus) -> str:
    return status.name.lower().replace("_", " ")


def _text(value: object) -> str:
    """Text that is only text, whatever the names of files and folders hold."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def _key(color: str) -> str:
    return f"<i class='key' style='background:{color}'></i>"


def _rows(pairs: Iterable[tuple[object, object]]) -> str:
    return "".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in pairs)


def _setting(value: object) -> object:
    """A setting as one says it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "all" if value == ALL_FRAMES else value


def _picture(path: Path, narrow: Path | None) -> str:
    """A picture, and another for narrow pages where there is one."""
    other = "" if narrow is None else f"<source media='(max-width: {PHONE}px)' srcset='{_png(narrow)}'>"
    return f"<picture>{other}<img alt='{path.stem}' src='{_png(path)}'></picture>"


def _png(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _jpeg(image: np.ndarray) -> str:
    """A small picture of an image (H, W, 3) uint8."""
    from PIL import Image

    width = min(image.shape[1], IMAGE_WIDTH)
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    small = Image.fromarray(np.ascontiguousarray(image)).resize((width, height))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=80)
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}'>"
