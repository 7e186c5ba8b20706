"""`gradslam-ng optimize`."""

from __future__ import annotations

import imageio.v3 as imageio
import pytest

from gradslam_ng import cli
from gradslam_ng.graph import g2o


def test_writes_the_optimum_and_a_picture(shared_data, tmp_path, capsys):
    source = shared_data / "posegraph" / "M3500.g2o"
    assert cli.main(["optimize", str(source), "--out", str(tmp_path / "new" / "m.g2o"), "--start", "chordal"]) == 0
    shown, told = capsys.readouterr()
    assert told == "3500 poses, 5453 edges\n"
    assert "3500 poses, 5453 edges" in shown and "68.957439" in shown and "yes" in shown
    result = g2o.load(tmp_path / "new" / "m.g2o").factor_graph()
    assert float(result.error(result.initial)) == pytest.approx(68.957439, rel=1e-6)
    picture = imageio.imread(tmp_path / "new" / "m.png")
    assert picture.shape[1] > 1000 and picture.std() > 10


@pytest.mark.parametrize("kernel", ["huber", "cauchy", "graduated"])
def test_kernels(tmp_path, capsys, kernel):
    """A square of four sides with one false loop across it."""
    lines = ["VERTEX_SE2 0 0 0 0", "VERTEX_SE2 1 1 0 1.57", "VERTEX_SE2 2 1 1 3.14", "VERTEX_SE2 3 0 1 -1.57"]
    lines += [f"EDGE_SE2 {a} {b} 1 0 1.5707963 100 0 0 100 0 100" for a, b in ((0, 1), (1, 2), (2, 3), (3, 0))]
    lines += ["EDGE_SE2 0 2 5 5 0 100 0 0 100 0 100"]
    (tmp_path / "square.g2o").write_text("\n".join(lines))
    arguments = ["optimize", str(tmp_path / "square.g2o"), "--out", str(tmp_path / "out.g2o"), "--kernel", kernel]
    assert cli.main([*arguments, "--strategy", "levenberg-marquardt", "--iterations", "300"]) == 0
    corner = g2o.load(tmp_path / "out.g2o").T[2, :2, 2]
    if kernel == "graduated":
        assert (corner - 1).abs().max() < 0.02


def test_says_what_is_wrong(tmp_path, capsys):
    assert cli.main(["optimize", str(tmp_path / "none.g2o"), "--out", str(tmp_path / "out.g2o")]) == 1
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "a.g2o").write_text("VERTEX_SE2 0 0 0 0\n")
    assert cli.main(["optimize", str(tmp_path / "a.g2o"), "--out", str(tmp_path / "b.g2o"), "--scale", "-1"]) == 2
    assert "scale: expected a positive number" in capsys.readouterr().err


@pytest.mark.parametrize(("out", "written"), [("there", "there/a.g2o"), ("new/", "new/a.g2o"), ("b.g2o", "b.g2o"),
                                              ("new/c.G2O", "new/c.G2O"), ("odd.g2o/", "odd.g2o/a.g2o")])  # fmt: skip
def test_a_folder_or_a_file(tmp_path, out, written):
    for name in ("there", "odd.g2o"):
        (tmp_path / name).mkdir()
    lines = ["VERTEX_SE2 0 0 0 0", "VERTEX_SE2 1 1 0 0", "EDGE_SE2 0 1 1 0 0 100 0 0 100 0 100"]
    (tmp_path / "a.g2o").write_text("\n".join(lines))
    assert cli.main(["optimize", str(tmp_path / "a.g2o"), "--out", f"{tmp_path}/{out}"]) == 0
    assert (tmp_path / written).is_file() and (tmp_path / written).with_suffix(".png").is_file()


def test_an_out_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "a.g2o").write_text("VERTEX_SE2 0 0 0 0\n")
    (tmp_path / "file").write_text("")
    for out, message in (("file", "expected a folder for the results, got a file"), ("a.g2o", "another file than the")):
        assert cli.main(["optimize", str(tmp_path / "a.g2o"), "--out", str(tmp_path / out)]) in (1, 2)
        assert message in " ".join(capsys.readouterr().err.split())
