from __future__ import annotations

import pytest
import torch


def seen(scenes, count: int, seed: int):
    """States, features and positions found: one in four is of something else, and the first feature says so."""
    generator = torch.Generator().manual_seed(seed)
    scene = scenes.Scene(others=0, spread=1.0, force=0.35, wind=0.0, grain=0.03, shake=0.0, stays=False)
    truth, images = scenes.simulate(scene, count, 16, generator)
    wrong = torch.rand(count, 16, generator=generator) < 0.25
    noise = torch.where(wrong, 8.0, 0.5)[..., None] * torch.randn(count, 16, 2, generator=generator)
    features = torch.zeros(count, 16, scenes.FEATURES)
    features[..., 0] = wrong.float()
    return truth.double(), features.double(), truth[..., :2].double() + noise.double(), images


@pytest.fixture
def learned(demo):
    """Function (depends on input, how) -> position error on sequences not taught."""
    scenes, model, train = (demo(f"research.disk_tracking.{name}") for name in ("scene", "model", "train"))
    truth, features, z, _ = seen(scenes, 30, 0)
    test_truth, test_features, test_z, _ = seen(scenes, 20, 1)

    def error(depends: bool, loss) -> float:
        torch.manual_seed(0)
        noise = model.Noise(depends).double()
        train.train(noise.parameters(), lambda rows: loss(noise, truth, features, z, rows), 15, 0.1, 30, 15)
        with torch.no_grad():
            found = model.positions(noise, test_features, test_z)
        return float((found - test_truth[..., :2]).square().sum(-1).mean().sqrt())

    return train, error, float((test_z - test_truth[..., :2]).square().sum(-1).mean().sqrt())


def test_noise_that_depends_on_the_image_beats_constant_noise_and_that_the_network(learned):
    train, error, alone = learned
    by_input, constant = (error(depends, train.by_surrogate) for depends in (True, False))
    assert by_input < 0.6 * constant and constant < 0.7 * alone
    likely = error(True, train.by_likelihood)
    assert by_input < 1.1 * likely  # made for the likelihood: all errors are independent and Gaussian


def test_law_of_motion_has_its_jacobian(demo):
    module = demo("research.disk_tracking.scene")
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.func.vmap(torch.func.jacrev(module.motion))(x)
    torch.testing.assert_close(module.motion_jacobian(x), expected)


def test_the_red_disk_is_where_the_state_says(demo):
    module = demo("research.disk_tracking.scene")
    truth, _, _, images = seen(module, 4, 0)
    red = (images[:, :, 0] - images[:, :, 1]).clamp(min=0.5) - 0.5
    grid = torch.arange(module.SIDE) - (module.SIDE - 1) / 2
    middle = torch.stack([(red.sum(-2) * grid).sum(-1), (red.sum(-1) * grid).sum(-1)], -1)
    middle = middle / red.sum((-2, -1))[..., None]
    inside = truth[..., :2].abs().amax(-1) < module.SIDE / 2 - 4
    assert inside.any() and (middle - truth[..., :2])[inside].abs().max() < 0.5


def test_noise_by_input_starts_constant_and_is_bounded_without_a_dead_end(demo):
    module = demo("research.disk_tracking.model")
    noise = module.Noise(True).double()
    features = 10 * torch.randn(2, 5, module.FEATURES, generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(noise(features)[1], noise.sight.exp().expand(2, 5, 2))
    with torch.no_grad():
        noise.head[-1].bias.fill_(20.0)
    sigma = noise(features)[1]
    assert (sigma.log() - noise.sight).max() < 5
    (gradient,) = torch.autograd.grad(sigma.sum(), noise.head[-1].bias)
    assert (gradient != 0).all()


def test_a_disk_in_the_wind_stays_in_the_picture_and_one_in_the_crowd_need_not(demo):
    module = demo("research.disk_tracking.scene")
    farthest = {
        name: module.simulate(scene, 40, 12, torch.Generator().manual_seed(0))[0][..., :2].abs().amax()
        for name, scene in module.SCENES.items()
    }
    assert farthest["in the wind"] <= module.SIDE / 2 - module.RADIUS < farthest["in a crowd"]


def test_writes_a_table_for_each_scene_and_a_picture(demo, tmp_path):
    numbers = demo("research.disk_tracking.__main__").main(tmp_path, folds=2, sequences=6, steps=5, epochs=1)
    for rows in numbers["position error, pixels"].values():
        assert len(rows) == 9 and all(0 < row["mean"] < 100 for row in rows.values())
        assert rows["smoother, noise by input"]["more than the first"]["mean"] == 0
    assert (tmp_path / "disk_tracking.png").stat().st_size > 10_000
