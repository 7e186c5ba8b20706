"""The table of what a camera that is moved like a real one was to reach, and what it does."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.tables.common import found, load, markdown, measured, table
from benchmarks.tables.marks import Row, against_marks

FILES = ["wide_steps", "hurried", "trials", "trust", "lost_frames", "accuracy_pointfusion_gradicp", "calibration",
         *found("calibration_recordings"), "refinement"]  # fmt: skip
WIDE_STEPS = {  # every so many-th frame: ATE at most, cm
    "office walk": {1: 4.0}, "redkitchen": {10: 2.8, 15: 3.2, 20: 3.8}, "ICL kt3": {10: 0.17},
}  # fmt: skip
BEFORE = {  # ATE, cm, that must not grow by 2%
    "ICL office kt3": 0.15, "TUM fr3 structure_notexture_far": 0.74, "7-Scenes redkitchen": 1.66,
    "living room, clean": 0.08, "living room, Kinect noise": 0.08,
}  # fmt: skip
CALIBRATED = {  # what, unit, at most
    "focal_percent": ("focal lengths", "%", 0.1), "center_px": ("center", "px", 0.5),
    "registration_px": ("registration", "px", 0.2), "time_ms": ("time", "ms", 2.0),
    "scale_percent": ("scale of depth", "%", 0.1),
}  # fmt: skip
REFINED = {"ICL office kt3": 0.10, "TUM fr3 structure_notexture_far": 0.68, "7-Scenes redkitchen": 1.50}  # ATE, cm


@table
def camera_marks() -> str:
    columns = ("", "figure", "mark", "", "`python -m benchmarks.`")
    ways = {"wide_steps": _wide_steps, "hurried": _hurried, "trials": _trials, "trust": _trust,
            "lost_frames": _lost_frames, "accuracy": _accuracy, "calibration": _calibration,
            "calibration --recordings": _recordings, "refinement": _refinement}  # fmt: skip
    return markdown(columns, against_marks(ways), measured("NAME", FILES, "as in the tables", "as in the tables"))


def _at_most(what: str, value: float, most: float, unit: str, digits: int = 2) -> Row:
    return what, f"{value:.{digits}f} {unit}", f"≤ {most:g} {unit}", value <= most


def _wide_steps() -> Iterator[Row]:
    for row in load("wide_steps")["rows"]:
        most = WIDE_STEPS.get(row["recording"], {}).get(row["step"])
        if most is None or row["method"] != "with features":
            continue
        what = row["recording"] if row["step"] == 1 else f"{row['recording']}, every {row['step']}th frame"
        yield _at_most(f"{what}: ATE", row["ate_cm"], most, "cm")
        least = 0.99 if row["recording"] == "office walk" else 1.0
        tracked = 1 - row["lost"] / row["frames"]
        yield f"{what}: tracked", f"{tracked:.0%}", f"≥ {least:.0%}", tracked >= least


def _hurried() -> Iterator[Row]:
    for row in load("hurried")["rows"]:
        yield _at_most(f"{row['name']}: ATE", row["ate_cm"] / row["undisturbed_cm"], row["mark"], "times", 1)
        lost, apart = row["lost"], row["submaps"] - 1
        yield f"{row['name']}: lost, and not joined", f"{lost}, {apart}", "0, 0", lost == apart == 0


def _trials() -> Iterator[Row]:
    trials = load("trials")["trials"]
    yield "covered and carried away: trials", str(len(trials)), "20", len(trials) >= 20
    latest = max((trial["found_after"] for trial in trials), default=-1)
    never = sum(trial["found_after"] < 0 for trial in trials)
    yield "found after, frames; never", f"{latest}; {never}", "≤ 3; 0", latest <= 3 and never == 0
    apart, false = sum(not trial["joined"] for trial in trials), sum(trial["false"] for trial in trials)
    yield "not joined, false poses", f"{apart}, {false}", "0, 0", apart == false == 0


def _trust() -> Iterator[Row]:
    rows = load("trust")["rows"]
    called, silent, wrong = (sum(row[key] for row in rows) for key in ("called", "silent", "wrong"))
    yield "all: called tracked and wrong", f"{silent / called:.1%}", "≤ 1%", silent <= 0.01 * called
    yield "all: of the wrong ones told", f"{1 - silent / wrong:.0%}", "≥ 90%", silent <= 0.1 * wrong
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        called, silent = (sum(row[key] for row in members) for key in ("called", "silent"))
        if silent:
            yield f"{group}: called tracked and wrong", f"{silent / called:.1%}", "≤ 1%", silent <= 0.01 * called
        nees = [value for row in members for value in row["nees"]]
        if nees:
            mean = sum(nees) / len(nees)
            yield f"{group}: normalized error squared", f"{mean:.1f}", "4 to 8", 4 <= mean <= 8


def _lost_frames() -> Iterator[Row]:
    for row in load("lost_frames")["rows"]:
        times = row["lost_ms"] / row["tracked_ms"]
        yield _at_most(f"a lost frame with {row['places']:,} places more, over a tracked one", times, 2.0, "times", 1)


def _accuracy() -> Iterator[Row]:
    rows = load("accuracy_pointfusion_gradicp")["rows"]
    for name, before in BEFORE.items():
        value = 100 * rows[name]["ate"]
        yield f"{name}: ATE", f"{value:.2f} cm", f"≤ 1.02 times {before:.2f} cm", round(value, 2) <= 1.02 * before


def _calibration() -> Iterator[Row]:
    for row in load("calibration")["room"]:
        if row["cameras"] == "found":
            noise = "no noise" if row["noise"] == "none" else "a Kinect's noise"
            for key, (what, unit, most) in CALIBRATED.items():
                yield _at_most(f"rendered room, {noise}: {what}", row[key], most, unit)


def _recordings() -> Iterator[Row]:
    for name in found("calibration_recordings"):
        for row in load(name)["rows"]:
            if row["recording"] == "7-Scenes redkitchen":
                value = row["ate_cm"].get("found", row["ate_cm"]["told"])
                yield _at_most("redkitchen with the cameras found: ATE", value, 1.5, "cm")


def _refinement() -> Iterator[Row]:
    for row in load("refinement")["rows"]:
        if row["recording"] in REFINED:
            yield _at_most(f"{row['recording']}, refined: ATE", row["ate_cm"][1], REFINED[row["recording"]], "cm", 3)
            before, after = row["sharpness_mm"]
            yield f"{row['recording']}: sharpness", f"{after:.3f} mm", f"< {before:.3f} mm", after < before
