"""`gradslam-ng run --refine`: global refinement after a run, and what `metrics.json` says of it."""

from __future__ import annotations

from dataclasses import replace

from rich.markup import escape

from gradslam_ng import evaluation
from gradslam_ng.commands.console import working
from gradslam_ng.datasets.sequence import RGBDSequence
from gradslam_ng.refinement import Refinement, refine
from gradslam_ng.slam import Result
from gradslam_ng.slam.system import System


def refine_run(system: System, sequence: RGBDSequence, result: Result) -> tuple[Result, dict | None]:
    """The refined result and what is to be told of it; the result as it was, and None, where the run or its refinement
    was interrupted."""
    if result.interrupted:
        return result, None
    try:
        with working("refining poses and map"):
            refinement = refine(system, sequence, result)
    except KeyboardInterrupt:
        return replace(result, interrupted=True), None
    return refinement.result, describe(refinement, sequence)


def describe(refinement: Refinement, sequence: RGBDSequence) -> dict:
    """What came of a refinement; ATE in meters, None where it is not known."""
    before, after = refinement.misfit or (None, None)
    return {
        "taken": refinement.taken,
        "refused_because": refinement.refused,
        "keyframes": refinement.keyframes,
        "surfels": refinement.surfels,
        "misfit_before": before,
        "misfit_after": after,
        "ate_before": error_of(refinement.before, sequence),
        "ate_after": error_of(refinement.result, sequence),
    }


def error_of(result: Result, sequence: RGBDSequence) -> float | None:
    """ATE RMSE of a result, meters; None without ground truth, or where it does not compare."""
    if sequence.ground_truth is None:
        return None
    try:
        return evaluation.ate(sequence.ground_truth, result.localized).rmse
    except ValueError:
        return None  # why is said where the metrics are compared


def summarize(told: dict) -> str:
    """One line of the summary."""
    if not told["taken"]:
        return f"not taken: {escape(told['refused_because'])}"
    line = f"{told['keyframes']} keyframes, misfit {told['misfit_before']:.4f} to {told['misfit_after']:.4f}"
    if told["ate_before"] is None or told["ate_after"] is None:
        return line
    return f"{line}, ATE {100 * told['ate_before']:.2f} to {100 * told['ate_after']:.2f} cm"
