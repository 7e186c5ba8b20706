from __future__ import annotations

import json
import pickle

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from kornia.geometry.calibration import undistort_image

from gradslam_ng.datasets import Folder, FrameError, RecordingWarning


def test_reads_frames(recordings, tmp_path):
    sequence = Folder(recordings.folder(tmp_path / "desk"))
    frame = sequence[4]
    assert float(frame.depth[5, 5, 0]) == pytest.approx(1.035, abs=1e-3)
    assert frame.K.tolist() == [[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]
    assert frame.T_wc is None and float(frame.timestamps) == pytest.approx(4 / 30)
    assert Folder(tmp_path / "desk", rate=15.0).timestamps[4] == pytest.approx(4 / 15)


@pytest.mark.parametrize(
    "camera",
    [
        {"fx": 30, "fy": 31, "cx": 15.5, "cy": 11.5, "depth_scale": 5000},
        {"K": [[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]], "depth_scale": 5000},
        {"width": 32, "height": 24, "intrinsic_matrix": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1], "depth_scale": 5000},
    ],
)
def test_json_camera_and_depth_scale(recordings, tmp_path, camera):
    folder = recordings.folder(tmp_path / "desk")
    (folder / "intrinsics.json").write_text(json.dumps(camera))
    sequence = Folder(folder)
    assert sequence.K.tolist() == [[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]]
    assert sequence.depth_scale == 5000 and any("1/5000 m" in note and "json" in note for note in sequence.notes)
    assert Folder(folder, depth_scale=1000).depth_scale == 1000


@pytest.mark.parametrize("form", ["list", "with k3", "rational", "model"])
def test_distortion_is_undone(recordings, tmp_path, form):
    """Images are those of the pinhole camera: what the distorted pixel of each ray showed."""
    given = [0.2, -0.1, 0.01, -0.02, *{"with k3": [0.05], "rational": [0.05, 0.1, -0.02, 0.01]}.get(form, [])]
    coefficients = tuple(given)
    given = {"model": "plumb_bob", "coefficients": given} if form == "model" else given
    folder = recordings.folder(tmp_path / "desk")
    camera = {"fx": 30, "fy": 31, "cx": 15.5, "cy": 11.5, "distortion": given}
    plain = Folder(folder, intrinsics=(30, 31, 15.5, 11.5))
    (folder / "intrinsics.json").write_text(json.dumps(camera))
    sequence = Folder(folder)
    assert any("distortion undone" in note for note in sequence.notes)
    assert torch.equal(sequence.K, plain.K)
    frame, distorted = sequence[0], plain[0]
    expected = undistort_image(distorted.color.movedim(-1, 0)[None], plain.K[None], torch.tensor([coefficients]))
    torch.testing.assert_close(frame.color, expected[0].movedim(0, -1), rtol=0, atol=1e-4)
    assert not torch.equal(frame.color, distorted.color)
    values = torch.cat([distorted.depth.unique(), torch.zeros(1)])
    assert torch.isin(frame.depth, values).all()  # depth is never mixed
    given_by_option = Folder(folder, intrinsics=(30, 31, 15.5, 11.5))[0]
    assert torch.equal(given_by_option.color, distorted.color)


@pytest.mark.parametrize("distortion", [None, [], [0, 0, 0, 0, 0], {"model": "none"}])
def test_no_distortion(recordings, tmp_path, distortion):
    folder = recordings.folder(tmp_path / "desk")
    plain = Folder(folder)[0]
    camera = {"fx": 30, "fy": 31, "cx": 15.5, "cy": 11.5, "distortion": distortion}
    (folder / "intrinsics.json").write_text(json.dumps(camera))
    assert torch.equal(Folder(folder)[0].color, plain.color)


