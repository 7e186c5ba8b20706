from __future__ import annotations

import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from gradslam_ng.datasets import TUM, FrameError, RecordingWarning
from gradslam_ng.datasets.tum import CAMERAS, associate
from gradslam_ng.geometry import se3


def tum_tool(a, b, max_difference):
    """The published tool's way: every pair within the gap, closest first, each entry once."""
    every = sorted((abs(x - y), i, j) for i, x in enumerate(a) for j, y in enumerate(b))
    potential = [pair for pair in every if pair[0] <= max_difference]
    used_a, used_b, matches = set(), set(), []
    for _, i, j in potential:
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            matches.append((i, j))
    return sorted(matches)


@pytest.mark.parametrize("seed", range(20))
def test_association_takes_what_the_tum_tool_takes_and_never_crosses(seed):
    random = np.random.default_rng(seed)
    a = np.sort(random.uniform(0, 2, 60)).tolist()
    b = np.sort(random.uniform(0, 2, random.integers(1, 90))).tolist()
    for gap in (0.005, 0.02, 0.3, 5.0):
        pairs, tool = associate(a, b, gap), tum_tool(a, b, gap)
        assert sorted(i for i, _ in pairs) == sorted(i for i, _ in tool)
        assert [j for _, j in pairs] == sorted(j for _, j in tool)
        assert all(abs(a[i] - b[j]) <= gap for i, j in pairs)


@pytest.mark.parametrize("digits", [0, 1, 2, 6])
@pytest.mark.parametrize("start", [0.0, 1305031102.175304])
def test_association_of_rounded_times(digits, start):
    """However many frames share a time stamp, each goes with its own."""
    times = [round(start + i / 30, digits) for i in range(60)]
    assert associate(times, times, 0.02) == [(i, i) for i in range(60)]


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_images_whose_times_leave_it_open_which_they_are_are_left_out(recordings, tmp_path, kind):
    """The time stamps of one list rounded, or one of them written twice."""
    folder = recordings.tum(tmp_path / "desk")
    path = folder / f"{kind}.txt"
    head, lines = "# timestamp filename", [line.split() for line in path.read_text().splitlines()[-8:]]
    twice = [[lines[2][0], name] if i == 3 else [time, name] for i, (time, name) in enumerate(lines)]
    path.write_text("\n".join([head, *map(" ".join, twice)]))
    with pytest.warns(RecordingWarning, match="2 (color|depth) images are left out: they share time stamps"):
        sequence = TUM(folder)
    assert [(int(a.stem), int(b.stem)) for a, b in zip(sequence.color, sequence.depth, strict=True)] == [
        (i, i) for i in (0, 1, 4, 5, 6, 7)
    ]
    rounded = [[f"{float(time):.1f}", name] for time, name in lines]
    path.write_text("\n".join([head, *map(" ".join, rounded)]))
    with pytest.raises(ValueError, match="they share time stamps"):
        TUM(folder)


@pytest.mark.parametrize("start", [0.0, 1305031102.175304, 1753000000.9])
def test_a_difference_at_the_limit_counts(start):
    a = [start + i / 10 for i in range(100)]
    b = [time + 0.02 for time in a]
    assert associate(a, b, 0.02) == [(i, i) for i in range(100)]
    assert associate(a, [time + 2e-6 for time in b], 0.02) == []


def test_association_of_lists_with_no_gap_limit_does_not_compare_all_with_all():
    a = np.arange(40_000) / 30.0
    pairs = associate(a.tolist(), (a + 0.01).tolist(), max_difference=1e9)
    assert pairs == [(i, i) for i in range(len(a))]


def test_association_of_nothing():
    assert associate([], [1.0], 0.02) == []


