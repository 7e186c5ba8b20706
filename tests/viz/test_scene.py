"""What is sampled of maps for a viewer."""

from __future__ import annotations

import torch

from gradslam_ng.odometry import TrackingStatus
from gradslam_ng.structures import SurfelMap, VoxelGrid
from gradslam_ng.structures.voxel_blocks import pack, voxel_offsets
from gradslam_ng.viz.scene import LOST, TRACKED, UNCERTAIN, Cloud, Scene, outcomes_of, place_aside, sample


def surfels(count: int) -> SurfelMap:
    """Surfels along x, a millimeter apart, of which the k-th was created in frame k."""
    x = torch.arange(count) / 1000
    points = torch.stack([x, 0 * x, 0 * x + 1], -1)[None]
    normals = torch.tensor([0.0, 0, -1]).expand(1, count, 3)
    number = torch.arange(count)[None]
    ones = torch.ones(1, count)
    return SurfelMap(points, normals, 0.5 * torch.ones(1, count, 3), ones, ones, number, number, torch.tensor([count]))


def test_every_second_fourth_eighth_surfel():
    for count, most, kept in ((100, 100, 100), (101, 100, 51), (400, 100, 100), (401, 100, 51)):
        cloud = sample(surfels(count), most)
        assert len(cloud) == kept <= most
        assert set(cloud.created.tolist()) <= set(range(0, count, 1))


def test_samples_do_not_change_with_the_map():
    map_ = surfels(10)
    cloud = sample(map_)
    map_.points.zero_()
    assert cloud.points[3, 0] == torch.tensor(0.003)


def test_points_of_a_volume_lie_on_its_surface():
    """A plane z = 3.2 voxels in one block."""
    volume = VoxelGrid.empty(1, 0.01, 0.04).allocate(pack(torch.zeros(1).long(), torch.zeros(1, 3).long()))
    z = voxel_offsets(torch.device("cpu"))[:, 2]
    slots = torch.zeros(1, dtype=torch.int64)
    sdf, ones = (0.01 * (3.2 - z))[None], torch.ones(1, 512)
    volume = volume.scatter(slots, sdf=sdf, weight=ones, color=0.5 * torch.ones(1, 3, 512), color_weight=ones)
    cloud = sample(volume)
    assert 15 < len(cloud) <= 64
    assert torch.allclose(cloud.points[:, 2], torch.tensor(0.03)) and cloud.points[:, :2].max() > 0.06
    assert (cloud.colors == 128).all()


def test_an_empty_volume_and_an_empty_map():
    assert len(sample(VoxelGrid.empty())) == 0 and len(sample(SurfelMap.empty())) == 0


def test_every_status_is_tracked_uncertain_or_lost():
    statuses = torch.tensor([int(status) for status in TrackingStatus])
    found = dict(zip(TrackingStatus, outcomes_of(statuses).tolist(), strict=True))
    assert [status for status, outcome in found.items() if outcome == TRACKED] == [TrackingStatus.TRACKED]
    uncertain = {status for status, outcome in found.items() if outcome == UNCERTAIN}
    assert uncertain == {TrackingStatus.DEGENERATE, TrackingStatus.UNCONFIRMED}
    assert sum(outcome == LOST for outcome in found.values()) == len(found) - 3


def test_a_submap_that_is_not_connected_stands_beside():
    first, other = sample(surfels(100)), sample(surfels(50))
    up = torch.tensor([0.0, -1.0, 0.0])
    moved = other.transform(place_aside([first], other, torch.eye(4, dtype=torch.float64)[None], up))
    assert moved.points[:, 0].min() > first.points[:, 0].max() + 0.4
    assert torch.equal(moved.points[:, 1:], other.points[:, 1:])


def test_up_is_where_cameras_say_it_is_whatever_the_axes():
    """Cameras whose y axes point along +z of the world, and nothing level in sight."""
    T_wc = torch.eye(4, dtype=torch.float64)[None].clone()
    T_wc[0, :3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    assert torch.allclose(Scene(Cloud.join([]), T_wc).up, torch.tensor([0.0, 0, -1]))
