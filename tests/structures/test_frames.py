from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from gradslam_ng.structures import RGBDFrames


def frames(*lead: int, seed: int = 0, **fields) -> RGBDFrames:
    random = torch.Generator().manual_seed(seed)
    values = {
        "color": torch.rand(*lead, 4, 6, 3, generator=random),
        "depth": torch.rand(*lead, 4, 6, 1, generator=random),
        "K": torch.eye(3),
        "T_wc": torch.eye(4).expand(*lead, 4, 4) * torch.rand(*lead, 1, 1, generator=random),
        "timestamps": torch.rand(lead, generator=random, dtype=torch.float64),
    }
    return RGBDFrames(**{**values, **fields})


@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
def test_fields_take_the_leading_axes_of_color(lead):
    one = frames(*lead)
    assert one.shape == lead and one.size == (4, 6)
    assert one.K.shape == (*lead, 3, 3) and one.T_wc.shape == (*lead, 4, 4) and one.timestamps.shape == lead


def test_a_camera_for_each_clip_serves_its_frames():
    K = torch.stack([torch.eye(3), 2 * torch.eye(3)])
    one = frames(2, 5, K=K)
    assert torch.equal(one.K[1, 4], K[1]) and torch.equal(one.K[0, 0], K[0])


def test_indexing_takes_every_field():
    one = frames(2, 5)
    for index, lead in ((1, (5,)), ((slice(None), 0), (2,)), ((1, 3), ()), ((0, slice(1, 4)), (3,))):
        part = one[index]
        assert part.shape == lead
        for name in ("color", "depth", "K", "T_wc", "timestamps"):
            assert torch.equal(getattr(part, name), getattr(one, name)[index])
    assert len(one) == 2 and len(one[0]) == 5


def test_a_frame_is_neither_indexed_nor_counted():
    with pytest.raises(IndexError, match="no leading axis"):
        frames()[0]
    with pytest.raises(TypeError, match="no length"):
        len(frames())


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"color": torch.zeros(5, 4, 6, 1)}, r"color: expected shape \(\.\.\., H, W, 3\), got \(5, 4, 6, 1\)"),
        ({"color": torch.zeros(6, 3)}, "color: expected shape"),
        ({"depth": torch.zeros(5, 4, 6)}, r"depth: expected shape \(5, 4, 6, 1\) to match color, got \(5, 4, 6\)"),
        ({"depth": torch.zeros(5, 6, 4, 1)}, "depth: expected shape"),
        ({"depth": torch.zeros(5, 4, 6, 1, dtype=torch.int32)}, r"depth: .*float type.*int32; .* / 1000 for millim"),
        ({"color": torch.zeros(5, 4, 6, 3, dtype=torch.int64)}, r"color: .*torch.uint8, got torch.int64"),
        ({"depth": torch.ones(5, 4, 6, 1).to_sparse()}, "depth: expected a dense tensor, got one of layout"),
        ({"depth": torch.ones(5, 4, 6, 1).to(torch.float8_e4m3fn)}, "depth: .*float type, got torch.float8"),
        ({"color": torch.ones(5, 4, 6, 3).to(torch.float8_e5m2)}, "color: .*float type.*got torch.float8"),
        ({"color": None}, r"color: expected a tensor, got NoneType; .*gray"),
        ({"T_wc": [[1.0]]}, "T_wc: expected a tensor, got list"),
        ({"K": torch.eye(3, device="meta")}, "K: expected it on cpu like color, got meta"),
        ({"K": torch.tensor([1.0, 1, 2, 2])}, r"K: expected shape .*\[\[fx, 0, cx\], \[0, fy, cy\], \[0, 0, 1\]\]"),
        ({"K": torch.eye(3).expand(2, 3, 3)}, "K: expected shape"),
        ({"K": torch.zeros(4)}, "K: expected shape"),
        ({"T_wc": torch.eye(3)}, "T_wc: expected shape"),
        ({"timestamps": torch.zeros(4)}, "timestamps: expected shape"),
    ],
)
def test_shapes_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        frames(5, **fields)


def test_what_can_be_meant_in_one_way_only_is_taken():
    """Bytes, gradSLAM's 4x4 camera with an axis of its own for the frames, and images of two precisions."""
    pixels = torch.randint(256, (2, 5, 4, 6, 3), dtype=torch.uint8)
    K = torch.eye(4).expand(2, 1, 4, 4).clone()
    K[1, 0, 0, 0] = 7.0
    one = frames(2, 5, color=pixels, K=K)
    assert torch.equal(one.color, pixels.float() / 255) and one.color.dtype == torch.float32
    assert torch.equal(one.K[1, 4], K[1, 0, :3, :3])
    for lesser, greater in ((torch.float32, torch.float64), (torch.bfloat16, torch.float32)):
        one = frames(2, depth=torch.ones(2, 4, 6, 1, dtype=lesser), color=torch.zeros(2, 4, 6, 3, dtype=greater))
        assert one.depth.dtype == one.color.dtype == one.K.dtype == greater


