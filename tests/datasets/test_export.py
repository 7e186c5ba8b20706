"""Writing the TUM layout: what is read back is what was written, to the files' precision."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng import datasets
from gradslam_ng.datasets.export import write_tum
from gradslam_ng.datasets.synthetic import Synthetic
from gradslam_ng.io.ply import read_ply

SIZE = (48, 64)


def test_round_trip(tmp_path):
    sequence = Synthetic("living_room", frames=4, size=SIZE, noise="kinect", path="fast")
    done = []
    folder = write_tum(sequence, tmp_path / "new" / "folder", progress=done.append)
    read = datasets.load(folder)
    assert done == [1, 2, 3, 4]
    assert len(read) == 4
    torch.testing.assert_close(read.K, sequence.K)
    torch.testing.assert_close(read.timestamps, sequence.timestamps, rtol=0, atol=5.1e-7)
    torch.testing.assert_close(read.ground_truth.T_wc, sequence.ground_truth.T_wc, rtol=0, atol=1e-8)
    for i in range(4):
        ours, theirs = sequence[i], read[i]
        assert torch.equal(ours.depth == 0, theirs.depth == 0)
        torch.testing.assert_close(ours.depth, theirs.depth, rtol=0, atol=1.01e-4)
        torch.testing.assert_close(ours.color, theirs.color, rtol=0, atol=0.51 / 255)
        torch.testing.assert_close(ours.T_wc, theirs.T_wc, rtol=0, atol=1e-6)
    columns, faces = read_ply(folder / "mesh.ply")
    vertices = torch.stack([columns[axis] for axis in "xyz"], -1)
    torch.testing.assert_close(vertices, sequence.mesh[0].float())
    assert torch.equal(faces, sequence.mesh[1])


def test_jpeg_is_near_and_smaller(tmp_path):
    sequence = Synthetic("corridor", frames=1, size=(120, 160))
    sizes = {}
    for name, quality in (("png", None), ("jpg", 90)):
        folder = write_tum(sequence, tmp_path / name, quality, mesh=False)
        assert not (folder / "mesh.ply").exists()
        (image,) = (folder / "rgb").glob(f"*.{name}")
        sizes[name] = image.stat().st_size
        assert (datasets.load(folder)[0].color - sequence[0].color).abs().mean() < 0.02
    assert sizes["jpg"] < 0.7 * sizes["png"]


def test_frames_that_are_closer_than_a_microsecond(tmp_path):
    sequence = Synthetic("corridor", frames=3, size=SIZE)
    sequence.timestamps = torch.tensor([0.1, 0.1 + 1e-7, 0.1 + 2e-7], dtype=torch.float64)
    read = datasets.load(write_tum(sequence, tmp_path / "new", mesh=False))
    assert torch.equal(read.timestamps, sequence.timestamps)
    for i in range(3):
        torch.testing.assert_close(read[i].color, sequence[i].color, rtol=0, atol=0.51 / 255)


def test_depth_beyond_sixteen_bits_is_no_reading(tmp_path):
    sequence = Synthetic("corner", frames=1, size=SIZE)
    exact = sequence.read
    sequence.read = lambda index: (exact(index)[0], 8 * exact(index)[1])
    folder = write_tum(sequence, tmp_path / "far", mesh=False)
    far = 8 * exact(0)[1]
    read = datasets.load(folder, max_depth=20.0)[0].depth
    assert ((read == 0) == (far > 13.107)).float().mean() > 0.999
    assert (far > 13.107).any()


@pytest.mark.parametrize("writer", ["write_tum", "convert"])
def test_what_is_cut_short_is_read_as_far_as_it_goes(tmp_path, writer):
    """In units of the layout, not of one that it would look like without its lists."""
    sequence = Synthetic("corner", frames=4, size=SIZE)

    def stop(done: int) -> None:
        if done == 3:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        if writer == "write_tum":
            write_tum(sequence, tmp_path / "cut", progress=stop)
        else:
            datasets.convert(sequence, tmp_path / "cut", "tum", progress=stop)
    read = datasets.load(tmp_path / "cut")
    assert len(read) == 3 and read.ground_truth is not None
    torch.testing.assert_close(read.K, sequence.K)
    torch.testing.assert_close(read[2].depth, sequence[2].depth, rtol=0, atol=1.01e-4)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="empty"):
        write_tum(Synthetic("corner", frames=1, size=SIZE), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_quality_out_of_range(tmp_path):
    with pytest.raises(ValueError, match="1 to 100"):
        write_tum(Synthetic("corner", frames=1, size=SIZE), tmp_path / "new", jpeg=0)
    assert not (tmp_path / "new").exists()
