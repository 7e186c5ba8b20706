"""The step is the paper's figure, systems are made alike, and the parts of a run are exchanged by handing in others."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import numpy as np
import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.mapping import Aggregate, Mapper
from gradslam_ng.odometry import Odometry, ProjectiveICP
from gradslam_ng.slam import System
from gradslam_ng.slam.timing import StageTimer, stage

SYSTEMS = (gs.PointFusion, gs.KinectFusion, gs.ICPSLAM, gs.ICPOdometry)


def test_the_step_is_a_figure():
    """A line a stage, in the order of the papers: no block, no timer, no test of a type, one choice for the start."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(System.step))).body
    body = function.body[1:]
    assert len(body) <= 8 and [ast.unparse(decorator) for decorator in function.decorator_list] == ["mode_free"]
    assert all(isinstance(line, ast.Assign) for line in body[:-1]) and isinstance(body[-1], ast.Return)
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = [func.attr for func in called if isinstance(func, ast.Attribute)]
    assert len(names) == len(called)  # no isinstance or other function
    expected = ["preprocess", "initialize", "predict", "predict_view", "localize", "update_map", "advance"]
    assert [name for name in expected if name in names] == expected
    choices = [node for node in ast.walk(function) if isinstance(node, (ast.If, ast.IfExp, ast.BoolOp, ast.With))]
    assert [ast.unparse(choice.test) for choice in choices] == ["state is None"]


def test_no_system_changes_the_step():
    for system in SYSTEMS:
        assert system.step is System.step and system.forward is System.forward


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("odometry", ["gradicp", "icp", "ground-truth"])
def test_systems_are_made_alike(system, odometry):
    slam = system(odometry, factor=2, settings="fast")
    assert slam.factor == 2 and slam.settings is gs.slam.PRESETS["fast"]
    assert isinstance(slam.odometry, Odometry) and isinstance(slam.mapper, Mapper)
    parameters = list(inspect.signature(system).parameters.values())
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ["odometry"]
    assert {"mapper", "noise", "factor", "settings"} <= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize(("name", "part"), [("odometry", torch.nn.Identity()), ("mapper", torch.nn.Identity())])
def test_parts_of_another_kind_are_refused(name, part):
    with pytest.raises(TypeError, match=f"{name}: expected an instance of {name.capitalize()}, got Identity"):
        gs.PointFusion(**{name: part})


def test_another_mapper_maps(clip, quick):
    """ICP-SLAM is odometry that gathers its frames."""
    odometry = ProjectiveICP(iterations=(3, 2, 2))
    with torch.no_grad():
        ours, poses = gs.ICPOdometry(odometry, mapper=Aggregate())(clip[:3])
        theirs, expected = quick(gs.ICPSLAM)(clip[:3])
    assert torch.equal(poses, expected) and torch.equal(ours.points, theirs.points)


def test_a_relocalizer_of_ones_own(clip, room, quick, blanked):
    asked = []

    class Recording(gs.Relocalizer):
        """Finds nothing."""

        def relocalize(self, live, predict, T_wc_last, frame, image, *, near=None):
            view = predict(T_wc_last)
            assert torch.equal(view.T_wm, T_wc_last) and view.size == live.surface.size
            asked.append(frame)

    sequence = room.InMemory(blanked(clip, 4, 0.0))
    relocalizer = Recording(spacing=(1e-6, 1e-3))
    result = quick().run(sequence, relocalizer=relocalizer)
    assert asked == [5, 7], "of lost frames that show the same every second is looked for"
    assert not result.relocalized and result.tracked.tolist() == [True] * 4 + [False] * 4
    assert relocalizer.keyframes.frames == [0, 1, 2, 3]
    assert quick().run(sequence).relocalized == [5]
    asked.clear()
    gs.PointFusion("ground-truth").run(sequence, relocalizer=relocalizer)  # nobody has to search
    assert not asked


@pytest.mark.parametrize(
    ("system", "arguments", "message"),
    [
        (
            gs.KinectFusion,
            {"mapper": gs.PointFuser()},
            "mapper: expected one for maps of type VoxelGrid, got PointFuser",
        ),
        (gs.PointFusion, {"mapper": gs.TSDFFuser()}, "mapper: expected one for maps of type SurfelMap, got TSDFFuser"),
        (gs.PointFusion, {"settings": 3}, "settings: expected a name or Settings, got int"),
        (gs.PointFusion, {"noise": 3}, "noise: expected a function of a surface and its color, got int"),
        (gs.PointFusion, {"factor": 1.5}, "factor: expected a whole number, at least 1, got 1.5"),
        (
            gs.PointFusion,
            {"settings": "nonsense"},
            "settings: expected one of default, fast, accurate, soft, got 'nonsense'",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_at_once(system, arguments, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        system(**arguments)


def test_a_stage_within_another_counts_to_the_outer_one():
    class Parts:
        def __init__(self) -> None:
            self.timer = StageTimer()

        @stage("outer")
        def outer(self) -> int:
            """Both."""
            return self.inner() + 1

        @stage("inner")
        def inner(self) -> int:
            return 1

    parts = Parts()
    assert parts.outer() == 2 and set(parts.timer.seconds) == {"outer"} and parts.outer.__doc__ == "Both."
    assert parts.inner() == 1 and set(parts.timer.seconds) == {"outer", "inner"}
    assert list(parts.timer.iterate("wait", iter([None, 2]))) == [None, 2] and "wait" in parts.timer.seconds


def test_a_factor_may_be_any_whole_number():
    assert gs.PointFusion(factor=np.int64(2)).factor == 2


def test_mappers_prune_every_so_many_frames():
    pruned = []

    class Counting(gs.PointFuser):
        """Keeps the map as it is."""

        def prune(self, map_, ok, frame):
            pruned.append(frame)
            return map_

    mapper = Counting(prune_every=3)
    for frame in range(7):
        mapper.prune_if_due(gs.SurfelMap.empty(), torch.ones(1, dtype=torch.bool), frame)
    assert pruned == [0, 3, 6]
