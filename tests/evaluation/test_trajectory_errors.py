"""ATE and RPE against evo, against the known answers, and on trajectories that give them nothing to work with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gradslam_ng import evaluation
from gradslam_ng.evaluation.alignment import align, associate
from gradslam_ng.geometry import se3
from gradslam_ng.structures import Trajectory


def walk(n: int = 200, seed: int = 0, rate: float = 30.0) -> Trajectory:
    """A smooth path that uses all six degrees of freedom."""
    generator = torch.Generator().manual_seed(seed)
    phase = torch.rand(6, generator=generator, dtype=torch.float64) * 6
    t = torch.arange(n, dtype=torch.float64) / rate
    xi = torch.sin(t[:, None] * torch.tensor([0.7, 1.1, 0.5, 0.9, 0.4, 1.3]) + phase)
    return Trajectory(100.0 + t, se3.exp(xi))


def noisy(trajectory: Trajectory, sigma: float = 0.02, seed: int = 1) -> Trajectory:
    generator = torch.Generator().manual_seed(seed)
    xi = sigma * torch.randn(len(trajectory), 6, generator=generator, dtype=torch.float64)
    return Trajectory(trajectory.timestamps, se3.exp(xi) @ trajectory.T_wc)


def evo_pair(ground_truth: Trajectory, estimate: Trajectory, align: str, max_gap: float):
    """The two trajectories as evo associates and aligns them."""
    sync, trajectory = pytest.importorskip("evo.core.sync"), pytest.importorskip("evo.core.trajectory")
    pair = [
        trajectory.PoseTrajectory3D(poses_se3=list(x.T_wc.numpy()), timestamps=x.timestamps.numpy().copy())
        for x in (ground_truth, estimate)
    ]
    reference, other = sync.associate_trajectories(*pair, max_diff=max_gap)
    if align != "none":
        other.align(reference, correct_scale=align == "sim3")
    return reference, other


def assert_same_summary(ours: evaluation.Statistics, theirs) -> None:
    expected = theirs.get_all_statistics()
    assert len(ours.errors) == len(theirs.error)
    for name, value in ours.summary().items():
        assert value == pytest.approx(expected[name], abs=1e-6), name


@pytest.mark.parametrize("align", ["none", "se3", "sim3"])
@pytest.mark.parametrize("every", [1, 3])  # estimate denser or sparser than the ground truth
def test_ate_equals_evo(align, every):
    metrics = pytest.importorskip("evo.core.metrics")
    truth, estimate = walk(rate=100.0)[::2], noisy(walk(rate=100.0))[::every]
    theirs = metrics.APE()
    theirs.process_data(evo_pair(truth, estimate, align, 0.02))
    assert_same_summary(evaluation.ate(truth, estimate, align), theirs)


@pytest.mark.parametrize("align", ["none", "sim3"])
@pytest.mark.parametrize("all_pairs", [True, False])
@pytest.mark.parametrize(
    ("delta", "unit", "evo_unit"),
    [(1, "frames", "frames"), (10, "frames", "frames"), (0.5, "meters", "meters"), (0.5, "metres", "meters")],
)
def test_rpe_equals_evo(delta, unit, evo_unit, all_pairs, align):
    metrics = pytest.importorskip("evo.core.metrics")
    truth, estimate = walk(), noisy(walk(), 0.005)
    ours = evaluation.rpe(truth, estimate, delta, unit, all_pairs=all_pairs, align=align)
    pair = evo_pair(truth, estimate, align, 0.02)
    for statistics, relation in ((ours.translation, "translation_part"), (ours.rotation, "rotation_angle_deg")):
        theirs = metrics.RPE(metrics.PoseRelation[relation], delta, metrics.Unit[evo_unit], all_pairs=all_pairs)
        theirs.process_data(pair)
        assert_same_summary(statistics, theirs)


def test_known_answers(shared_data):
    folder = shared_data / "trajectories"
    truth = Trajectory.load(folder / "freiburg1_xyz-groundtruth.txt")
    estimate = Trajectory.load(folder / "freiburg1_xyz-rgbdslam.txt")
    assert evaluation.ate(truth, estimate).rmse == pytest.approx(0.013473, abs=1e-6)
    assert evaluation.rpe(truth, estimate, 1).translation.rmse == pytest.approx(0.005759, abs=1e-6)
    second = evaluation.rpe(truth, estimate, 30)
    assert second.translation.rmse == pytest.approx(0.021670, abs=1e-6)
    assert second.rotation.rmse == pytest.approx(0.936267, abs=1e-6)
    truth = Trajectory.load(folder / "fr2_desk_groundtruth.txt")
    estimate = Trajectory.load(folder / "fr2_desk_ORB.txt")
    assert evaluation.ate(truth, estimate, max_gap=0.01).rmse == pytest.approx(0.008119, abs=1e-6)


def test_rpe_per_second_is_the_pair_nearest_to_a_second():
    truth, dropped = walk(), torch.ones(200, dtype=torch.bool)
    dropped[[40, 41, 42, 90]] = False
    estimate = noisy(truth)[dropped]
    ours = evaluation.rpe(truth, estimate, 1.0, "seconds")

    t, expected = estimate.timestamps, []
    for i in range(len(t)):  # evaluate_rpe.py --fixed_delta --delta_unit s, pair by pair
        j = int((t - t[i] - 1.0).abs().argmin())
        if j > i and abs(t[j] - t[i] - 1.0) <= 0.1:
            expected.append((i, j))
    assert ours.pairs.tolist() == [list(pair) for pair in expected]


def test_rpe_of_a_constant_drift_is_that_drift():
    truth = walk()
    step = se3.exp(torch.tensor([0.003, 0.0, 0.004, 0.0, 0.0, math.radians(0.2)], dtype=torch.float64))
    poses = [truth.T_wc[0]]
    for i in range(1, len(truth)):
        poses.append(poses[-1] @ se3.inverse(truth.T_wc[i - 1]) @ truth.T_wc[i] @ step)
    drift = evaluation.rpe(truth, Trajectory(truth.timestamps, torch.stack(poses)), 1)
    assert torch.allclose(drift.translation.errors, step[:3, 3].norm().expand(199), atol=1e-12)
    assert torch.allclose(drift.rotation.errors, torch.full((199,), 0.2, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("mode", ["se3", "sim3"])
def test_alignment_recovers_the_transform(mode):
    truth = walk()
    T = se3.exp(torch.tensor([1.0, -2.0, 0.5, 0.3, -1.2, 2.0], dtype=torch.float64))
    scale = 2.5 if mode == "sim3" else 1.0
    poses = T @ truth.T_wc
    poses[:, :3, 3] *= scale
    aligned, T_align = align(truth, Trajectory(truth.timestamps, poses), mode)
    assert torch.allclose(aligned.T_wc, truth.T_wc, atol=1e-9)
    assert torch.linalg.det(T_align[:3, :3]).item() == pytest.approx(scale**-3, rel=1e-9)


@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (0.0, 0.0, 0.0)])  # a straight line, a camera that only turns
def test_orientations_align_what_positions_leave_open(direction):
    path = walk(50)
    poses = path.T_wc.clone()
    poses[:, :3, 3] = torch.arange(50, dtype=torch.float64)[:, None] * torch.tensor(direction, dtype=torch.float64) / 10
    truth = Trajectory(path.timestamps, poses)
    T = se3.exp(torch.tensor([1.0, -2.0, 0.5, 0.3, -1.2, 2.0], dtype=torch.float64))
    aligned, _ = align(truth, Trajectory(path.timestamps, T @ poses), "se3")
    assert torch.allclose(aligned.T_wc, truth.T_wc, atol=1e-6)


def test_association_takes_the_nearest_in_time():
    truth, estimate = walk(rate=100.0), walk(60)
    estimate = Trajectory(estimate.timestamps + 0.003, estimate.T_wc)
    a, b = associate(truth, estimate, 0.02)
    gaps = (truth.timestamps[None] - b.timestamps[:, None]).abs()
    assert torch.equal(a.timestamps, truth.timestamps[gaps.argmin(-1)])
    assert len(b) == int((gaps.min(-1).values <= 0.02).sum())


def test_ground_truth_with_gaps_is_not_compared_there():
    truth = walk()
    poses = truth.T_wc.clone()
    poses[50:80] = math.nan
    error = evaluation.ate(Trajectory(truth.timestamps, poses), noisy(truth), max_gap=0.001)
    assert len(error.errors) == 170
    assert math.isfinite(error.rmse)


def test_time_stamps_out_of_order_change_nothing():
    truth, estimate = walk(), noisy(walk())
    order = torch.as_tensor(np.random.default_rng(0).permutation(len(estimate)))
    with pytest.warns(UserWarning, match="out of order"):
        shuffled = Trajectory(estimate.timestamps[order], estimate.T_wc[order])
    assert evaluation.ate(truth, shuffled).rmse == evaluation.ate(truth, estimate).rmse


class TestHostile:
    def test_no_overlap_in_time(self):
        later = Trajectory(walk().timestamps + 1000, walk().T_wc)
        with pytest.raises(ValueError, match=r"no two time stamps within 0.02 s.*100.000 to .*1100.000 to"):
            evaluation.ate(walk(), later)

    @pytest.mark.parametrize("align", ["se3", "sim3"])
    def test_one_pose_cannot_be_aligned(self, align):
        with pytest.raises(ValueError, match="at least 3 pairs of poses, got 1"):
            evaluation.ate(walk(), walk()[:1], align)

    def test_one_pose_unaligned(self):
        assert evaluation.ate(walk(), walk()[:1], "none").rmse == 0

    def test_one_pose_has_no_drift(self):
        with pytest.raises(ValueError, match="no two of 1 poses are 1 frames apart"):
            evaluation.rpe(walk(), walk()[:1], 1)

    def test_estimate_not_finite(self):
        """The errors are those of the other poses, and a warning counts what is left out."""
        truth, noisy = walk(), walk().T_wc.clone()
        noisy[:, 0, 3] += 0.01 * torch.arange(200).sin()
        lost, others = noisy.clone(), torch.arange(200) != 7
        lost[7, 0, 3] = math.nan
        with pytest.warns(UserWarning, match=r"estimate: 1 of 200 poses are not known, the first at time 100\.233"):
            error = evaluation.ate(truth, Trajectory(truth.timestamps, lost))
        expected = evaluation.ate(truth[others], Trajectory(truth.timestamps, noisy)[others])
        assert len(error.errors) == 199 and error.rmse == expected.rmse
        with pytest.warns(UserWarning, match="1 of 200 poses are not known"):
            drift = evaluation.rpe(truth, Trajectory(truth.timestamps, lost), 1, "seconds")
        assert math.isfinite(drift.translation.rmse)
        with pytest.warns(UserWarning), pytest.raises(ValueError, match="estimate: expected at least one known pose"):
            evaluation.ate(truth, Trajectory(truth.timestamps, torch.full((200, 4, 4), math.nan)))

    def test_ground_truth_all_missing(self):
        with pytest.raises(ValueError, match="ground truth: expected at least one known pose"):
            evaluation.ate(Trajectory(walk().timestamps, torch.full((200, 4, 4), math.nan)), walk())

    def test_empty_estimate(self):
        with pytest.raises(ValueError, match="estimate: expected at least one known pose"):
            evaluation.ate(walk(), walk()[:0])

    def test_unknown_alignment(self):
        with pytest.raises(ValueError, match="align: expected one of none, se3, sim3, got 'affine'"):
            evaluation.ate(walk(), walk(), "affine")

    def test_unknown_unit(self):
        with pytest.raises(ValueError, match="unit: expected one of frames, seconds, meters, got 'hours'"):
            evaluation.rpe(walk(), walk(), 1, "hours")

    @pytest.mark.parametrize(
        ("delta", "unit"), [(0, "frames"), (1.5, "frames"), (-1, "meters"), (math.nan, "seconds"), (math.inf, "frames")]
    )
    def test_delta_out_of_range(self, delta, unit):
        with pytest.raises(ValueError, match="delta: expected a positive"):
            evaluation.rpe(walk(), walk(), delta, unit)

    def test_no_pair_that_far_apart(self):
        with pytest.raises(ValueError, match="no two of 200 poses are 1000 meters apart"):
            evaluation.rpe(walk(), walk(), 1000, "meters")

    def test_scale_of_a_camera_at_rest(self):
        still = Trajectory(walk().timestamps, torch.eye(4, dtype=torch.float64).expand(200, 4, 4))
        with pytest.raises(ValueError, match="does not move"):
            evaluation.ate(walk(), still, "sim3")


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_poses_of_one_time_are_compared_in_order(digits):
    """Where time stamps were rounded, the first of those that are equal goes with the first."""
    times = torch.round(torch.arange(60, dtype=torch.float64) / 30, decimals=digits)
    T_wc = se3.exp(torch.arange(60)[:, None] * torch.tensor([0.01, 0.02, -0.01, 0.01, 0.0, 0.02], dtype=torch.float64))
    truth = Trajectory(times, T_wc)
    assert evaluation.ate(truth, truth, "none").rmse == 0
    poses, valid = truth.at(times)
    assert bool(valid.all()) and torch.allclose(poses, T_wc, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", [0.0, 1305031102.175304])
def test_drift_over_seconds_that_are_just_reached(start):
    """Poses that are a tenth of a second apart, to rounding, are a second apart after ten."""
    times = start + torch.arange(31, dtype=torch.float64) / 10
    truth = Trajectory(
        times, se3.exp(torch.randn(31, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    )
    pairs = evaluation.rpe(truth, truth, 1.0, "seconds", all_pairs=False).pairs
    assert pairs.tolist() == [[0, 10], [10, 20], [20, 30]]
    assert len(evaluation.rpe(truth, truth, 2.9, "seconds", tolerance=0.1 / 2.9).pairs) == 3


@pytest.mark.parametrize(("delta", "frames"), [(0.3, 3), (0.7, 7), (1.0, 10)])
def test_drift_over_meters_whose_sum_is_rounded(delta, frames):
    """0.1 + 0.1 + 0.1 is more than 0.3, and six more steps of it less than 0.9."""
    positions = torch.arange(31, dtype=torch.float64)[:, None] * torch.tensor([0.1, 0, 0, 0, 0, 0], dtype=torch.float64)
    walk = Trajectory(torch.arange(31) / 30, se3.exp(positions))
    pairs = evaluation.rpe(walk, walk, delta, "meters", all_pairs=False).pairs
    assert pairs.tolist() == [[i, i + frames] for i in range(0, 31 - frames, frames)]
    assert len(evaluation.rpe(walk, walk, delta, "meters", tolerance=0.0).pairs) == 31 - frames


def test_too_few_pairs_tell_what_times_there_are():
    """As nanoseconds against seconds, or frame numbers."""
    poses = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    seconds, other = Trajectory(torch.arange(5) / 30, poses), Trajectory(torch.arange(5) * 1e9, poses)
    with pytest.raises(
        ValueError, match=r"3 pairs of poses, got 1.*truth covers 0\.000 to 0\.133 s, estimate 0\.000 to 4000"
    ):
        evaluation.ate(seconds, other)


def test_poses_without_times_are_no_trajectory():
    poses = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    with pytest.raises(TypeError, match="estimate: expected a Trajectory, got Tensor"):
        evaluation.ate(Trajectory(torch.arange(5.0), poses), poses)
