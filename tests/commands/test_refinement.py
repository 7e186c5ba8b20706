"""`gradslam-ng run --refine`."""

from __future__ import annotations

import json

import pytest

from gradslam_ng.commands.refinement import summarize

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_metrics_tell_of_the_refinement(recording, run, tmp_path, prints):
    assert run(recording, tmp_path / "out", "--refine") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    told = metrics["refinement"]
    assert metrics["settings"]["refine"] is True and told["keyframes"] == 6
    assert told["taken"] == (told["refused_because"] is None)
    assert told["ate_before"] < 1e-3 and told["ate_after"] < 1.5e-3
    assert metrics["ate"]["rmse"] == told["ate_after"]
    assert "refinement" in prints()


def test_summary_lines():
    told = {
        "taken": True,
        "keyframes": 9,
        "misfit_before": 0.2,
        "misfit_after": 0.1,
        "ate_before": 0.02,
        "ate_after": 0.01,
    }
    assert summarize(told) == "9 keyframes, misfit 0.2000 to 0.1000, ATE 2.00 to 1.00 cm"
    assert summarize(told | {"ate_before": None}) == "9 keyframes, misfit 0.2000 to 0.1000"
    assert summarize({"taken": False, "refused_because": "[no]"}) == "not taken: \\[no]"
