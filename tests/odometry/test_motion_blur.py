"""Color of a frame blurred by motion is of another moment than its depth: how much it is trusted, and where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradslam_ng.geometry import camera, se3
from gradslam_ng.odometry import ProjectiveICP, motion_blur
from gradslam_ng.odometry.motion_blur import edge_width
from gradslam_ng.odometry.photometric import marginalize_offset
from gradslam_ng.preprocessing import measure_surface
from gradslam_ng.structures import RGBDFrames

SIZE = (96, 128)
K = torch.tensor([[100.0, 0, 63.5], [0, 100, 47.5], [0, 0, 1]], dtype=torch.float64)
LAST = se3.exp(torch.tensor([[0.06, 0.03, 0.0, 0.0, 0.03, 0.01]], dtype=torch.float64))
LATE = torch.tensor([[0.006, -0.004, 0.003, 0.003, 0.004, -0.003]], dtype=torch.float64)  # color's camera from depth's


def look(T_wc: torch.Tensor, corner: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Color and depth (H, W, 1) of painted tiles on the wall z = 2, or on three walls of a room that meet there."""
    rays = camera.unproject(torch.ones(*SIZE, 1, dtype=torch.float64), K).reshape(-1, 3)
    d, o = se3.rotate(T_wc, rays), T_wc[..., None, :3, 3]
    along = (2.0 - o[..., 2:]) / d[..., 2:]
    if corner:  # which is looked into
        normals = torch.tensor([[0.8, 0, 0.6], [-0.7, 0.3, 0.65], [0.0, -0.8, 0.6]], dtype=torch.float64)
        along = (1.2 - o @ normals.T) / (d @ normals.T)
    depth = torch.where(along > 0, along, torch.inf).amin(-1, keepdim=True)
    at = (o + depth * d) * 6.0
    tiles = 0.5 + 0.3 * torch.tanh(20 * torch.sin(at[..., 0]) * torch.sin(at[..., 1] + 0.5 * at[..., 2]))
    return tiles.reshape(*SIZE, 1).expand(*SIZE, 3), depth.reshape(*SIZE, 1)


def frame(color: torch.Tensor, depth: torch.Tensor) -> RGBDFrames:
    return RGBDFrames(color[None], depth[None], K[None])


def blurred(corner: bool, late: torch.Tensor = LATE) -> RGBDFrames:
    """A frame seen from the origin, its color the mean over a motion of several pixels whose middle is `late`."""
    sweep = torch.linspace(-0.5, 0.5, 15, dtype=torch.float64)[:, None] * se3.log(LAST)
    shown = [look((se3.exp(late) @ se3.exp(xi[None]))[0], corner)[0] for xi in sweep]
    return frame(torch.stack(shown).mean(0), look(torch.eye(4, dtype=torch.float64), corner)[1])