def test_reads_color_depth_camera_and_poses(recordings, tmp_path):
    sequence = TUM(recordings.tum(tmp_path / "desk"))
    frame = sequence[2]
    assert len(sequence) == 8 and sequence.size == (24, 32) and sequence.name == "desk"
    assert torch.equal(frame.color, torch.from_numpy(recordings.color_image(2)).float() / 255)
    expected = torch.from_numpy(recordings.depth_image(2, 5000).astype(np.float32))[..., None] / 5000
    torch.testing.assert_close(frame.depth, expected)
    assert frame.depth[0, 3] == 0
    assert frame.K.tolist() == [[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]
    torch.testing.assert_close(frame.T_wc, recordings.poses()[2], atol=1e-6, rtol=0)
    assert float(frame.timestamps) == pytest.approx(100 + 2 / 30, abs=1e-6)


def test_ground_truth_is_interpolated_and_unknown_across_a_gap(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    T = recordings.poses()
    times = [100.0, 100 + 1 / 30, 100 + 3 / 30, 100 + 7 / 30]  # frame 2 lies between two; 4 to 6 in a gap of 0.13 s
    (folder / "groundtruth.txt").write_text("\n".join(recordings.tum_line(t, T[round((t - 100) * 30)]) for t in times))
    sequence = TUM(folder)
    torch.testing.assert_close(sequence[2].T_wc, T[2], atol=1e-5, rtol=0)  # constant twist, as the truth
    known = [bool(frame.T_wc.isfinite().all()) for frame in sequence]
    assert known == [True, True, True, True, False, False, False, True]
    assert all(frame.T_wc.isnan().all() for frame in sequence[4:7])
    assert len(sequence.ground_truth) == 4


def test_no_ground_truth(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    (folder / "groundtruth.txt").unlink()
    sequence = TUM(folder)
    assert sequence.ground_truth is None and sequence[0].T_wc is None


@pytest.mark.parametrize("name", ["rgbd_dataset_freiburg3_x", "fr3_x"])
def test_camera_by_the_name_of_the_folder(recordings, tmp_path, name):
    folder = recordings.tum(tmp_path / name)
    (folder / "intrinsics.txt").unlink()
    with pytest.warns(RecordingWarning, match="belongs to images of 640x480, these are 32x24: scaled"):
        K = TUM(folder).K
    fx, fy, cx, cy = CAMERAS["3"][0]
    scaled = [fx / 20, fy / 20, (cx + 0.5) / 20 - 0.5, (cy + 0.5) / 20 - 0.5]
    assert torch.stack([K[0, 0], K[1, 1], K[0, 2], K[1, 2]]).tolist() == pytest.approx(scaled)
    assert float(TUM(folder, intrinsics=[31, 32, 15, 11]).K[1, 1]) == 32


def test_unknown_camera_names_the_ways_to_give_it(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "walk_freiburg")
    (folder / "intrinsics.txt").unlink()
    with pytest.raises(ValueError, match=r"option intrinsics.*intrinsics\.txt.*freiburg1"):
        TUM(folder)


@pytest.mark.parametrize("K", [[1.0, 2.0, 3.0], np.eye(2), "525,525,320", "a,b,c,d", [0, 525, 320, 240], np.eye(3) * 2])
def test_intrinsics_of_the_wrong_shape_are_refused(recordings, tmp_path, K):
    with pytest.raises(ValueError, match="intrinsics: expected"):
        TUM(recordings.tum(tmp_path / "desk"), intrinsics=K)


@pytest.mark.parametrize("text", ["525 0\n0 525\n", "525 525\n", "fx 525\n", ""])
def test_an_intrinsics_file_of_another_shape_is_refused(recordings, tmp_path, text):
    folder = recordings.tum(tmp_path / "walk")
    (folder / "intrinsics.txt").write_text(text)
    with pytest.raises(ValueError, match=r"intrinsics\.txt(, line 1)?: expected"):
        TUM(folder)


@pytest.mark.parametrize("number", ["1", "2"])
def test_distortion_is_undone(tmp_path, number):
    """Every distorted pixel shows where its ray comes from; once undone, a pinhole camera's pixel shows its own ray."""
    (fx, fy, cx, cy), (k1, k2, p1, p2, k3) = CAMERAS[number]
    folder = tmp_path / f"rgbd_dataset_freiburg{number}_rays"
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
        (folder / f"{name}.txt").write_text(f"1.0 {name}/0.png\n")
    v, u = np.mgrid[0:480, 0:640].astype(float)
    seen_x, seen_y = (u - cx) / fx, (v - cy) / fy
    x, y = seen_x.copy(), seen_y.copy()
    for _ in range(200):  # the ray that the lens sends to this pixel, by fixed point
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        x = x + 0.5 * ((seen_x - 2 * p1 * x * y - p2 * (r2 + 2 * x * x)) / radial - x)
        y = y + 0.5 * ((seen_y - p1 * (r2 + 2 * y * y) - 2 * p2 * x * y) / radial - y)
    pixels = np.zeros((480, 640, 3), np.uint16)
    pixels[..., 0], pixels[..., 1] = np.clip(32768 + 40000 * x, 0, 65535), np.clip(32768 + 40000 * y, 0, 65535)
    iio.imwrite(folder / "depth" / "0.png", pixels[..., 0])
    iio.imwrite(folder / "rgb" / "0.png", (pixels // 256).astype(np.uint8))
    sequence = TUM(folder, depth_scale=1.0)
    sequence.max_depth = math.inf
    frame = sequence[0]
    inner = slice(60, 420), slice(60, 580)
    ray = torch.from_numpy((u - cx) / fx)[inner]
    error = (frame.depth[..., 0][inner] - 32768) / 40000 - ray
    assert error.abs().max() < 1.0 / fx  # nearest: within the rounding to a pixel
    as_taken = torch.from_numpy(x - (u - cx) / fx)[inner]
    assert as_taken.abs().max() > 3.0 / fx  # and there was something to undo
    color = (frame.color[..., 0][inner] * 255 * 256 + 128 - 32768) / 40000 - ray
    assert color.abs().max() < 0.6 * 256 / 40000 + 0.2 / fx


def test_time_stamps_out_of_order_are_sorted_with_a_warning(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    lines = (folder / "depth.txt").read_text().splitlines()
    lines[2], lines[5] = lines[5], lines[2]
    (folder / "depth.txt").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match=r"depth\.txt: time stamps out of order"):
        sequence = TUM(folder)
    assert bool((sequence.timestamps.diff() > 0).all())
    torch.testing.assert_close(sequence[1].depth[5, 5, 0], torch.tensor(1.065), atol=2e-4, rtol=0)


def test_missing_depth_file_costs_one_frame(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    (folder / "depth" / "3.png").unlink()
    sequence = TUM(folder)
    assert len(sequence) == 8 and sequence[2].size == sequence[4].size
    with pytest.raises(FrameError, match=r"frame 3: .*3\.png: no such file") as caught:
        sequence[3]
    assert caught.value.index == 3 and caught.value.path == folder / "depth" / "3.png"


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_truncated_png_costs_one_frame(recordings, tmp_path, kind):
    folder = recordings.tum(tmp_path / "desk")
    path = folder / kind / "3.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sequence = TUM(folder)
    with pytest.raises(FrameError, match=rf"frame 3: .*{kind}.3\.png: not a readable image"):
        sequence[3]
    assert sequence[4].depth.max() > 0


def test_broken_first_frame_is_passed_over_for_the_size(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    (folder / "depth" / "0.png").write_bytes(b"no image")
    assert TUM(folder).size == (24, 32)


def test_eight_bit_depth_is_refused(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    for i in range(8):
        iio.imwrite(folder / "depth" / f"{i}.png", np.full((24, 32), 100, np.uint8))
    with pytest.raises(ValueError, match=r"depth.0\.png: expected depth of 16 bit or float, got 8 bit"):
        TUM(folder)


def test_eight_bit_depth_of_one_frame_costs_that_frame(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    iio.imwrite(folder / "depth" / "5.png", np.full((24, 32), 100, np.uint8))
    with pytest.raises(FrameError, match="got 8 bit"):
        TUM(folder)[5]


def test_color_as_depth_is_refused(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    for i in range(8):
        iio.imwrite(folder / "depth" / f"{i}.png", recordings.color_image(i))
    with pytest.raises(ValueError, match="one channel"):
        TUM(folder)


def test_color_and_depth_of_different_size_are_refused(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    for i in range(8):
        iio.imwrite(folder / "rgb" / f"{i}.png", recordings.color_image(i, (48, 64)))
    with pytest.raises(ValueError, match="color is 64x48, depth is 32x24"):
        TUM(folder)


def test_one_frame_of_another_size_costs_that_frame(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    iio.imwrite(folder / "rgb" / "5.png", recordings.color_image(5, (48, 64)))
    with pytest.raises(FrameError, match=r"is 64x48; expected 32x24"):
        TUM(folder)[5]


@pytest.mark.parametrize(
    "name", ["../other/0.png", "{tmp}/other/0.png", "rgb/../../other/0.png", "..", "linked/../../other/0.png"]
)
def test_list_that_leaves_the_folder_is_refused(recordings, tmp_path, name):
    folder = recordings.tum(tmp_path / "desk")
    other = tmp_path / "other"
    other.mkdir()
    iio.imwrite(other / "0.png", recordings.color_image(0))
    with (folder / "rgb.txt").open("a") as file:
        file.write(f"101.0 {name.format(tmp=tmp_path)}\n")
    with pytest.raises(ValueError, match=r"rgb\.txt, line 11: .* leaves the sequence folder"):
        TUM(folder)


@pytest.mark.parametrize("line", ["soon rgb/0.png", "nan rgb/0.png", "101.0", "101.0 ", "101,5 rgb/0.png"])
def test_bad_line_of_a_list_is_left_out_and_named(recordings, tmp_path, line):
    folder = recordings.tum(tmp_path / "desk")
    with (folder / "rgb.txt").open("a") as file:
        file.write(line)
    with pytest.warns(UserWarning, match=r"1 of 9 lines left out, the first: .*rgb\.txt, line 11: expected"):
        assert len(TUM(folder)) == 8
    (folder / "rgb.txt").write_text(f"100.0 rgb/0.png\n{line}\n{line}")
    with pytest.raises(ValueError, match=r"rgb\.txt, line 2: expected"):
        TUM(folder)


@pytest.mark.parametrize("content", ["", "# timestamp tx ty tz qx qy qz qw\n", "timestamp tx ty tz qx qy qz qw"])
def test_ground_truth_without_a_line_is_none(recordings, tmp_path, content):
    folder = recordings.tum(tmp_path / "desk")
    (folder / "groundtruth.txt").write_text(content)
    with pytest.warns(UserWarning, match=r"groundtruth\.txt: expected .*; no pose is known"):
        sequence = TUM(folder)
    assert sequence.ground_truth is None and sequence[0].T_wc is None


NAMES = {
    "blank": ("img {}", "rgb/img {}"),
    "two blanks": ("a  b {}", "rgb/a  b {}"),
    "hash": ("img#{}", "rgb/img#{}"),
    "hash after a blank": ("img #{}", "rgb/img #{}"),
    "double quotes": ("img {}", '"rgb/img {}"'),
    "single quotes": ("{}", "'rgb/{}'"),
    "quote in the name": ("it's {}", "rgb/it's {}"),
    "comma": ("1,5 {}", "rgb/1,5 {}"),
    "percent": ("100% {}", "rgb/100% {}"),
    "backslash": ("{}", "rgb\\{}"),
    "quoted backslash": ("{}", '"rgb\\{}"'),
    "escaped blank": ("img {}", "rgb/img\\ {}"),
    "umlaut and kanji": ("\u00e4\u6f22{}", "rgb/\u00e4\u6f22{}"),
    "composed in the list alone": ("a\u0308{}", "rgb/\u00e4{}"),
    "decomposed in the list alone": ("\u00e4{}", "rgb/a\u0308{}"),
    "comment behind": ("{}", "rgb/{} # first"),
    "blank and comment behind": ("img {}", "rgb/img {} // first"),
    "another column": ("{}", "rgb/{} 0.033"),
    "dot": ("{}", "./rgb/{}"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_in_lists(recordings, tmp_path, case):
    on_disk, listed = NAMES[case]
    folder = recordings.tum(tmp_path / "desk")
    lines = ["# timestamp filename"]
    for i in range(8):
        (folder / "rgb" / f"{i}.png").rename(folder / "rgb" / on_disk.format(f"{i}.png"))
        lines.append(f"{100 + i / 30 + 0.004:.6f} {listed.format(f'{i}.png')}")
    (folder / "rgb.txt").write_text("\n".join(lines), encoding="utf-8")
    sequence = TUM(folder)
    assert [int(255 * frame.color[0, 0, 0] + 0.5) for frame in sequence] == list(range(8))


@pytest.mark.parametrize("listed", ["rgb/img 9.png", '"rgb/img 9.png"', "rgb/img#9.png", "rgb\\img9.png"])
def test_a_listed_file_that_is_missing_is_named_as_read(recordings, tmp_path, listed):
    folder = recordings.tum(tmp_path / "desk")
    path = folder / "rgb.txt"
    path.write_text(path.read_text().replace("rgb/5.png", listed))
    expected = listed.strip('"').replace("\\", "/")
    with pytest.raises(FrameError, match=f"{expected}: no such file"):
        TUM(folder)[5]


def test_no_pairs_within_the_gap(recordings, tmp_path):
    with pytest.raises(ValueError, match=r"no color image within 0\.001 s of a depth image"):
        TUM(recordings.tum(tmp_path / "desk"), max_difference=0.001)


def test_times_in_nanoseconds(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    for name in ("rgb.txt", "depth.txt"):
        lines = [line.split() for line in (folder / name).read_text().splitlines()[-8:]]
        (folder / name).write_text("\n".join(f"{round(1e9 * float(time))} {path}" for time, path in lines))
    with pytest.raises(ValueError, match="expected time stamps in seconds"):
        TUM(folder)


def test_times_of_today_in_nanoseconds_are_told_by_their_size(recordings, tmp_path):
    usual = TUM(recordings.tum(tmp_path / "usual"))
    folder = recordings.tum(tmp_path / "desk")
    for name in ("rgb.txt", "depth.txt", "groundtruth.txt"):
        lines = [line.split(maxsplit=1) for line in (folder / name).read_text().splitlines() if line[0] != "#"]
        (folder / name).write_text("\n".join(f"{round(1e9 * (1.7e9 + float(time)))} {rest}" for time, rest in lines))
    sequence = TUM(folder)
    assert (sequence.timestamps - usual.timestamps - 1.7e9).abs().max() < 1e-6
    torch.testing.assert_close(sequence.T_wc, usual.T_wc, atol=1e-5, rtol=0, equal_nan=True)


def test_no_images_at_all(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    for path in (folder / "depth").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"none of its 8 frames can be read; no such file: .*depth.0\.png"):
        TUM(folder)


def test_all_zero_depth_is_a_frame_without_readings(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "desk")
    iio.imwrite(folder / "depth" / "2.png", np.zeros((24, 32), np.uint16))
    assert bool((TUM(folder)[2].depth == 0).all())


def test_real_sequence(shared_data, reprojection):
    sequence = TUM(shared_data / "tum" / "rgbd_dataset_freiburg3_structure_notexture_far")
    assert len(sequence) == 250 and sequence.size == (480, 640)
    first, second = sequence[20], sequence[90]
    assert 1 < float(first.depth[first.depth > 0].median()) < 3
    T_21 = se3.inverse(second.T_wc) @ first.T_wc
    assert reprojection(first, second, T_21)[0].abs().median() < 0.012
    assert reprojection(first, second, torch.eye(4))[0].abs().median() > 0.1


def test_a_line_that_is_there_twice_counts_once(recordings, tmp_path):
    folder = recordings.tum(tmp_path / "room")
    lines = (folder / "rgb.txt").read_text().splitlines()
    (folder / "rgb.txt").write_text("\n".join([*lines, lines[4], lines[2]]))
    with pytest.warns(UserWarning, match=r"rgb\.txt: 2 lines are there twice, and count once"):
        sequence = TUM(folder)
    assert len(sequence) == 8 and not sequence.findings
