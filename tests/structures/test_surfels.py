from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from gradslam_ng.io.ply import write_ply
from gradslam_ng.structures import SurfelMap

WIDTHS = {"points": 3, "normals": 3, "colors": 3, "radii": 0, "confidences": 0, "created": 0, "updated": 0}
MODES = pytest.mark.parametrize("grad", [False, True], ids=["in place", "functional"])


class Lists:
    """The same maps as plain lists of surfels, the obvious way."""

    def __init__(self, batch: int) -> None:
        self.maps = [[] for _ in range(batch)]

    def append(self, new, values) -> None:
        for b, surfels in enumerate(self.maps):
            surfels += [{k: v[b, i].tolist() for k, v in values.items()} for i in range(new.shape[1]) if new[b, i]]

    def scatter(self, slots, keep, values) -> None:
        for b, surfels in enumerate(self.maps):
            for i in range(slots.shape[1]):
                if keep[b, i]:
                    surfels[int(slots[b, i])].update({k: v[b, i].tolist() for k, v in values.items()})

    def compact(self, keep) -> None:
        self.maps = [[s for i, s in enumerate(surfels) if keep[b, i]] for b, surfels in enumerate(self.maps)]


def random_values(generator, batch: int, count: int, names=WIDTHS) -> dict[str, torch.Tensor]:
    values = {}
    for name in names:
        shape = (batch, count, *[WIDTHS[name]] * (WIDTHS[name] > 0))
        if name in ("created", "updated"):
            values[name] = torch.randint(100, shape, generator=generator)
        else:
            values[name] = torch.rand(shape, generator=generator)
    return values


def assert_same(map_: SurfelMap, lists: Lists) -> None:
    assert map_.count.tolist() == [len(surfels) for surfels in lists.maps]
    for b, surfels in enumerate(lists.maps):
        for name, value in map_.attributes().items():
            assert value[b, : len(surfels)].tolist() == [surfel[name] for surfel in surfels], name
            assert (value[b, len(surfels) :] == 0).all(), name


@MODES
@pytest.mark.parametrize("seed", range(4))
def test_behaves_like_lists_of_surfels(seed, grad):
    """Appends, overwrites and removals in three maps that grow apart, each step against the obvious way."""
    generator = torch.Generator().manual_seed(seed)
    map_, lists = SurfelMap.empty(3, capacity=1), Lists(3)
    with torch.set_grad_enabled(grad):
        for _ in range(12):
            count = int(torch.randint(0, 12, (), generator=generator))
            values = random_values(generator, 3, count)
            new = torch.rand(3, count, generator=generator) < torch.tensor([0.9, 0.3, 0.0])[:, None]
            map_ = map_.append(new, **values)
            lists.append(new, values)
            assert_same(map_, lists)

            slots = torch.stack([torch.randperm(map_.capacity, generator=generator) for _ in range(3)])
            keep = (slots < map_.count[:, None]) & (torch.rand(slots.shape, generator=generator) < 0.4)
            values = random_values(generator, 3, slots.shape[1], ("points", "confidences", "updated"))
            map_ = map_.scatter(slots, keep, **values)
            lists.scatter(slots, keep, values)
            assert_same(map_, lists)

            keep = torch.rand(3, map_.capacity, generator=generator) < 0.8
            map_ = map_.compact(keep)
            lists.compact(keep)
            assert_same(map_, lists)
    assert map_.count[0] > 5 and map_.count[2] == 0


def test_an_update_is_in_place_without_gradients_and_leaves_its_argument_alone_with_them():
    values = random_values(torch.Generator().manual_seed(0), 2, 5)
    map_ = SurfelMap.empty(2, 8).append(torch.ones(2, 5, dtype=torch.bool), **values)
    slots, keep = torch.tensor([[1], [2]]), torch.tensor([[True], [False]])
    before = copy.deepcopy(map_)
    after = map_.scatter(slots, keep, radii=torch.full((2, 1), 9.0))
    assert torch.equal(map_.radii, before.radii) and after.radii[0, 1] == 9 and after.radii[1, 2] != 9
    with torch.no_grad():
        assert map_.scatter(slots, keep, radii=torch.full((2, 1), 9.0)).radii.data_ptr() == map_.radii.data_ptr()
    assert map_.radii[0, 1] == 9


