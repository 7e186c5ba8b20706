"""Surfels far from the camera go to disk and come back, moved with their keyframes; nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.io.tensor_tree import load_tree, save_tree
from gradslam_ng.loops import LoopCloser
from gradslam_ng.loops.surfel_store import ATTRIBUTE_BYTES, SurfelStore
from gradslam_ng.structures import SurfelMap
from gradslam_ng.structures.surfels import save_surfels
from tests.slam.test_submaps import clip


def walls(count: int = 4, each: int = 50) -> tuple[SurfelMap, Tensor, Tensor]:
    """Surfels about keyframes 8 m apart on a line, of which keyframe each is, and where these are."""
    generator = torch.Generator().manual_seed(0)
    keyframe = torch.arange(count).repeat_interleave(each)[None]
    T_wk = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    T_wk[:, 0, 3] = 8.0 * torch.arange(count)
    points = torch.randn(1, count * each, 3, generator=generator) + T_wk[keyframe[0], :3, 3].float()
    normals = torch.nn.functional.normalize(torch.randn(1, count * each, 3, generator=generator), dim=-1)
    ones = torch.ones(1, count * each)
    number = torch.arange(count * each)[None]
    colors, total = torch.rand(1, count * each, 3, generator=generator), torch.tensor([count * each])
    return SurfelMap(points, normals, colors, 0.01 * ones, ones, keyframe, number, total), keyframe, T_wk


def order(*parts: SurfelMap) -> dict[str, Tensor]:
    """All surfels of maps by the number that each was given."""
    numbers = torch.cat([part[0].updated[0] for part in parts]).argsort()
    return {
        name: torch.cat([part[0].attributes()[name][0] for part in parts])[numbers] for name in parts[0].attributes()
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=0, msg=name)


def test_what_is_far_goes_to_disk_and_comes_back_where_the_camera_does(tmp_path):
    map_, keyframe, T_wk = walls()
    store = SurfelStore(tmp_path, limit=0.0)
    near = store.page(map_, keyframe, T_wk, [T_wk[0]])
    assert int(near.count[0]) == 100 and store.count == 100  # the second keyframe is 8 m away, the third 16
    assert_same(order(near, *store.parts(T_wk)), order(map_))
    again = store.page(near, near.created, T_wk, [T_wk[3]])
    assert set(again.created[again.mask].tolist()) == {2, 3}
    assert_same(order(again, *store.parts(T_wk)), order(map_))


def test_within_the_limit_nothing_is_written(tmp_path):
    map_, keyframe, T_wk = walls()
    store = SurfelStore(tmp_path / "submaps", limit=200 * ATTRIBUTE_BYTES)
    assert store.page(map_, keyframe, T_wk, [T_wk[0]]) is map_ and not store.files
    assert not (tmp_path / "submaps").exists()


def test_what_is_on_disk_moves_with_its_keyframe_without_a_file_touched(tmp_path):
    map_, keyframe, T_wk = walls()
    store = SurfelStore(tmp_path, limit=0.0)
    near = store.page(map_, keyframe, T_wk, [T_wk[0]])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    T = se3.exp(torch.tensor([0.5, -0.2, 0.1, 0.0, 0.3, 0.1], dtype=torch.float64))
    parts = list(store.parts(T @ T_wk))
    whole, points = order(map_), se3.transform(T.float(), map_.points[0])
    found = order(*parts)
    torch.testing.assert_close(found["points"], points[100:], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["colors"], whole["colors"][100:])
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()} and int(near.count[0]) == 100


def test_a_saved_store_is_the_same_again(tmp_path):
    map_, keyframe, T_wk = walls()
    store = SurfelStore(tmp_path / "submaps", limit=0.0)
    near = store.page(map_, keyframe, T_wk, [T_wk[0]])
    save_tree(tmp_path / "state", store, {})
    again = load_tree(tmp_path / "state", [SurfelStore])
    assert again.files == store.files and again.limit == store.limit
    assert_same(order(near, *again.parts(T_wk)), order(map_))


def test_a_disk_that_takes_no_more_leaves_the_map_in_memory(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device", "file")

    monkeypatch.setattr("gradslam_ng.loops.surfel_store.save_tree", full)
    map_, keyframe, T_wk = walls()
    store = SurfelStore(tmp_path, limit=0.0)
    near = store.page(map_, keyframe, T_wk, [T_wk[0]])
    assert_same(order(near), order(map_))
    assert not store.files and store.limit == float("inf") and "stays in memory" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"nothing", None], ids=["empty", "other", "gone"])
def test_a_file_that_cannot_be_read_costs_its_surfels_and_a_warning(tmp_path, caplog, damage):
    map_, keyframe, T_wk = walls()
    store = SurfelStore(tmp_path, limit=0.0)
    near = store.page(map_, keyframe, T_wk, [T_wk[0]])
    path = next(tmp_path.iterdir())
    path.unlink() if damage is None else path.write_bytes(damage)
    again = store.page(near, near.created, T_wk, [T_wk[3]])
    assert int(again.count[0]) + store.count == 150 and "50 surfels of the map are missing" in caplog.text


@pytest.fixture(scope="module")
def turning(room):
    """A camera that turns away from what it has seen, and comes back."""
    degrees = torch.cat([torch.arange(0, 50, 10), torch.arange(30, -10, -10)])
    return room.InMemory(replace(clip(room, degrees), T_wc=None))


@pytest.fixture(scope="module")
def unlimited(turning) -> gs.slam.Result:
    return gs.PointFusion().run(turning, compile=False, loops=LoopCloser(window=3, asynchronous=False))


def test_a_run_within_reach_of_all_of_its_map_is_the_same_bit_for_bit(turning, unlimited, tmp_path):
    closer = LoopCloser(window=3, asynchronous=False, store=SurfelStore(tmp_path, limit=0.0))
    result = gs.PointFusion().run(turning, compile=False, loops=closer)
    assert torch.equal(result.trajectory.T_wc, unlimited.trajectory.T_wc) and not list(result.stored())
    assert torch.equal(result.map.points, unlimited.map.points) and result.loops == unlimited.loops


def test_a_map_that_is_all_on_disk_is_whole_at_the_end(turning, tmp_path, monkeypatch):
    """Nothing counts as near, so that what is not tracked against is never looked into; nothing of it is lost."""
    monkeypatch.setattr("gradslam_ng.loops.surfel_store.REACH", 0.0)
    never = 2.0  # of similarity, and nothing within reach: no loop is looked for
    plain = LoopCloser(window=3, asynchronous=False, reach=(0.0, 0.0), similarity=never)
    paged = LoopCloser(
        window=3, asynchronous=False, reach=(0.0, 0.0), similarity=never, store=SurfelStore(tmp_path, limit=0.0)
    )
    expected, found = (gs.PointFusion().run(turning, compile=False, loops=closer) for closer in (plain, paged))
    parts = list(found.stored())
    assert torch.equal(found.trajectory.T_wc, expected.trajectory.T_wc)
    assert len(parts) > 1 and int(found.map.count[0]) < int(expected.map.count[0])
    rows = [
        torch.cat([torch.cat([part[0].points[0], part[0].colors[0]], -1) for part in each])
        for each in ([expected.map], [found.map, *parts])
    ]
    a, b = (each.sort(dim=0).values for each in rows)  # the order of surfels is another
    assert len(a) == len(b)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    save_surfels(tmp_path / "map.ply", [found.map[0], *parts])
    assert int(SurfelMap.load(tmp_path / "map.ply").count[0]) == len(a)
