"""`gradslam-ng optimize`."""

from __future__ import annotations

import imageio.v3 as imageio
import pytest

from gradslam_ng import cli
from gradslam_ng.graph import g2o


def test_writes_the_optimum_and_a_picture(shared_data, tmp_path, capsys):
    source = shared_data / "posegraph" / "M3500.g2o"
    assert cli.main(["optimize", str(source), "--out", str(tmp_path / "new" / "m.g2o"), "--start", "chordal"]) == 0
    shown = capsys.readouterr().out
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
    assert cli.main(["optimize", str(tmp_path / "a.g2o"), "--out", str(tmp_path / "b.g2o"), "--scale", "-1"]) == 1
    assert "scale: expected a positive number" in capsys.readouterr().err