def test_gradients_reach_what_was_put_and_what_was_left():
    values = random_values(torch.Generator().manual_seed(0), 1, 4)
    first = values["points"].clone().requires_grad_()
    put = torch.full((1, 2, 3), 2.0, requires_grad=True)
    map_ = SurfelMap.empty().append(torch.tensor([[True, False, True, True]]), **(values | {"points": first}))
    map_ = map_.scatter(torch.tensor([[1, 0]]), torch.tensor([[True, False]]), points=put)
    map_ = map_.compact(torch.tensor([True, True, False, True]).expand(1, map_.capacity)[:, : map_.capacity])
    (map_.points[0, :2] * torch.tensor([[1.0], [10.0]])).sum().backward()
    assert first.grad[0, :, 0].tolist() == [1, 0, 0, 0]  # the third was overwritten, the last removed
    assert put.grad[0, :, 0].tolist() == [10, 0]


def test_room_doubles_and_the_cost_of_growing_stays_linear():
    map_, sizes = SurfelMap.empty(capacity=4), set()
    one = random_values(torch.Generator().manual_seed(0), 1, 1)
    with torch.no_grad():
        for _ in range(200):
            map_ = map_.append(torch.ones(1, 1, dtype=torch.bool), **one)
            sizes.add(map_.capacity)
    assert sorted(sizes) == [4, 8, 16, 32, 64, 128, 256]
    assert map_.reserve(100) is map_ and map_.reserve(1000).capacity == 1000


def test_nothing_to_append_or_to_keep():
    generator = torch.Generator().manual_seed(0)
    map_ = SurfelMap.empty(2).append(torch.zeros(2, 0, dtype=torch.bool), **random_values(generator, 2, 0))
    assert map_.count.tolist() == [0, 0] and not map_.mask.any() and map_.num_slots == 2
    map_ = map_.append(torch.ones(2, 3, dtype=torch.bool), **random_values(generator, 2, 3))
    map_ = map_.compact(torch.zeros(2, map_.capacity, dtype=torch.bool))
    assert map_.count.tolist() == [0, 0]


def test_append_wants_every_attribute():
    values = random_values(torch.Generator().manual_seed(0), 1, 2)
    del values["radii"]
    with pytest.raises(ValueError, match="radii"):
        SurfelMap.empty().append(torch.ones(1, 2, dtype=torch.bool), **values)


@MODES
def test_claimed_slots_follow_the_last_surfels(grad):
    generator = torch.Generator().manual_seed(0)
    with torch.set_grad_enabled(grad):
        map_ = SurfelMap.empty(2)
        map_ = map_.append(torch.arange(4) < torch.tensor([[4], [1]]), **random_values(generator, 2, 4))
        new = torch.tensor([[False, True, True], [True, False, True]])
        claimed, slots = map_.allocate(new)
    assert claimed.count.tolist() == [6, 3]
    assert slots[0, 1:].tolist() == [4, 5] and slots[1, [0, 2]].tolist() == [1, 2]
    for name, value in claimed.gather(torch.where(new, slots, claimed.capacity - 1)).items():
        assert (value == 0).all(), name
        assert torch.equal(getattr(claimed, name)[0, :4], getattr(map_, name)[0, :4])


@pytest.fixture
def pair() -> SurfelMap:
    """Two maps, of 5 and of 2 surfels."""
    new = torch.arange(5) < torch.tensor([[5], [2]])
    return SurfelMap.empty(2).append(new, **random_values(torch.Generator().manual_seed(3), 2, 5))


def test_one_of_a_batch(pair):
    for b, count in ((0, 5), (1, 2), (-1, 2), (-2, 5)):
        one = pair[b]
        assert one.batch == 1 and one.capacity == count and one.count.tolist() == [count]
        assert torch.equal(one.points[0], pair.points[b, :count])
    with pytest.raises(IndexError):
        pair[2]


