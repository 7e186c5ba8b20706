"""The pose that another source tells (`T_prior`): where a frame is looked for, and where open directions stay."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import gradslam_ng as gs
from gradslam_ng.geometry import se3
from gradslam_ng.odometry import ProjectiveICP, TrackingStatus
from gradslam_ng.places import Relocalizer
from gradslam_ng.slam.graphed_step import GraphedStep
from gradslam_ng.slam.saved_run import StateWriter
from gradslam_ng.structures import RGBDFrames

D = torch.float64
ELSEWHERE = se3.exp(torch.tensor([40.0, -3.0, 7.0, 0.4, -1.0, 2.0], dtype=D))  # the world of the other source
K = torch.tensor([[64.0, 0, 39.5], [0, 64.0, 29.5], [0, 0, 1]])


def told(frames: RGBDFrames, T_wc: Tensor | None = None) -> RGBDFrames:
    """With the true motion, or that of other poses, as another source would tell it."""
    return replace(frames, T_prior=ELSEWHERE @ (frames.T_wc if T_wc is None else T_wc).double())


def turned_only(frames: RGBDFrames) -> RGBDFrames:
    T_prior = frames.T_prior.clone()
    T_prior[..., :3, 3] = torch.nan
    return replace(frames, T_prior=T_prior)


def sequence(room, frames: RGBDFrames):
    found = room.InMemory(frames)
    found.T_prior = frames.T_prior
    return found


def meters(T_wc: Tensor, frames: RGBDFrames) -> Tensor:
    return (T_wc.double() - frames.T_wc.double())[..., :3, 3].norm(dim=-1)


def tracked(frames: RGBDFrames, system: gs.PointFusion | None = None) -> Tensor:
    with torch.no_grad():
        return (system or gs.PointFusion())(frames)[1][0]


@pytest.fixture(scope="module")
def hurried(room) -> RGBDFrames:
    """Turns by 17 degrees and moves by 20 cm a frame, to and fro."""
    s = torch.tensor([0.0, 1, 0.1, 1.1, 0.0], dtype=D)[:, None]
    return room.view(room.walk(1) @ se3.exp(s * torch.tensor([0.16, -0.04, 0.1, 0.05, 0.3, 0.04], dtype=D)), (120, 160))


def wall(count: int = 5) -> RGBDFrames:
    """A camera that slides along a bare wall, by more each time: what it sees tells its distance and two rotations."""
    generator = torch.Generator().manual_seed(1)
    depth = 2.0 + 0.001 * torch.randn((count, 60, 80, 1), generator=generator)
    xi = torch.zeros(count, 6, dtype=D)
    xi[:, 0] = 0.01 * torch.arange(count) ** 2
    return RGBDFrames(torch.full((count, 60, 80, 3), 0.5), depth, K, se3.exp(xi))


@pytest.mark.parametrize(
    "system", [gs.PointFusion, gs.ICPOdometry, lambda: gs.KinectFusion(voxel_size=0.04, truncation=0.12)]
)
def test_steps_too_wide_for_images_are_tracked_from_it(room, monkeypatch, hurried, system):
    """Without local features, which nothing asks for."""
    asked = []
    monkeypatch.setattr("gradslam_ng.slam.submap_tracking.sift", lambda image: asked.append(image))
    assert meters(tracked(hurried), hurried).max() > 0.05
    result = system().run(sequence(room, told(hurried)), compile=False)
    assert (result.statuses == TrackingStatus.TRACKED).all() and meters(result.trajectory.T_wc, hurried).max() < 0.01
    assert not asked


def test_a_rotation_alone_is_enough_for_a_camera_that_turns(room):
    twist = torch.tensor([0.0, 0, 0, 0.05, 0.3, 0.04], dtype=D)
    s = torch.tensor([0.0, 1, 0.1, 1.1, 0.0], dtype=D)[:, None]
    frames = room.view(room.walk(1) @ se3.exp(s * twist), (120, 160))
    assert (tracked(frames) - frames.T_wc).abs().max() > 0.1
    assert (tracked(turned_only(told(frames))) - frames.T_wc).abs().max() < 0.01


@pytest.mark.parametrize("system", [gs.PointFusion, gs.ICPOdometry])
def test_what_images_leave_open_follows_it(system):
    frames = wall()
    T_wc = tracked(told(frames), system())
    assert meters(T_wc, frames).max() < 0.004
    assert meters(tracked(frames, system()), frames)[-1] > 0.05


def test_one_that_is_wrong_does_no_harm_where_images_fix_the_pose(room):
    frames = room.view(room.walk(6), (120, 160))
    off = se3.exp(0.1 * torch.eye(6, dtype=D)[torch.arange(6) % 3])  # 10 cm, another way each time
    good, bad = tracked(frames), tracked(told(frames, frames.T_wc.double() @ off))
    assert meters(bad, frames).max() < meters(good, frames).max() + 1e-3


def test_unknown_poses_leave_all_as_it_is(clip, quick):
    unknown = replace(clip, T_prior=torch.full((4, 4), torch.nan))
    assert torch.equal(tracked(unknown, quick()), tracked(clip, quick()))


def test_each_sequence_of_a_batch_has_its_own(quick):
    frames = wall()
    unknown = replace(frames, T_prior=torch.full((len(frames), 4, 4), torch.nan, dtype=D))
    both = RGBDFrames.stack([told(frames), unknown])
    with torch.no_grad():
        T_wc = quick()(both)[1]
    assert torch.allclose(T_wc[0], tracked(told(frames), quick()), atol=1e-5)
    assert torch.allclose(T_wc[1], tracked(frames, quick()), atol=1e-5)


def test_what_is_no_rigid_motion_is_refused_at_the_door_and_unknown_later(clip, quick):
    wrong = 2 * torch.eye(4)
    with pytest.raises(ValueError, match="T_prior: expected a rigid motion, or NaN in all or in its translation"):
        quick().step(None, replace(clip[0], T_prior=wrong))
    expected = tracked(clip, quick())
    T_prior = torch.full((len(clip), 4, 4), torch.nan)
    T_prior[3] = wrong
    assert torch.equal(tracked(replace(clip, T_prior=T_prior), quick()), expected)


def test_gradients_against_differences():
    """Along a wall the camera goes where it is told to, and so does the gradient; toward it images decide."""
    frames = wall(2)
    frames = told(frames.to(dtype=D))
    odometry = ProjectiveICP(iterations=(2, 2, 6), photometric=False)

    def moved(xi: Tensor) -> Tensor:
        T = frames.T_prior[1] @ se3.exp(xi)
        return gs.PointFusion(odometry)(replace(frames, T_prior=torch.stack([frames.T_prior[0], T])))[1][0, 1, :3, 3]

    at = torch.tensor([1e-3, 2e-3, -1e-3, 0.0, 0.0, 1e-3], dtype=D, requires_grad=True)
    J = torch.autograd.functional.jacobian(moved, at)
    with torch.no_grad():
        steps = 1e-5 * torch.eye(6, dtype=D)
        differences = torch.stack([(moved(at + h) - moved(at - h)) / 2e-5 for h in steps], -1)
    assert torch.allclose(J, differences, atol=1e-3)
    assert (J[:2, :2] - torch.eye(2, dtype=D)).abs().max() < 0.05 and J[2, 2].abs() < 0.05


def test_a_camera_carried_while_covered_is_looked_for_where_it_is_told_to_be(room):
    s = torch.tensor([0.0, 0.1, 1, 4, 5], dtype=D)[:, None]
    frames = room.view(room.walk(1) @ se3.exp(s * torch.tensor([0.05, 0, 0.03, 0, 0.06, 0.0], dtype=D)))
    depth = frames.depth.clone()
    depth[2] = 0
    frames = replace(frames, depth=depth)
    for known, limit in ((told(frames), 1e-3), (frames, torch.inf)):
        starts: list[Tensor] = []
        relocalizer = Relocalizer(verifier=SimpleNamespace(locate=lambda live, predict, T, _, to=starts: to.append(T)))
        gs.PointFusion().run(sequence(room, known), compile=False, relocalizer=relocalizer)
        off = [float(meters(T[0], frames[3])) for T in starts]
        assert off[0] < limit and (limit < 1 or min(off) > 0.1)


def test_sequences_and_clips_carry_it_and_a_run_is_taken_up_with_it(room, tmp_path):
    frames = wall()
    prior = gs.Trajectory(torch.arange(len(frames), dtype=D) / 30, told(frames).T_prior)
    whole = room.InMemory(frames).with_prior(prior)
    assert torch.allclose(whole[1:3].clips(2)[0].T_prior, told(frames).T_prior[1:3])
    path, seen = tmp_path / "state", []
    part = gs.PointFusion()
    writer = StateWriter(path, seconds=0)

    def stop(index: int, state: gs.slam.State) -> None:
        seen.append(index)
        if index == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        part.run(whole, on_frame=stop, compile=False, state_writer=writer)
    again = gs.PointFusion().run(whole, compile=False, resume=path)
    assert torch.equal(again.trajectory.T_wc, gs.PointFusion().run(whole, compile=False).trajectory.T_wc)


def test_interpolated_poses_of_a_body_become_those_of_its_camera(room, clip):
    T_bc = se3.exp(torch.tensor([0.3, 0.1, 0.0, 0.0, 1.2, 0.0], dtype=D))
    body = room.InMemory(clip)
    times = body.timestamps
    prior = gs.Trajectory(times, clip.T_wc.double() @ se3.inverse(T_bc))
    assert torch.allclose(body.with_prior(prior, T_bc).T_prior, clip.T_wc.double(), atol=1e-6)
    alone = body.with_prior(prior, T_bc, translates=False)
    assert alone[0].T_prior[:3, 3].isnan().all() and alone[0].T_prior[:3, :3].isfinite().all()
    with pytest.raises(ValueError, match="prior: expected poses at the times of frames"):
        body.with_prior(gs.Trajectory(times + 100, clip.T_wc))
    with pytest.raises(ValueError, match="T_bc: expected a rigid motion"):
        body.with_prior(prior, 2 * T_bc)


def test_a_recorded_step_has_it_too(quick):
    """Recorded and replayed as for a GPU, without one."""
    frames = told(wall())

    def replayed(function, buffers):
        return lambda: function(*buffers)

    step, system, state = GraphedStep(quick(), record=replayed), quick(), None
    other = None
    for frame in frames:
        state = step(state, frame)
        with torch.no_grad():
            other = system.step(other, frame)
    assert step.works and torch.allclose(state.T_wc, other.T_wc, atol=1e-5)
