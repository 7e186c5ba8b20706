from __future__ import annotations

import json

import pytest
import torch

D = torch.float64


@pytest.fixture
def model(demo):
    return demo("research.visual_odometry.model")


def some_drive(model, count: int, steps: int, seed: int = 0):
    """Velocities (count, steps, 2) that change smoothly, and the poses they lead to without slip."""
    generator = torch.Generator().manual_seed(seed)
    change = torch.tensor([0.03, 0.08], dtype=D) * torch.randn(count, steps, 2, generator=generator, dtype=D)
    velocity = torch.tensor([0.6, 0.0], dtype=D) + change.cumsum(1)
    return velocity, model.integrate(velocity)


def test_law_of_motion_has_its_jacobians(model):
    from gradslam_ng.geometry import se2

    generator = torch.Generator().manual_seed(0)
    T, T_next = (se2.exp(torch.randn(5, 3, generator=generator, dtype=D)) for _ in range(2))
    velocity = torch.randn(5, 2, generator=generator, dtype=D)
    law = model.LawOfMotion()
    found = law.linearize(T, velocity, T_next)[1]
    zero, still = torch.zeros(5, 3, dtype=D), torch.zeros(5, 2, dtype=D)
    ways = (
        (zero, lambda d: law(se2.exp(d) @ T, velocity, T_next)),
        (still, lambda d: law(T, velocity + d, T_next)),
        (zero, lambda d: law(T, velocity, se2.exp(d) @ T_next)),
    )
    for J, (start, f) in zip(found, ways, strict=True):
        expected = torch.autograd.functional.jacobian(lambda d, f=f: f(d).sum(0), start).permute(1, 0, 2)
        torch.testing.assert_close(J, expected)


def test_smoother_and_filter_recover_a_drive_that_is_seen_exactly(model):
    velocity, T = some_drive(model, 3, 15)
    features, noise = torch.zeros(3, 15, model.FEATURES, dtype=D), model.Noise(False).double()
    with torch.no_grad():
        noise.sight.fill_(-6.0)
        for estimate in (model.smoothed, model.filtered):
            found = estimate(noise, features, velocity, velocity[:, 0])
            assert (found - T)[:, :, :2, 2].norm(dim=-1).max() < 2e-3


def test_after_the_last_step_the_filter_knows_as_much_as_the_smoother(model):
    velocity, _ = some_drive(model, 4, 12)
    generator = torch.Generator().manual_seed(1)
    z = velocity + 0.02 * torch.randn(velocity.shape, generator=generator, dtype=D)  # little, so that all is linear
    features, noise = torch.zeros(4, 12, model.FEATURES, dtype=D), model.Noise(False).double()
    with torch.no_grad():
        last = [f(noise, features, z, velocity[:, 0])[:, -1] for f in (model.smoothed, model.filtered)]
    assert (last[0] - last[1])[:, :2, 2].norm(dim=-1).max() < 3e-3
    alone = model.integrate(model.with_first(z, velocity[:, 0]))[:, -1]
    assert (last[0] - alone)[:, :2, 2].norm(dim=-1).max() > 5e-3


def test_noise_by_input_beats_constant_noise_where_the_features_say_which_image_is_spoiled(demo, model):
    train = demo("research.visual_odometry.train")

    def clips(seed: int):
        velocity, T = some_drive(model, 40, 20, seed)
        generator = torch.Generator().manual_seed(seed)
        spoiled = torch.rand(40, 20, generator=generator) < 0.3
        sigma = torch.where(spoiled, 0.5, 0.02)[..., None]
        features = torch.zeros(40, 20, model.FEATURES, dtype=D)
        features[..., 0] = spoiled.double()
        z = velocity + sigma * torch.randn(velocity.shape, generator=generator, dtype=D)
        return train.Clips(features, z, T, velocity)

    taught, test, errors = clips(0), clips(1), []
    for depends in (False, True):
        torch.manual_seed(0)
        noise = model.Noise(depends).double()
        train.train(
            noise.parameters(), lambda rows, n=noise: train.surrogate_of_pose(n, taught[rows]), 10, 0.05, 40, 20
        )
        with torch.no_grad():
            T = model.smoothed(noise, test.features, test.z, test.velocity[:, 0])
        errors.append(train.errors_of(T, test)[0])
    alone = train.errors_of(model.integrate(model.with_first(test.z, test.velocity[:, 0])), test)[0]
    assert errors[1] < 0.7 * errors[0] and errors[0] < alone


def test_camera_looks_ahead_and_a_mirrored_drive_obeys_the_same_law(demo, model):
    scene = demo("research.visual_odometry.scene")
    T_wc = scene.camera_poses(torch.eye(3, dtype=D))
    torch.testing.assert_close(torch.linalg.det(T_wc[:3, :3]), torch.ones((), dtype=D))
    assert T_wc[0, 2] > 0.9 and T_wc[2, 2] < 0 and T_wc[1, 0] == -1  # ahead, a little down, to the right
    velocity, T = some_drive(model, 1, 5)
    images = torch.rand(5, 3, 4, 6)
    _, T_m, velocity_m = scene.mirrored(images, T[0], velocity[0])
    torch.testing.assert_close(model.integrate(velocity_m[None])[0], T_m)


def test_error_is_that_of_the_last_pose_over_the_distance(demo, model):
    train = demo("research.visual_odometry.train")
    velocity = torch.tensor([0.5, 0.0], dtype=D).expand(2, 11, 2)
    T = model.integrate(velocity)
    clips = train.Clips(torch.zeros(2, 11, 1), velocity, T, velocity)
    off = T.clone()
    off[:, -1, 1, 2] += 0.3
    assert train.errors_of(off, clips) == (pytest.approx(0.3), pytest.approx(0.0))


@pytest.mark.slow
def test_writes_a_table_and_a_picture(demo, tmp_path):
    numbers = demo("research.visual_odometry.__main__").main(tmp_path, folds=1, drives=2, steps=101, epochs=2)
    assert numbers == json.loads((tmp_path / "visual_odometry.json").read_text())
    rows = numbers["error of the last pose"]
    assert len(rows) == 11 and all(0 < row["100 steps"]["m/m"]["mean"] < 3 for row in rows.values())
    assert (tmp_path / "visual_odometry.png").stat().st_size > 10_000
