from __future__ import annotations

from dataclasses import replace

import pytest
import torch


@pytest.fixture(scope="module")
def clip():
    from demos.plan_in_room import living_room

    return living_room(8, (36, 48))


@pytest.fixture
def module(demo):
    return demo("plan_in_room")


def task(module, clip):
    return module.Task(clip, (-1.6, 0.4), (1.6, 0.3), radius=0.15)


def test_the_gradient_of_a_plan_in_depth_is_that_of_central_differences(module, clip):
    one = task(module, clip)
    found, gradient, _ = module.differentiate(one)
    assert found.clearance >= 0.15 and found.length > 3.2
    assert gradient.isfinite().all() and 0 < (gradient != 0).double().mean() < 0.05
    assert module.shares(gradient).sum() == pytest.approx(1.0)
    errors = module.against_differences(one, gradient, directions=1)
    assert errors["choices held"] < 1e-4 and errors["choices made anew"] < 1e-4


def test_the_plan_leads_through_glass_and_is_told_so(module, clip):
    summary, found, told, hole = module.through_glass(task(module, clip))
    assert summary["cost, its middle of glass"] < summary["cost, the table whole"]
    assert summary["cost, its middle of glass"] < summary["cost, of glass, unknown blocked"]
    assert found.unknown > 0.5
    assert summary["of these of glass"] < 0.6 and summary["of those that are told"] > 0.95
    assert told.shape == hole.shape


def test_cameras_know_more_than_the_volume(module, clip):
    known = module.known(task(module, clip))
    assert known["known with what cameras saw through"] > known["known to the volume"] + 0.15


def test_usefulness_by_a_few_perturbations(module, clip, monkeypatch):
    one = replace(task(module, clip), association="hard")
    monkeypatch.setattr(module, "STEPS", (1e-3,))
    told = module.usefulness(one, 2)
    assert told["1 mm"]["sign agreement"] == 1.0


def test_smooth_images_are_of_about_one_in_size(module):
    (image,) = module.smooth_images(1, torch.zeros(20, 24, 32, 1))
    assert image.shape == (20, 24, 32, 1) and 0.5 < image.std() < 1.2