def test_save_and_load(pair, tmp_path):
    for b in (0, 1):
        pair.save(tmp_path / "map.ply", b)
        loaded, one = SurfelMap.load(tmp_path / "map.ply"), pair[b]
        assert loaded.count.tolist() == one.count.tolist()
        for name in ("points", "normals", "radii", "confidences"):
            assert torch.equal(getattr(loaded, name), getattr(one, name)), name
        assert (loaded.colors - one.colors).abs().max() <= 0.5 / 255 + 1e-6
        assert loaded.mask.all()


def test_an_empty_map_saves_and_loads(tmp_path):
    SurfelMap.empty().save(tmp_path / "map.ply")
    assert SurfelMap.load(tmp_path / "map.ply").count.tolist() == [0]


def test_a_loaded_map_can_grow(pair, tmp_path):
    pair.save(tmp_path / "map.ply")
    map_ = SurfelMap.load(tmp_path / "map.ply")
    map_ = map_.append(torch.ones(1, 2, dtype=torch.bool), **random_values(torch.Generator(), 1, 2))
    assert map_.count.tolist() == [7]


def test_a_saved_map_opens_in_open3d(pair, tmp_path):
    o3d = pytest.importorskip("open3d")
    pair.save(tmp_path / "map.ply")
    cloud = o3d.io.read_point_cloud(str(tmp_path / "map.ply"))
    assert np.allclose(np.asarray(cloud.points), pair.points[0, :5].numpy())
    assert np.allclose(np.asarray(cloud.normals), pair.normals[0, :5].numpy())
    assert np.allclose(np.asarray(cloud.colors), pair.colors[0, :5].numpy(), atol=0.5 / 255 + 1e-6)
    whole = o3d.t.io.read_point_cloud(str(tmp_path / "map.ply")).point
    assert np.allclose(whole["radius"].numpy()[:, 0], pair.radii[0, :5].numpy())
    assert np.allclose(whole["confidence"].numpy()[:, 0], pair.confidences[0, :5].numpy())


def test_a_name_of_another_kind_of_file_is_refused(pair, tmp_path):
    with pytest.raises(ValueError, match=r"map\.xyz: expected a name that ends in \.ply"):
        pair[0].save(tmp_path / "map.xyz")


def test_load_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ply"):
        SurfelMap.load(tmp_path / "none.ply")
    write_ply(tmp_path / "points.ply", {name: np.zeros(3, np.float32) for name in ("x", "y", "z", "nx", "ny", "nz")})
    with pytest.raises(ValueError, match=r"points\.ply.*red"):
        SurfelMap.load(tmp_path / "points.ply")
    (tmp_path / "noise.ply").write_bytes(b"\x00\x01" * 50)
    with pytest.raises(ValueError, match=r"noise\.ply"):
        SurfelMap.load(tmp_path / "noise.ply")


def test_double_precision_stays(tmp_path):
    map_ = SurfelMap.empty(dtype=torch.float64)
    values = random_values(torch.Generator().manual_seed(0), 1, 2)
    values = {k: v.double() if v.is_floating_point() else v for k, v in values.items()}
    map_ = map_.append(torch.ones(1, 2, dtype=torch.bool), **values)
    assert map_.points.dtype == map_.confidences.dtype == torch.float64 and map_.updated.dtype == torch.int64
    map_.save(tmp_path / "map.ply")
    assert torch.allclose(SurfelMap.load(tmp_path / "map.ply").points.double(), map_[0].points)


def test_attributes_that_do_not_go_together_are_refused():
    map_ = SurfelMap.empty(2, 8)
    for name, value, message in (
        ("normals", torch.zeros(2, 7, 3), r"normals: expected shape \(2, 8, 3\)"),
        ("radii", torch.zeros(2, 8, dtype=torch.float64), "radii: .*float32 .*got .*float64"),
        ("colors", torch.zeros(2, 8, 3, device="meta"), "colors: .*on cpu.*on meta"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(map_, **{name: value})