def errors(corner: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """Of a blurred frame's pose, meters; and where color is taken to be of depth's moment."""
    eye = torch.eye(4, dtype=torch.float64)[None]
    model = measure_surface(frame(*look(eye[0], corner))).surface.with_pose(eye)
    live, found = measure_surface(blurred(corner)), []
    for share in (motion_blur.OFFSET_SHARE, 0.0):
        monkeypatch.setattr(motion_blur, "OFFSET_SHARE", share)
        T_wc = ProjectiveICP(iterations=(10, 10, 10))(live, model, eye, T_wc_last=LAST).T_wc
        found.append(float(T_wc[0, :3, 3].norm()))
    return found[0], found[1]


def test_color_of_a_blurred_frame_does_not_pull_it_away(monkeypatch):
    with_offset, without = errors(corner=True, monkeypatch=monkeypatch)
    assert with_offset < 1e-4 and without > 3e-4


def test_the_covariance_of_a_blurred_frame_is_that_of_its_error():
    """Over eight frames whose color is off another way each; where color that disagrees is taken for noise, the errors
    are a thousandth of what it says."""
    eye = torch.eye(4, dtype=torch.float64)[None]
    model = measure_surface(frame(*look(eye[0], True))).surface.with_pose(eye)
    late = LATE.abs() * torch.randn(8, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    squared = []
    for xi in late:
        found = ProjectiveICP(iterations=(10, 10, 10))(measure_surface(blurred(True, xi[None])), model, eye, LAST)
        error = se3.log(found.T_wc)[0]
        squared.append(float(error @ torch.linalg.inv(found.covariance[0]) @ error))
    assert 0.3 < sorted(squared)[4] < 8  # squared, of six dimensions, normalized


def test_where_geometry_is_open_color_still_fixes_a_blurred_frame():
    """Along a bare wall a blurred image is all there is."""
    eye = torch.eye(4, dtype=torch.float64)[None]
    model = measure_surface(frame(*look(eye[0], False))).surface.with_pose(eye)
    live, start, found = measure_surface(blurred(False)), eye.clone(), []
    start[:, 0, 3] = 0.04
    for photometric in (True, False):
        icp = ProjectiveICP(iterations=(10, 10, 10), photometric=photometric)
        found.append(float(icp(live, model, start, T_wc_last=LAST).T_wc[0, :3, 3].norm()))
    assert found[0] < 0.015 and found[1] > 0.03


def test_a_slow_camera_s_color_counts_as_always(monkeypatch):
    eye = torch.eye(4, dtype=torch.float64)[None]
    model = measure_surface(frame(*look(eye[0], True))).surface.with_pose(eye)
    live, found = measure_surface(blurred(True)), []
    for share in (motion_blur.OFFSET_SHARE, 0.0):
        monkeypatch.setattr(motion_blur, "OFFSET_SHARE", share)
        found.append(ProjectiveICP()(live, model, eye, T_wc_last=eye).T_wc)
    assert torch.equal(*found)


def test_where_the_frame_before_was_seen_from_goes_before_where_the_search_may_start():
    """Features may have found the frame first: it then starts where it is, but was blurred all the same."""
    eye = torch.eye(4, dtype=torch.float64)[None]
    model = measure_surface(frame(*look(eye[0], True))).surface.with_pose(eye)
    live, icp = measure_surface(blurred(True)), ProjectiveICP(iterations=(10, 10, 10))
    still = icp(live, model, eye, T_wc_last=eye).T_wc[0, :3, 3].norm()
    assert icp(replace(live, T_wc_before=LAST), model, eye, T_wc_last=eye).T_wc[0, :3, 3].norm() < 0.5 * still


@pytest.mark.parametrize("blur", [4, 6])
def test_the_width_of_edges_is_that_of_their_blur(blur):
    step = torch.where(torch.arange(64) < 32, 0.2, 0.8)
    even = torch.nn.functional.conv1d(step[None, None], torch.full((1, 1, blur), 1 / blur))[0, 0]
    image = even.expand(48, -1)[None]
    assert float(edge_width(image)) == pytest.approx(blur, rel=0.25)
    assert float(edge_width(image.mT)) == pytest.approx(float(edge_width(image)))


def test_sharp_edges_are_narrow_and_even_images_have_none():
    image = (torch.rand(1, 48, 64, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert float(edge_width(image)) < motion_blur.SHARP
    assert float(edge_width(torch.full((1, 48, 64), 0.5))) == 0.0


def test_an_unknown_offset_is_marginalized():
    """The same as to minimize over the offset e too, whose covariance is known."""
    generator = torch.Generator().manual_seed(1)
    A, B = torch.randn(2, 6, 6, generator=generator, dtype=torch.float64)
    H, S, g = A @ A.mT, 0.1 * B @ B.mT, torch.randn(6, generator=generator, dtype=torch.float64)
    found = marginalize_offset(H[None], g[None], torch.tensor([3.0]).double(), S[None])
    e = torch.linalg.solve(H + torch.linalg.inv(S), -g)
    joint = torch.cat([torch.cat([H, H], 1), torch.cat([H, H + torch.linalg.inv(S)], 1)], 0)
    schur = joint[:6, :6] - joint[:6, 6:] @ torch.linalg.solve(joint[6:, 6:], joint[6:, :6])
    torch.testing.assert_close(found[0][0], schur)
    torch.testing.assert_close(found[1][0], g + H @ e)
    torch.testing.assert_close(found[2][0], 3.0 + g @ e + 0.5 * e @ (H + torch.linalg.inv(S)) @ e)
