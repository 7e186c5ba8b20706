"""The command itself: help, errors, exit status."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

import gradslam_ng
from gradslam_ng.cli import COMMANDS, command, main
from gradslam_ng.commands import errors
from gradslam_ng.commands.examples import EXAMPLES
from gradslam_ng.commands.signatures import signature_of

LIVING_ROOM = Path(__file__).parents[1] / "datasets" / "living_room"


def test_without_anything_it_tells_what_there_is(capsys):
    for args in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert stop.value.code == 0
        printed = capsys.readouterr().out
        assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_next_to_nothing(option):
    """So that they answer at once: neither torch nor what draws the help of a command."""
    code = f"""
import sys
from gradslam_ng.cli import main
try:
    main([{option!r}])
except SystemExit:
    pass
print(sorted({{"torch", "numpy", "tyro", "rich", "gradslam_ng.datasets"}} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]" and "gradslam-ng" in done.stdout


def test_help_tells_what_each_command_does(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for name in COMMANDS:
        told = inspect.cleandoc(command(name).__doc__).split("\n\n")[0]
        assert f"{name} {' '.join(told.split())}" in printed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    told, examples = printed.rsplit("examples:\n", 1)
    assert f"gradslam-ng {name}" in told
    lines = [shlex.split(line) for line in examples.splitlines() if line.strip()]
    assert lines and all(line[:2] == ["gradslam-ng", name] for line in lines)
    options = {word for line in lines for word in line if word.startswith("--")}
    assert all(re.search(rf"{option}\b", told) for option in options)  # none that there is not


def test_help_of_commands_is_drawn_without_what_they_work_with():
    """And is the same as that drawn from the functions themselves."""
    code = f"""
import contextlib, sys
from gradslam_ng.cli import main
for name in {COMMANDS}:
    with contextlib.suppress(SystemExit):
        main([name, "--help"])
modules = {{"torch", "numpy", "scipy", "matplotlib"}} & set(sys.modules)
print(sorted(modules | {{name for name in sys.modules if name.startswith("gradslam_ng.")}}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    light = ["cli", "commands", "commands.errors", "commands.examples", "commands.signatures"]
    assert done.stderr.strip() == str([f"gradslam_ng.{name}" for name in light])
    whole = f"""
import contextlib, tyro
from gradslam_ng.cli import command
for name in {COMMANDS}:
    with contextlib.suppress(SystemExit):
        tyro.cli(command(name), prog=f"gradslam-ng {{name}}", args=["--help"])
"""
    expected = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=120, check=True)
    told = re.sub(r"\nexamples:\n.*?\n\n(?=usage|$)", "", done.stdout, flags=re.DOTALL)
    assert told.split() == expected.stdout.split()


SOURCE = ("frames", "camera", "depth-scale", "max-depth", "topics", "noise")


@pytest.mark.parametrize("name", ["run", "sweep", "calibrate", "info", "convert"])
def test_commands_of_recordings_have_the_same_options(name, capsys):
    """In the same words, and with the same errors."""
    with pytest.raises(SystemExit):
        main([name, "--help"])
    printed = " ".join(re.sub(r"[^\w.,:-]+", " ", capsys.readouterr().out).split())
    for option in SOURCE:
        assert f"--{option}" in printed
    assert "Units of the depth files in a meter overrides the layout" in printed.replace(",", "").replace(";", "")
    out = [] if name == "info" else ["--out", "camera.json"] + ["--to", "tum"] * (name == "convert")
    if name == "sweep":  # whose runs are processes of their own
        return
    assert main([name, "nowhere", *out, "--depth-scale", "-1"]) == 2
    assert "depth_scale: expected a positive number of units in a meter, got -1" in capsys.readouterr().err
    assert main([name, "nowhere", *out, "--noise", "kinect"]) == 2
    assert "noise: expected a rendered scene, synthetic:NAME, for it" in capsys.readouterr().err


def test_an_unknown_command(capsys):
    assert main(["fly"]) == 2
    assert "fly" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_what_the_parser_takes(name):
    """Values too, such as places of several numbers."""
    asked = []

    def stands_in(*given, **options):
        asked.append(given)

    with signature_of(name) as signature:
        stands_in.__signature__, stands_in.__doc__ = inspect.signature(signature), signature.__doc__
        stands_in.__annotations__ = signature.__annotations__
        for example in EXAMPLES[name]:
            tyro.cli(stands_in, args=shlex.split(example)[2:])
    assert len(asked) == len(EXAMPLES[name])


def test_a_command_nearly_right_is_told_the_one_meant(capsys):
    assert main(["evalute", "out"]) == 2
    assert "perhaps you meant evaluate" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_nearly_right_is_told_the_one_meant(name, capsys, monkeypatch):
    """Before what else is wrong, such as an argument that is missing since the option is taken for its value."""
    monkeypatch.setenv("COLUMNS", "12")  # however narrow the terminal
    option = (
        "ot"
        if name not in ("resume", "view", "info", "compile")
        else {"resume": "prt", "view": "prt"}.get(name, "fraems")
    )
    assert main([name, f"--{option}", "new", "somewhere"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"no option --{option}; perhaps you meant --" in error, error


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_of_options_as_its_reader_does(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    told = capsys.readouterr().out
    assert "None" not in told and "(default: )" not in told


NAMES_OF_FILES = {  # arguments in which {} stands for a name, all that commands read
    "run": ["{}", "--out", "new"],
    "run --config": ["recording", "--out", "new", "--config", "{}"],
    "run --camera": ["recording", "--out", "new", "--camera", "{}"],
    "info": ["{}"],
    "calibrate": ["{}", "--out", "camera.json"],
    "convert": ["{}", "--to", "tum", "--out", "new"],
    "convert --trajectory": ["recording", "--to", "tum", "--out", "new", "--trajectory", "{}"],
    "evaluate": ["{}", "poses.txt"],
    "mesh": ["{}"],
    "plan": ["{}", "--out", "new"],
    "optimize": ["{}", "--out", "new"],
    "view": ["{}"],
}


@pytest.mark.parametrize("name", NAMES_OF_FILES)
def test_a_file_nearly_right_is_told_the_one_meant(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LIVING_ROOM, tmp_path / "recording")
    (tmp_path / "kitchen_table.txt").write_text("")
    args = [word.format("kitchen_tabel.txt") for word in NAMES_OF_FILES[name]]
    assert main([name.split()[0], *args]) in (1, 2)
    error = capsys.readouterr().err
    assert "no such file" in error and "perhaps you meant kitchen_table.txt" in error.replace("\n", " "), error


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["run", "--dump-config"], ["info", str(LIVING_ROOM)]])
def test_output_that_nobody_reads_to_its_end_is_no_error_to_tell(args):
    """Such as that of `gradslam-ng run --help | head -0`."""
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "gradslam_ng", *args]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_run_whose_output_nobody_reads_leaves_all_it_has_computed(tmp_path):
    """Such as `gradslam-ng run FOLDER | head -1`."""
    reads, writes = os.pipe()
    os.close(reads)
    options = ["--out", str(tmp_path / "out"), "--frames", "0:4", "--preset", "fast", "--no-compile"]
    command = [sys.executable, "-m", "gradslam_ng", "run", str(LIVING_ROOM), *options]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, timeout=240)
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"trajectory.txt", "map.ply", "metrics.json", "report.html"} <= {
        x.name for x in (tmp_path / "out").iterdir()
    }


def test_arguments_are_told_in_one_line_each():
    """The help keeps breaks within one, wherever they fall in its own lines."""
    for name in COMMANDS:
        told = inspect.getdoc(command(name)).partition("Args:\n")[2].splitlines()
        assert not [line for line in told if line.startswith(" " * 8)], name


def test_a_failure_is_one_line_and_status_1(tmp_path, capsys):
    assert main(["info", str(tmp_path / "[nowhere]")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error:") and "[nowhere]: no such file or folder" in error.replace("\n", "")


OWN = (errors.UsageError, errors.UnreliableError, errors.RefusedError)
OWN += (errors.OutsideError, errors.NoRoomError, errors.UnseenError, errors.UnreachableError)


@pytest.mark.parametrize(("status", "error"), list(enumerate(OWN, 2)))
def test_errors_with_a_status_of_their_own(monkeypatch, capsys, status, error):

    def fails(name):
        raise error("so")

    monkeypatch.setattr("gradslam_ng.cli.command", fails)
    assert main(["info", "x"]) == status
    assert capsys.readouterr().err == "error: so\n"


def test_errors_of_the_system_are_told_without_their_number(tmp_path, monkeypatch, capsys):
    (tmp_path / "folder.ply").mkdir()
    monkeypatch.setattr("gradslam_ng.cli.command", lambda name: (tmp_path / path).read_bytes())
    for path, message in (("nowhere.ply", "no such file: "), ("folder.ply", "Is a directory")):
        assert main(["info", "x"]) == 1
        error = " ".join(capsys.readouterr().err.split())
        assert message in error and path in error and "Errno" not in error


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gradslam-ng {gradslam_ng.__version__}\n"


def test_ctrl_c_is_status_130(monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradslam_ng.cli.command", interrupted)
    assert main(["info", "x"]) == 130


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def broken(name):
        raise RuntimeError("a bug")

    monkeypatch.setattr("gradslam_ng.cli.command", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["info", "x"])


def test_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gradslam_ng", "run", str(tmp_path), "--out", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error:") and "not a sequence" in done.stderr and "Traceback" not in done.stderr


def test_import_is_light():
    """Viewers, plots and the command line are imported when they are needed."""
    heavy = ["open3d", "matplotlib", "tyro", "scipy.spatial", "kornia"]
    code = f"import sys, gradslam_ng; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
