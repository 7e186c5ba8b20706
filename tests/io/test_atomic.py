"""Files are whole or not there: on a full disk, when the process is killed, through links and pipes."""

import errno
import functools
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.commands.error_formats import save_evo
from gradslam_ng.datasets.export import write_images
from gradslam_ng.graph.g2o import G2OGraph
from gradslam_ng.io.atomic import whole_file, write_whole
from gradslam_ng.io.covariances import save_covariances
from gradslam_ng.io.tensor_tree import save_tree
from gradslam_ng.viz.plots import plot_trajectory

OLD = b"what was there"


def trajectory(length: int = 2000) -> gs.Trajectory:
    T_wc = torch.eye(4, dtype=torch.float64).repeat(length, 1, 1)
    T_wc[:, 0, 3] = torch.rand(length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return gs.Trajectory(torch.arange(length, dtype=torch.float64), T_wc)


@functools.cache
def volume() -> gs.VoxelGrid:
    sequence = gs.datasets.load("datasets/living_room")[:1]
    return gs.KinectFusion("ground-truth", voxel_size=0.05, truncation=0.2)(gs.RGBDFrames.stack(list(sequence))[None])[
        0
    ]


def graph(length: int = 500) -> G2OGraph:
    ahead = torch.arange(1, length)
    T = trajectory(length).T_wc
    information = torch.eye(6, dtype=torch.float64).expand(length - 1, 6, 6)
    return G2OGraph(
        torch.arange(length), T, i=ahead - 1, j=ahead, T_ij=T[1:], information=information,
        fixed=torch.zeros(1, dtype=torch.int64),
    )  # fmt: skip


WRITERS = {
    "trajectory": lambda path: trajectory().save(path),
    "covariances": lambda path: save_covariances(path, torch.arange(500.0), torch.rand(500, 6, 6)),
    "volume": lambda path: volume().save(path),
    "surfels.ply": lambda path: gs.meshing.tsdf_to_surfels(volume()).save(path),
    "mesh.ply": lambda path: gs.meshing.marching_cubes(volume()).save(path),
    "mesh.glb": lambda path: gs.meshing.marching_cubes(volume()).save(path),
    "graph": lambda path: graph().save(path),
    "state": lambda path: save_tree(path, {"x": torch.rand(10_000)}, {}),
    "archive": lambda path: save_evo(path, gs.evaluation.ate(trajectory(), trajectory()), ("a", "b"), "se3"),
    "picture": lambda path: plot_trajectory(path, trajectory()),
    "text": lambda path: write_whole(path, "line\n" * 10_000),
}


@pytest.fixture
def small_disk():
    """Files that may not grow beyond 4 kB: writing to them fails as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there(name, there, tmp_path, small_disk):
    path = tmp_path / (name if "." in name else f"{name}.bin")
    if there:
        path.write_bytes(OLD)
    small_disk()
    with pytest.raises(OSError) as raised:
        WRITERS[name](path)
    assert raised.value.errno == errno.EFBIG and raised.value.filename == str(path)
    assert [each.name for each in tmp_path.iterdir()] == ([path.name] if there else [])
    assert not there or path.read_bytes() == OLD


@pytest.mark.parametrize("name", WRITERS)
def test_files_replace_those_that_were_there(name, tmp_path):
    path = tmp_path / (name if "." in name else f"{name}.bin")
    path.write_bytes(OLD)
    WRITERS[name](path)
    assert path.read_bytes() != OLD and [each.name for each in tmp_path.iterdir()] == [path.name]


def test_exported_images_are_whole(tmp_path, small_disk):
    frame = gs.datasets.load("datasets/living_room")[0]
    small_disk()
    with pytest.raises(OSError) as raised:
        write_images(frame, tmp_path / "color.png", tmp_path / "depth.png", 1000.0, jpeg=None)
    assert raised.value.filename == str(tmp_path / "color.png") and not list(tmp_path.iterdir())


def test_a_killed_process_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(OLD)
    text = (
        "import os, signal\nfrom gradslam_ng.io.atomic import whole_file\n"
        f"with whole_file({str(path)!r}) as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == OLD
    write_whole(path, "whole")  # what the other left is no hindrance
    assert path.read_text() == "whole" and [each.name for each in tmp_path.iterdir()] == ["file.txt"]


def test_an_error_of_the_writer_is_raised_as_it_is(tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(ValueError, match="mine"), whole_file(path) as part:
        part.write_text("half")
        raise ValueError("mine")
    assert not list(tmp_path.iterdir())


def test_no_folder(tmp_path):
    path = tmp_path / "nowhere" / "file.txt"
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(path, "text")
    assert raised.value.filename == str(path)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "file.txt", tmp_path / "link.txt"
    target.write_bytes(OLD)
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


def test_a_pipe_is_written_to(tmp_path):
    path, found = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: found.append(path.read_text()))
    reader.start()
    trajectory(3).save(path)
    reader.join(10)
    assert len([line for line in found[0].splitlines() if line[0] != "#"]) == 3
