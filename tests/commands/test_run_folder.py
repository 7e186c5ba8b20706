"""One run at a time writes to a folder."""

from __future__ import annotations

import pytest

from gradslam_ng.cli import main
from gradslam_ng.commands.errors import UsageError
from gradslam_ng.commands.run_folder import STATE, claim_folder

QUICK = ("--preset", "fast", "--no-compile")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_second_run_is_refused_while_the_first_one_writes(recording, out, run, no_pictures, capsys, options):
    with claim_folder(out):
        assert run(recording, out, *QUICK, *options) == 2
        assert "another run is writing to" in capsys.readouterr().err
        assert not list(out.iterdir())
    assert run(recording, out, *QUICK, *options) == 0


def test_a_run_is_not_gone_on_with_while_it_goes_on(recording, out, run, no_pictures, capsys):
    assert run(recording, out, *QUICK) == 0
    before = (out / STATE).read_bytes()
    with claim_folder(out):
        assert main(["resume", str(out)]) == 2
        assert "another run is writing to" in capsys.readouterr().err
    assert (out / STATE).read_bytes() == before
    assert main(["resume", str(out)]) == 0


def test_a_folder_is_free_again_after_an_error(out):
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"), claim_folder(out):
            raise ValueError("mine")
    with claim_folder(out), pytest.raises(UsageError), claim_folder(out):
        pass
