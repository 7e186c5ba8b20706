"""`gradslam-ng evaluate`: figures, plot, and one clear line for what cannot be compared."""

from __future__ import annotations

import csv
import io
import json

import imageio.v3 as iio
import pytest
import torch

from gradslam_ng import evaluation
from gradslam_ng.cli import main
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory


@pytest.fixture
def files(tmp_path):
    """Ground truth and an estimate in another frame that is off by up to 2 cm, as files."""
    t = torch.arange(90, dtype=torch.float64) / 30
    truth = Trajectory(t, se3.exp(torch.sin(t[:, None] * torch.tensor([0.7, 1.1, 0.5, 0.9, 0.4, 1.3]))))
    poses = se3.exp(torch.tensor([1.0, 2, 3, 0.1, 0.2, 0.3], dtype=torch.float64)) @ truth.T_wc
    poses[:, 1, 3] += 0.02 * torch.sin(20 * t)
    truth.save(tmp_path / "truth.txt")
    Trajectory(t, poses).save(tmp_path / "estimate.txt")
    return tmp_path


def evaluate(folder, *options: str) -> int:
    files = [str(folder / "truth.txt"), str(folder / "estimate.txt")]
    return main(["evaluate", *files, "--out", str(folder / "plots" / "error.png"), *options])


def test_prints_a_table_and_writes_a_plot(files, capsys):
    assert evaluate(files) == 0
    printed = capsys.readouterr().out
    for text in ("rmse", "median", "RPE over 1 s", "90 pairs of poses within 0.02 s, out of 90 and 90"):
        assert text in " ".join(printed.split())
    assert iio.imread(files / "plots" / "error.png").shape[0] > 500


@pytest.mark.parametrize("align", ["none", "se3", "sim3"])
def test_alignment_is_what_was_asked_for(files, capsys, align):
    assert evaluate(files, "--align", align) == 0
    rmse = float(next(line for line in capsys.readouterr().out.splitlines() if "rmse" in line).split("│")[2])
    assert (rmse > 1) if align == "none" else (rmse < 0.02)