@pytest.mark.parametrize(
    ("distortion", "message"),
    [
        ({"model": "fov", "coefficients": [0.1, 0.1, 0, 0]}, "expected the model none, brown-conrady"),
        ({"coefficients": [0.1, 0.1, 0, 0]}, "expected the model none, brown-conrady"),
        ([0.1], "expected k1, k2, p1, p2 and perhaps k3"),
        (["a", 0, 0, 0], "expected k1, k2, p1, p2"),
        (0.1, "expected k1, k2, p1, p2"),
        ({"model": "opencv", "coefficients": [0.1, float("nan"), 0, 0]}, "expected k1, k2, p1, p2"),
    ],
)
def test_distortion_that_is_not_understood(recordings, tmp_path, distortion, message):
    folder = recordings.folder(tmp_path / "desk")
    camera = {"fx": 30, "fy": 31, "cx": 15.5, "cy": 11.5, "distortion": distortion}
    (folder / "intrinsics.json").write_text(json.dumps(camera))
    with pytest.raises(ValueError, match=rf"intrinsics\.json: distortion: {message}"):
        Folder(folder)


def test_a_truth_value_is_no_depth_scale(recordings, tmp_path):
    with pytest.raises(ValueError, match="depth_scale: expected a number of units in a meter, got True"):
        Folder(recordings.folder(tmp_path / "desk"), depth_scale=True)


def test_default_depth_scale_is_told(recordings, tmp_path):
    notes = Folder(recordings.folder(tmp_path / "desk")).notes
    assert any("1/1000 m" in note and "the default" in note for note in notes)


@pytest.mark.parametrize("text", ["{", '{"fx": 30}', "[1, 2, 3, 4]", '{"fx": "a", "fy": 1, "cx": 1, "cy": 1}'])
def test_bad_json(recordings, tmp_path, text):
    folder = recordings.folder(tmp_path / "desk")
    (folder / "intrinsics.json").write_text(text)
    with pytest.raises(ValueError, match=r"intrinsics\.json: expected"):
        Folder(folder)


