"""Settings of point-to-plane ICP, and how its steps are found and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

from torch import Tensor

from gradslam_ng import optim
from gradslam_ng.compute.configurable import split_settings

# Which vertex meets which changes from step to step, and moves the error by about this share of it: less is no verdict
# on a step, and a gradient through such a verdict would be one of noise.
ASSOCIATION_NOISE = 1e-3
ASSOCIATIONS = ("hard", "soft")


def step_strategy(name: str = "gradicp") -> optim.StepStrategy:
    """How an ICP of that name finds and judges its steps: "gradicp" softly, with a gradient, "icp" either way.

    Both take changes of the error below `ASSOCIATION_NOISE` for noise.

    Raises:
        ValueError: another name.
    """
    match name:
        case "gradicp":
            return optim.SoftLevenbergMarquardt(damping=1e-6, error_noise=ASSOCIATION_NOISE)
        case "icp":
            return optim.LevenbergMarquardt(damping=1e-6, error_noise=ASSOCIATION_NOISE)
    raise ValueError(f"odometry: expected gradicp, icp or ground-truth, or an Odometry, got {name!r}")


@dataclass(frozen=True)
class ICPSettings:
    """The numbers of `ProjectiveICP`; those of type Tensor may have a gradient.

    iterations: per pyramid level, coarsest first; their number is the number of levels.
    rotation_iterations: at the coarsest level, before all others, in which the camera only rotates: most of what a hand
        does from frame to frame.
    row_stride: at the finest level every so many-th row of pixels takes part: its neighbors say much the same.
    max_distance: between a vertex and its partner, meters.
    max_angle: between their normals, degrees.
    kernel_width: residual, in standard deviations of the depth noise, from which a pair counts nothing (Tukey); at the
        finest level, doubled at each coarser one.
    min_overlap: share of the frame's vertices, or of the model's if it has fewer, that must find a partner, else the
        frame is lost. Frames that fit keep above 0.55 up to 10 degrees apart, others reach 0.3: two walls can always be
        laid upon each other.
    max_step: farthest that a frame may be found from where it was looked for, meters and radians, else it is lost.
    association_window: pixels across the square of the model around a vertex's projection that makes up its partner.
        1: the nearest pixel, a constant of the gradient. 2 or 3: the mean of 4 or 9, so that the gradient sees which
        point meets which; see `association.soft_lookup`.
    association_sigma: how far the weights of that mean reach, pixels.
    association: "hard", or "soft" for pairs, gates and visibility that fade instead of jumping, so that gradients hold
        over finite steps; it has a window of its own.
    photometric: what is seen must also look as bright as the model remembers it.
    registration_sigma: how far color may lie from where the depth says, standard deviation, pixels.
    backward: how the pose is differentiated, as in `optim.solve`. Other than with "unroll", only the finest level is,
        and where the search started gets no gradient.
    backward_iterations: those of the finest level that "truncated" goes back through.

    Raises:
        ValueError: a setting outside its range, or a `backward` that does not go with it.
        TypeError: a tensor that requires a gradient, for a setting that has none: one that only decides which pairs
            count, or acts in a mode that is off.
    """

    iterations: tuple[int, ...] = (4, 3, 2)
    rotation_iterations: int = 2
    row_stride: int = 2
    max_distance: float | Tensor = 0.1  # m
    max_angle: float = 30.0  # degrees
    kernel_width: float | Tensor = 4.685  # standard deviations
    min_overlap: float = 0.4
    max_step: float = 0.5  # m and rad
    association_window: int = 1  # px
    association_sigma: float | Tensor = 0.5  # px
    association: str = "hard"
    photometric: bool = True
    registration_sigma: float | Tensor = 0.5  # px
    backward: str = "unroll"
    backward_iterations: int = 2

    def __post_init__(self) -> None:
        self._check_learned()
        single = isinstance(self.iterations, (int, float, Tensor))
        if single or not all(isinstance(n, Integral) for n in self.iterations):
            expected = "a whole number for each level, such as (4, 3, 2)"
            raise TypeError(f"iterations: expected {expected}, got {self.iterations!r}")
        if not isinstance(self.photometric, bool):
            raise TypeError(f"photometric: expected True or False, got {self.photometric!r}")
        self._check_ranges()
        count, window = self.backward_iterations, self.association_window
        if not self.iterations or min(self.iterations) < 0:
            levels = tuple(self.iterations)
            raise ValueError(f"iterations: expected a number for each of at least one level, got {levels}")
        if window not in (1, 2, 3):
            raise ValueError(f"association_window: expected 1, 2 or 3 pixels, got {window}")
        if self.backward not in optim.BACKWARD:
            raise ValueError(f"backward: expected one of {', '.join(optim.BACKWARD)}, got {self.backward!r}")
        if self.association not in ASSOCIATIONS:
            raise ValueError(f"association: expected {' or '.join(ASSOCIATIONS)}, got {self.association!r}")
        if (window > 1 or self.association == "soft") and self.backward not in ("unroll", "truncated", "detach"):
            # the mean moves with the pose, so the normal equations are not those of any one error
            expected = "association_window=1 and association='hard'; with others use unroll or truncated"
            raise ValueError(f"backward {self.backward!r} needs {expected}")
        if self.backward == "truncated" and not 0 < count <= self.iterations[-1]:
            expected = f"1 to {self.iterations[-1]}, the iterations of the finest level"
            raise ValueError(f"backward_iterations: expected {expected}, got {count}")

    def _check_learned(self) -> None:
        _, constant = split_settings(ICPSettings)
        without = dict.fromkeys(constant, "it decides what counts")
        if self.association == "soft":
            without |= {"association_sigma": "with association='soft'"}
        elif self.association_window == 1:
            without |= dict.fromkeys(("max_distance", "association_sigma"), "with association_window=1")
        if not self.photometric:
            without |= {"registration_sigma": "with photometric=False"}
        for name, why in without.items():
            value = getattr(self, name)
            if isinstance(value, Tensor) and value.requires_grad:
                raise TypeError(f"{name}: expected a number, got a tensor to be learned: it has no gradient, {why}")

    def _check_ranges(self) -> None:
        for name in ("rotation_iterations", "row_stride"):
            if not isinstance(getattr(self, name), Integral):
                raise TypeError(f"{name}: expected a whole number, got {getattr(self, name)!r}")
        limits = {
            "rotation_iterations": (0, math.inf),
            "row_stride": (1, math.inf),
            "max_angle": (0, 180),
            "min_overlap": (0, 1),
        }
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected {least} to {most}, got {getattr(self, name)}")
        for name in ("max_distance", "kernel_width", "max_step", "association_sigma", "registration_sigma"):
            value = getattr(self, name)
            number = value.detach().min().item() if isinstance(value, Tensor) and value.numel() else value
            lowest = "at least 0" if name == "registration_sigma" else "more than 0"
            if not isinstance(number, (int, float)) or not (number > 0 or (number == 0 and lowest == "at least 0")):
                raise ValueError(f"{name}: expected {lowest}, got {number}")


LEARNABLE, DISCRETE = split_settings(ICPSettings)


def as_scalar(value: float | Tensor, like: Tensor) -> Tensor:
    """A setting as a tensor () beside `like`. A number is filled in there: copying it would wait for a GPU."""
    return value.to(like) if isinstance(value, Tensor) else like.new_full((), value)
