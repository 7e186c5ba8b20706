"""Trajectory errors in forms that other programs read: JSON, CSV, LaTeX, and evo's archive of results."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from pathlib import Path

import numpy as np

from gradslam_ng.evaluation import ATE, Statistics
from gradslam_ng.io.atomic import whole_file

ALIGNMENTS = {  # in evo's words
    "none": "(not aligned)",
    "se3": "(with SE(3) Umeyama alignment)",
    "sim3": "(with Sim(3) Umeyama alignment)",
}
Columns = dict[str, tuple[str, Statistics]]  # what, its unit and the errors


def format_json(columns: Columns, facts: dict[str, object]) -> str:
    """One object: the facts, and the statistics of each kind of error with its unit."""
    errors = {name: {"unit": unit} | _finite(errors) for name, (unit, errors) in columns.items()}
    return json.dumps(facts | {"errors": errors}, indent=2)


def format_csv(columns: Columns) -> str:
    """A line for each kind of error, below a line of names."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(next(iter(columns.values()))[1].summary())
    writer.writerow(["error", "unit", *names])
    for name, (unit, errors) in columns.items():
        writer.writerow([name, unit, *errors.summary().values()])
    return file.getvalue().rstrip("\n")


def format_latex(columns: Columns) -> str:
    """A `tabular` in the style of booktabs, a row for each kind of error."""
    names = list(next(iter(columns.values()))[1].summary())
    rows = [
        " & ".join([f"{name} [{unit}]", *(f"{value:.6f}" for value in errors.summary().values())]) + r" \\"
        for name, (unit, errors) in columns.items()
    ]
    head = " & ".join(["", *names]) + r" \\"
    lines = [rf"\begin{{tabular}}{{l{'r' * len(names)}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"])


def save_evo(path: Path, absolute: ATE, names: tuple[str, str], align: str) -> None:
    """Write an archive as evo's `evo_res` reads it: absolute errors, both trajectories and their statistics.

    names: of the ground truth and the estimate, as tables of evo call them.
    """
    truth, estimate = absolute.ground_truth, absolute.estimate
    seconds = (estimate.timestamps - estimate.timestamps[0]).numpy()
    step = truth.T_wc[:, :3, 3].diff(dim=0).norm(dim=-1).cumsum(0).numpy()
    arrays = {
        "error_array": absolute.errors.numpy(),
        "timestamps": estimate.timestamps.numpy(),
        "seconds_from_start": seconds,
        "distances_from_start": np.concatenate([np.zeros(1), step]),
        "alignment_transformation_sim3": absolute.T_align.numpy(),
    }
    info = {
        "label": "APE (m)",
        "ref_name": names[0],
        "est_name": names[1],
        "title": f"APE w.r.t. translation part (m)\n{ALIGNMENTS[align]}",
    }
    statistics = _finite(absolute) | {"sse": float(absolute.errors.square().sum())}
    with whole_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr("info.json", json.dumps(info))
        archive.writestr("stats.json", json.dumps(statistics))
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array)
            archive.writestr(f"{name}.npy", data.getvalue())
        for name, trajectory in zip(names, (truth, estimate), strict=True):
            text = io.StringIO()
            trajectory.write(text)
            archive.writestr(f"{name}.tum", text.getvalue())


def _finite(errors: Statistics) -> dict[str, float]:
    return {name: value for name, value in errors.summary().items() if math.isfinite(value)}