def test_unknown_camera_names_the_ways_to_give_it(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    (folder / "intrinsics.txt").unlink()
    with pytest.raises(ValueError, match=r"option intrinsics.*intrinsics\.txt or intrinsics\.json"):
        Folder(folder)
    assert float(Folder(folder, intrinsics=(29, 29, 15, 11)).K[0, 0]) == 29


@pytest.mark.parametrize("scale", [0, -1000, float("nan")])
def test_bad_depth_scale(recordings, tmp_path, scale):
    with pytest.raises(ValueError, match="depth_scale: expected a positive number"):
        Folder(recordings.folder(tmp_path / "desk"), depth_scale=scale)


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_float_depth_is_meters_and_without_nan(recordings, tmp_path, suffix):
    folder = recordings.folder(tmp_path / "desk")
    depth = np.full((24, 32), 1.5, np.float32)
    depth[0, :4] = np.nan, np.inf, -np.inf, -1
    for i in range(8):
        (folder / "depth" / f"{i:04d}.png").unlink()
        path = folder / "depth" / f"{i:04d}{suffix}"
        np.save(path, depth) if suffix == ".npy" else iio.imwrite(path, depth)
    read = Folder(folder)[0].depth[..., 0]
    assert read[0, :4].tolist() == [0, 0, 0, 0] and read[1:].unique().tolist() == [1.5]


def test_nothing_is_unpickled(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return open, (str(marker), "w")

    (folder / "depth" / "0003.png").unlink()
    np.save(folder / "depth" / "0003.npy", np.array([[Hostile()]], dtype=object), allow_pickle=True)
    (folder / "depth" / "0004.png").unlink()
    (folder / "depth" / "0004.npy").write_bytes(pickle.dumps(Hostile()))
    sequence = Folder(folder)
    for index in (3, 4):
        with pytest.raises(FrameError, match="not a readable image"):
            sequence[index]
    assert not marker.exists()


def test_pairs_by_the_numbers_in_the_names(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    for i in range(8):
        (folder / "depth" / f"{i:04d}.png").rename(folder / "depth" / f"depth_{i}.png")
    (folder / "depth" / "depth_2.png").unlink()
    sequence = Folder(folder)
    assert len(sequence) == 8
    assert float(sequence[3].depth[5, 5, 0]) == pytest.approx(1.045, abs=1e-3)
    with pytest.raises(FrameError, match=r"frame 2: .*: no such file"):
        sequence[2]


def test_two_files_of_one_number_and_no_common_number(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    iio.imwrite(folder / "color" / "0003.jpg", recordings.color_image(3))
    with pytest.raises(ValueError, match=r"0003.*0003.*expected one file for each frame number"):
        Folder(folder)
    (folder / "color" / "0003.jpg").unlink()
    for i in range(8):
        (folder / "depth" / f"{i:04d}.png").rename(folder / "depth" / f"{i + 100}.png")
    with pytest.raises(ValueError, match=r"no file in depth/ has the number of one in color/, such as 0000\.png"):
        Folder(folder)


def test_empty_folders(tmp_path):
    for name in ("color", "depth"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError, match=r"color: no image that ends in \.png, \.jpg"):
        Folder(tmp_path, intrinsics=[30, 30, 15, 11])


def test_matrix_poses_in_a_table_or_in_files(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    T = recordings.poses()
    (folder / "poses").mkdir()
    for i in range(8):
        (folder / "poses" / f"{i}.txt").write_text(recordings.matrix_text(T[i]))
    (folder / "poses" / "2.txt").unlink()
    sequence = Folder(folder)
    assert bool(sequence[2].T_wc.isnan().all())
    torch.testing.assert_close(sequence[6].T_wc, T[6], atol=1e-6, rtol=0)
    (folder / "poses.txt").write_text("\n".join(" ".join(map(repr, pose.flatten().tolist())) for pose in T))
    torch.testing.assert_close(Folder(folder).T_wc, T, atol=1e-12, rtol=0)


@pytest.mark.parametrize("head", ["", "{i} {i} {next}\n", "{i}\n"])
@pytest.mark.parametrize("gap", ["", "\n"])
def test_matrix_poses_of_four_lines_each(recordings, tmp_path, head, gap):
    """As NumPy writes them, and as Redwood's trajectory.log has them."""
    folder = recordings.folder(tmp_path / "desk")
    T = recordings.poses()
    blocks = [head.format(i=i, next=i + 1) + recordings.matrix_text(T[i]) for i in range(8)]
    table = folder / ("trajectory.log" if head else "poses.txt")
    table.write_text(gap.join(blocks))
    torch.testing.assert_close(Folder(folder).T_wc, T, atol=1e-12, rtol=0)
    blocks[3] = blocks[3].replace("0.0 0.0 0.0 1.0", "0.0 0.0 0.0 one")
    table.write_text(gap.join(blocks))
    with pytest.warns(UserWarning, match=r"1 of 8 poses of .* have no pose; 1 cannot be read"):
        known = Folder(folder).T_wc.isfinite().flatten(1).all(-1)
    assert known.tolist() == [i != 3 for i in range(8)]
    table.rename(folder / "poses.txt")
    (folder / "poses.txt").write_text(gap.join(blocks[:2]) + "1 0 0 0\n" + gap.join(blocks[2:]))
    with pytest.raises(ValueError, match=r"poses\.txt, line .*four lines for each"):
        Folder(folder)


@pytest.mark.parametrize("where", ["table", "files", "blocks"])
def test_poses_written_column_by_column_are_refused(recordings, tmp_path, where):
    """Read row by row, they would have no position."""
    folder = recordings.folder(tmp_path / "desk")
    turned = recordings.poses().mT
    if where == "files":
        (folder / "poses").mkdir()
        for i in range(8):
            (folder / "poses" / f"{i}.txt").write_text(recordings.matrix_text(turned[i]))
    else:
        between = " " if where == "table" else "\n"
        rows = [between.join(" ".join(map(repr, row)) for row in T) for T in turned.tolist()]
        (folder / "poses.txt").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"expected 0 0 0 1 in the last row, got .* is it written column by column"):
        Folder(folder)


def test_tum_poses_give_the_times(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    T = recordings.poses()
    lines = [recordings.tum_line(50 + i / 10, T[i]) for i in range(8)]
    (folder / "poses.txt").write_text("\n".join(lines))
    sequence = Folder(folder)
    assert sequence.timestamps.tolist() == pytest.approx([50 + i / 10 for i in range(8)])
    torch.testing.assert_close(sequence.T_wc, T, atol=1e-6, rtol=0)
    (folder / "poses.txt").write_text("\n".join(lines[:6]))
    with pytest.raises(ValueError, match=r"poses\.txt: 6 poses for 8 frames"):
        Folder(folder)


def test_poses_that_are_lost_cost_their_frames(recordings, tmp_path):
    """One of zeros, and the last line cut short: the other frames keep their poses and all keep their times."""
    folder = recordings.folder(tmp_path / "desk")
    lines = [recordings.tum_line(50 + i / 10, T) for i, T in enumerate(recordings.poses())]
    lines[3], lines[7] = "50.3 0 0 0 0 0 0 0", lines[7][:20]
    (folder / "poses.txt").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="2 of 8 poses are not known"):
        sequence = Folder(folder)
    assert sequence.timestamps.tolist() == pytest.approx([50 + i / 10 for i in range(8)])
    assert sequence.T_wc.isfinite().flatten(1).all(-1).tolist() == [True] * 3 + [False] + [True] * 3 + [False]
    matrices = [" ".join(map(repr, T.flatten().tolist())) for T in recordings.poses()]
    matrices[3], matrices[7] = "1.#QNAN " * 16, matrices[7][:50]
    (folder / "poses.txt").write_text("\n".join(matrices))
    with pytest.warns(UserWarning, match="2 of 8 lines of poses.txt have no pose; 1 cannot be read"):
        sequence = Folder(folder)
    assert sequence.T_wc.isfinite().flatten(1).all(-1).tolist() == [True] * 3 + [False] + [True] * 3 + [False]


def test_names_that_are_times_of_their_own_are_paired_by_time(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    for i in range(8):
        for kind, late in (("color", 0.004), ("depth", 0)):
            (folder / kind / f"{i:04d}.png").rename(folder / kind / f"{1305031102 + i / 30 + late:.6f}.png")
    (folder / "depth" / "1305031102.100000.png").unlink()
    sequence = Folder(folder)
    assert len(sequence) == 7 and [round(float(frame.color[0, 0, 0]) * 255) for frame in sequence] == [
        0,
        1,
        2,
        4,
        5,
        6,
        7,
    ]
    assert [float(frame.depth[5, 5, 0]) for frame in sequence][3] == pytest.approx(1.035, abs=1e-3)


def test_names_that_are_times(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    T = recordings.poses()
    names = ["9.5", "9.75", "10.0", "10.25", "10.5", "10.75", "11.0", "11.125"]
    for i, name in enumerate(names):
        for kind in ("color", "depth"):
            (folder / kind / f"{i:04d}.png").rename(folder / kind / f"{name}.png")
    (folder / "poses.txt").write_text("\n".join(recordings.tum_line(float(names[i]), T[i]) for i in (0, 1, 2, 3, 4, 6)))
    sequence = Folder(folder, max_gap=0.3)
    assert sequence.timestamps.tolist() == [float(name) for name in names]
    assert sequence.T_wc.isfinite().flatten(1).all(-1).tolist() == [True] * 5 + [False, True, False]


def rename(folder, kind, name):
    for i in range(8):
        (folder / kind / f"{i:04d}.png").rename(folder / kind / f"{name(i)}.png")


def frames(sequence):
    return [round(float(frame.color[0, 0, 0]) * 255) for frame in sequence]


@pytest.mark.parametrize(
    ("color", "depth"),
    [
        (lambda i: f"{i + 1:07d}-{33369 * i:012d}", lambda i: f"{i + 1:07d}-{33369 * i + 7000:012d}"),
        (lambda i: f"cam0_{i:04d}", lambda i: f"cam1_{i:04d}"),
        (lambda i: f"{33 * i}_{i}", lambda i: f"{33 * i + 5}_{i}"),
        (lambda i: f"2026-11-{i + 1}_kinect2", lambda i: f"2026-11-{i + 1}_kinect1"),
    ],
)
def test_of_several_numbers_in_names_that_counts_which_is_shared(recordings, tmp_path, recwarn, color, depth):
    """Redwood's names have a time of its own behind the number of the frame."""
    folder = recordings.folder(tmp_path / "desk")
    rename(folder, "color", color)
    rename(folder, "depth", depth)
    (folder / "depth" / f"{depth(2)}.png").unlink()
    sequence = Folder(folder)
    assert [path.is_file() for path in sequence.depth] == [i != 2 for i in range(8)] and len(sequence) == 8
    assert sequence.findings == () and not recwarn.list
    assert float(sequence[5].depth[5, 5, 0]) == pytest.approx(1 + 0.05 + 0.025 - 0.05, abs=1e-3)


@pytest.mark.parametrize(("units", "late"), [(10**3, 0), (10**6, 4), (10**9, 0), (10**9, 5)])
def test_names_that_are_whole_times(recordings, tmp_path, units, late):
    """Milli-, micro- or nanoseconds since 1970; color and depth some milliseconds apart."""
    folder = recordings.folder(tmp_path / "desk")
    start = 1305031102
    for kind, shift in (("color", 0), ("depth", late)):
        rename(folder, kind, lambda i, shift=shift: int((start + i / 32 + shift / 1000) * units))
    sequence = Folder(folder)
    assert frames(sequence) == list(range(8))
    torch.testing.assert_close(
        sequence.timestamps, start + torch.arange(8.0, dtype=torch.float64) / 32, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("name", ["groundtruth.txt", "traj.txt", "trajectory.txt", "pose"])
@pytest.mark.parametrize("has_times", [True, False])
def test_poses_under_other_names(recordings, tmp_path, name, has_times):
    folder = recordings.folder(tmp_path / "desk")
    T = recordings.poses()
    if name == "pose":
        (folder / name).mkdir()
        for i in range(8):
            (folder / name / f"frame_{i}.txt").write_text(recordings.matrix_text(T[i]))
    else:
        lines = [recordings.tum_line(7 + i, T[i]) if has_times else str(T[i].flatten().tolist()) for i in range(8)]
        (folder / name).write_text("\n".join(lines))
    torch.testing.assert_close(Folder(folder).T_wc, T, rtol=0, atol=1e-6)


def test_poses_that_are_not_read_are_told(recordings, tmp_path):
    """Of a file by another name than ours what does not fit costs nothing."""
    folder = recordings.folder(tmp_path / "desk")
    for name in ("odometry.json", "extrinsics/0000.npy", "poses/0000.npy"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        (found,) = Folder(folder).findings
        assert (found.severity, found.code) == ("note", "poses.unread") and name.split("/")[0] in found.message
    (folder / "groundtruth.txt").write_text(recordings.tum_line(0, recordings.poses()[0]))
    with pytest.warns(RecordingWarning, match=r"groundtruth\.txt is not used as ground truth: .* 1 poses for 8 frames"):
        assert Folder(folder).T_wc is None


def test_an_unknown_camera_names_files_that_may_tell_it(recordings, tmp_path):
    folder = recordings.folder(tmp_path / "desk")
    (folder / "intrinsics.txt").unlink()
    (folder / "intrinsics.npy").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"the camera is not known.*intrinsics\.npy: may tell the camera, and is not read"
    ):
        Folder(folder)