def fails_with(capsys, message: str, *arguments: str) -> None:
    assert main(["evaluate", *arguments]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("error:")
    assert message in error


def cut(folder, frames: int) -> None:
    """Only so many of the poses of both."""
    for name in ("truth.txt", "estimate.txt"):
        Trajectory.load(folder / name)[:frames].save(folder / name)


@pytest.mark.parametrize(
    "options", [(), ("--unit", "meters"), ("--unit", "metres"), ("--unit", "frames", "--delta", "50")]
)
def test_what_is_too_short_for_drift_has_its_absolute_error(files, capsys, options):
    cut(files, 12)
    assert evaluate(files, *options) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no drift: no two of 12 poses are" in printed and "rmse" in printed and "RPE" not in printed
    assert (files / "plots" / "error.png").is_file()


def test_a_camera_that_stands_still(files, capsys):
    still = Trajectory.load(files / "truth.txt")
    Trajectory(still.timestamps, still.T_wc[:1].expand(90, 4, 4)).save(files / "truth.txt")
    Trajectory(still.timestamps, still.T_wc[:1].expand(90, 4, 4)).save(files / "estimate.txt")
    assert evaluate(files, "--unit", "meters") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no drift" in printed and "the true camera stands still" in printed
    assert "both trajectories are the same" in printed


def test_errors_that_say_little_are_told(files, capsys):
    truth, estimate = Trajectory.load(files / "truth.txt"), Trajectory.load(files / "estimate.txt")
    large = estimate.T_wc.clone()
    large[:, :3, 3] *= 1000
    Trajectory(estimate.timestamps, large).save(files / "estimate.txt")
    assert evaluate(files) == 0
    assert "times as large as the truth: are both in meters?" in " ".join(capsys.readouterr().out.split())
    Trajectory(estimate.timestamps, estimate.T_wc[:1].expand(90, 4, 4)).save(files / "estimate.txt")
    assert evaluate(files) == 0
    assert "the estimated camera stands still" in " ".join(capsys.readouterr().out.split())
    Trajectory(torch.cat([estimate.timestamps[:20], estimate.timestamps[20:] + 100]), estimate.T_wc).save(
        files / "estimate.txt"
    )
    assert evaluate(files) == 0
    assert "only 20 of 90 poses could be compared" in " ".join(capsys.readouterr().out.split())
    truth.save(files / "estimate.txt")
    assert evaluate(files, "--out", str(files)) == 0
    assert "both trajectories are the same" in " ".join(capsys.readouterr().out.split())
    assert (files / "evaluation.png").is_file()
    assert evaluate(files, "--out", str(files / "new" / "plots")) == 0  # a folder that is not there yet
    assert [path.name for path in (files / "new" / "plots").iterdir()] == ["evaluation.png"]


@pytest.mark.parametrize("options", [("--delta", "0"), ("--delta", "1.5", "--unit", "frames"), ("--max-gap", "-1")])
def test_options_that_mean_nothing(files, capsys, options):
    assert evaluate(files, *options) == 2
    assert capsys.readouterr().err.startswith("error: ")


class TestHostile:
    def test_missing_file(self, files, capsys):
        fails_with(capsys, "nowhere.txt", str(files / "nowhere.txt"), str(files / "estimate.txt"))

    def test_not_a_trajectory(self, files, capsys):
        (files / "truth.txt").write_text("1 2 3\n")
        fails_with(
            capsys,
            "line 1: expected poses",
            str(files / "truth.txt"),
            str(files / "estimate.txt"),
        )

    def test_nan_in_a_file(self, files, capsys):
        path = files / "estimate.txt"
        lines = path.read_text().splitlines()
        lines[4] = lines[4].split()[0] + 7 * " nan"
        path.write_text("\n".join(lines))
        assert evaluate(files) == 0
        printed, said = (" ".join(text.split()) for text in capsys.readouterr())
        assert said.startswith("warning: ") and said.endswith("estimate.txt: 1 of 90 poses are not known")
        assert "89 pairs of poses within 0.02 s, out of 90 and 89, 1 of the estimate not known" in printed
        path.write_text("0.0 nan 0 0 0 0 0 1\n")
        assert evaluate(files) == 1
        assert "error: estimate: expected at least one known pose" in capsys.readouterr().err

    def test_no_overlap_in_time(self, files, capsys):
        late = Trajectory.load(files / "estimate.txt")
        Trajectory(late.timestamps + 100, late.T_wc).save(files / "estimate.txt")
        fails_with(capsys, "no two time stamps within 0.02 s", str(files / "truth.txt"), str(files / "estimate.txt"))

    def test_one_pose(self, files, capsys):
        Trajectory.load(files / "estimate.txt")[:1].save(files / "estimate.txt")
        fails_with(capsys, "at least 3 pairs", str(files / "truth.txt"), str(files / "estimate.txt"))

    def test_unknown_alignment(self, files, capsys):
        with pytest.raises(SystemExit) as stop:
            evaluate(files, "--align", "affine")
        assert stop.value.code == 2
        assert "affine" in capsys.readouterr().err


class TestForms:
    """What other programs read."""

    def printed(self, files, capsys, *options: str) -> str:
        assert evaluate(files, *options) == 0
        return capsys.readouterr().out

    def test_json_has_the_figures_of_the_table(self, files, capsys):
        read = json.loads(self.printed(files, capsys, "--json"))
        absolute = evaluation.ate(*(Trajectory.load(files / name) for name in ("truth.txt", "estimate.txt")))
        assert read["errors"]["ATE"] == {"unit": "m"} | absolute.summary()
        assert read["errors"].keys() == {"ATE", "RPE over 1 s", "rotation"} and read["pairs"] == 90

    def test_csv_has_a_line_for_each_error(self, files, capsys):
        rows = list(csv.DictReader(io.StringIO(self.printed(files, capsys, "--csv"))))
        assert [row["error"] for row in rows] == ["ATE", "RPE over 1 s", "rotation"]
        assert rows[2]["unit"] == "degrees" and float(rows[0]["rmse"]) < 0.02

    def test_latex_is_a_table(self, files, capsys):
        lines = self.printed(files, capsys, "--latex").splitlines()
        assert lines[0] == r"\begin{tabular}{lrrrrrr}" and lines[-1] == r"\end{tabular}"
        assert {line.count("&") for line in lines if "&" in line} == {6}
        absolute = evaluation.ate(*(Trajectory.load(files / name) for name in ("truth.txt", "estimate.txt")))
        assert f"ATE [m] & {absolute.rmse:.6f} & " in lines[4]  # hundredths of millimeters, as in the table

    def test_evo_reads_the_archive(self, files, capsys):
        file_interface = pytest.importorskip("evo.tools.file_interface")
        self.printed(files, capsys, "--evo", str(files / "new" / "ate.zip"))
        read = file_interface.load_res_file(files / "new" / "ate.zip", load_trajectories=True)
        absolute = evaluation.ate(*(Trajectory.load(files / name) for name in ("truth.txt", "estimate.txt")))
        assert read.stats["rmse"] == absolute.rmse and read.info["est_name"] == "estimate"
        torch.testing.assert_close(torch.as_tensor(read.np_arrays["error_array"]), absolute.errors)
        assert read.trajectories["truth"].num_poses == 90

    def test_one_form_at_a_time(self, files, capsys):
        assert evaluate(files, "--json", "--csv") == 2
        assert "expected one of --json, --csv and --latex" in capsys.readouterr().err


def test_kitti_against_kitti(files, capsys):
    for name in ("truth.txt", "estimate.txt"):
        rows = Trajectory.load(files / name).T_wc[:, :3].flatten(1).tolist()
        (files / name).write_text("\n".join(" ".join(map(repr, row)) for row in rows))
    assert evaluate(files) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "90 pairs of poses, out of 90 and 90" in printed and "RPE over 1 frame(s)" in printed  # there are no seconds
