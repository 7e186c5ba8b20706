from __future__ import annotations

import torch


def test_the_map_of_a_reconstructed_room_is_that_of_the_room(demo):
    """Eight frames of 64 x 48: where a disk of 15 cm stands clear in the map, so it does in the room, but for some 3%
    of the places, below things that no frame saw."""
    room_map = demo("common.room_map")
    sequence, frames = room_map.record(8, (48, 64))
    found = room_map.floor_map(frames, 0.1)
    free = room_map.standing(found, 0.15)
    at = found.grid.center(free.nonzero())
    assert len(at) * 0.1**2 > 2.0  # square meters
    angle = torch.arange(0, 2 * torch.pi, torch.pi / 4, dtype=torch.float64)
    rim = at[:, None] + 0.13 * torch.stack([angle.cos(), angle.sin()], -1)
    column = torch.stack([torch.cat([rim, torch.full_like(rim[..., :1], z)], -1) for z in (0.2, 0.5, 0.9, 1.2)])
    clear = (sequence.room.clearance(column.reshape(-1, 3)).view(4, -1, len(angle)) > 0).all(0).all(-1)
    assert clear.double().mean() > 0.95
    torch.testing.assert_close(found.field()(at), found.distance[free])


def test_a_cell_more_or_less_leaves_the_order_of_the_others(demo):
    """What is drawn from a map is the same after a change that rounding makes."""
    shuffled = demo("common.room_map").shuffled
    free = torch.rand(30, 20, generator=torch.Generator().manual_seed(2)) < 0.6
    order = shuffled(free, torch.Generator().manual_seed(0)).tolist()
    assert sorted(order) == free.nonzero().tolist() != order
    less = free.clone()
    less[tuple(order[5])] = False
    assert shuffled(less, torch.Generator().manual_seed(0)).tolist() == order[:5] + order[6:]