def test_time_stays_in_double_precision():
    moved = frames(5).to(dtype=torch.float16)
    assert moved.color.dtype == moved.K.dtype == moved.T_wc.dtype == torch.float16
    assert moved.timestamps.dtype == torch.float64
    assert frames(5, timestamps=None).to("cpu").timestamps is None
    for given in (torch.arange(5), torch.arange(5.0)):  # whole numbers, and less precision than seconds of today need
        assert frames(5, timestamps=given).timestamps.dtype == torch.float64


def test_stack():
    many = RGBDFrames.stack([frames(3, seed=i) for i in range(2)], dim=1)
    assert many.shape == (3, 2) and torch.equal(many[:, 1].depth, frames(3, seed=1).depth)
    assert RGBDFrames.stack([frames(), frames(T_wc=None)]).T_wc is None


def test_collate_stacks_frames_and_drops_what_one_lacks():
    batch = default_collate([frames(5, seed=i) for i in range(3)])
    assert isinstance(batch, RGBDFrames) and batch.shape == (3, 5)
    assert torch.equal(batch[2].color, frames(5, seed=2).color)
    assert default_collate([frames(), frames(timestamps=None)]).timestamps is None


def test_data_loader():
    batches = list(DataLoader([frames(seed=i) for i in range(4)], batch_size=2))
    assert [batch.shape for batch in batches] == [(2,), (2,)]
    assert torch.equal(batches[1][1].T_wc, frames(seed=3).T_wc)


def test_gradient_reaches_a_shared_camera():
    K = torch.eye(3, requires_grad=True)
    frames(2, 5, K=K)[0].K.sum().backward()
    assert torch.equal(K.grad, torch.full((3, 3), 5.0))


def test_frames_of_numpy_arrays():
    color = np.full((2, 3, 4, 3), 51, np.uint8)
    depth = np.full((2, 3, 4), 1500, np.uint16)
    depth[0, 0, 0], depth[0, 0, 1] = 0, 65535
    frames = RGBDFrames.from_numpy(color, depth, (5, 6, 1.5, 1), depth_scale=1000)
    assert frames.shape == (2,) and frames.depth.dtype == torch.float32
    assert frames.depth[0, 0, :3, 0].tolist() == [0, 0, 1.5]  # the largest number is no measurement
    torch.testing.assert_close(frames.color, torch.full((2, 3, 4, 3), 0.2))
    assert frames.K[1].tolist() == [[5, 0, 1.5], [0, 6, 1], [0, 0, 1]]
    meters = np.array([[[np.nan, np.inf, -1, 2.0]]]).repeat(3, 1).repeat(2, 0)[..., None]
    assert RGBDFrames.from_numpy(color, meters, np.diag([5.0, 5, 1])).depth[1, 2, :, 0].tolist() == [0, 0, 0, 2]
    with pytest.raises(ValueError, match="depth: expected uint16, or floats in meters, got uint8"):
        RGBDFrames.from_numpy(color, depth.astype(np.uint8), (5, 6, 1.5, 1))
    with pytest.raises(ValueError, match="depth_scale: expected a positive number"):
        RGBDFrames.from_numpy(color, depth, (5, 6, 1.5, 1), depth_scale=0)


def test_frames_are_pinned_for_a_gpu_and_stay_as_they_are_without_one(monkeypatch):
    one = frames(2, 5)
    if not torch.accelerator.is_available():
        assert one.pin_memory() is one
        with pytest.warns(UserWarning, match="no accelerator"):
            assert next(iter(DataLoader([one], batch_size=1, pin_memory=True))).shape == (1, 2, 5)
    pinned = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda value: pinned.append(value.shape) or value.clone())
    locked = frames(2, 5, timestamps=None).pin_memory()
    assert pinned == [(2, 5, 4, 6, 3), (2, 5, 4, 6, 1), (2, 5, 3, 3), (2, 5, 4, 4)]
    assert torch.equal(locked.depth, one.depth) and locked.timestamps is None
    moved = one.to("cpu", non_blocking=True)
    assert torch.equal(moved.color, one.color) and moved.timestamps.dtype == torch.float64
