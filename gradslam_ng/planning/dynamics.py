"""Dynamics of a unicycle, a pendulum and a cart with a pole, with parameters that can be learned."""

from __future__ import annotations

import torch
from torch import Tensor

from gradslam_ng.compute.configurable import ConfigurableDataclass, configurable


@configurable
class Unicycle(ConfigurableDataclass):
    """A wheeled robot in the plane: state [x, y, yaw] (meters, radians), control [v, w] (m/s, rad/s) over dt seconds.

    Along the arc of constant speed and turn rate, exactly. It does `gain` (..., 2) of what it is told, less than 1 if
    wheels slip; None for 1.
    """

    dt: float
    gain: Tensor | None = None

    def forward(
        self,
        x: Tensor,  # (..., 3)
        u: Tensor,  # (..., 2)
    ) -> Tensor:
        """The state (..., 3) after dt."""
        u = self.dt * (u if self.gain is None else self.gain * u)
        half = 0.5 * u[..., 1]  # of the angle of the arc, whose length is u[..., 0]
        chord, heading = u[..., 0] * _sinc(half), x[..., 2] + half
        return torch.stack([x[..., 0] + chord * heading.cos(), x[..., 1] + chord * heading.sin(), heading + half], -1)


@configurable
class Pendulum(ConfigurableDataclass):
    """A rod on a hinge: state [cos, sin, rate] of its angle, 0 upright (rad/s); control: torque (..., 1), N m.

    constants (..., 3): gravity (m/s^2), mass (kg), length (m). Semi-implicit Euler steps of dt seconds, as in the
    experiments of Amos et al. 2018.
    """

    constants: Tensor
    dt: float = 0.05

    def forward(
        self,
        x: Tensor,  # (..., 3)
        u: Tensor,  # (..., 1)
    ) -> Tensor:
        """The state (..., 3) after dt."""
        gravity, mass, length = self.constants.unbind(-1)
        cos, sin, rate = x.unbind(-1)
        inertia = mass * length.square() / 3
        rate = rate + self.dt * (1.5 * gravity / length * sin + u[..., 0] / inertia)
        turn = self.dt * rate
        return torch.stack([*_turned(cos, sin, turn), rate], -1)


@configurable
class Cartpole(ConfigurableDataclass):
    """A pole on a cart: state [position, speed, cos, sin, rate] (meters, rad/s), angle 0 upright; control: force, N.

    constants (..., 4): gravity (m/s^2), mass of the cart and of the pole (kg), half the pole's length (m). Euler steps
    of dt seconds (Barto, Sutton and Anderson 1983), as in the experiments of Amos et al. 2018.
    """

    constants: Tensor
    dt: float = 0.05

    def forward(
        self,
        x: Tensor,  # (..., 5)
        u: Tensor,  # (..., 1)
    ) -> Tensor:
        """The state (..., 5) after dt."""
        gravity, cart, pole, length = self.constants.unbind(-1)
        position, speed, cos, sin, rate = x.unbind(-1)
        mass = cart + pole
        push = (u[..., 0] + pole * length * rate.square() * sin) / mass
        angular = (gravity * sin - cos * push) / (length * (4 / 3 - pole * cos.square() / mass))
        acceleration = push - pole * length * angular * cos / mass
        cos, sin = _turned(cos, sin, self.dt * rate)
        position, speed, rate = (
            position + self.dt * speed, speed + self.dt * acceleration, rate + self.dt * angular
        )  # fmt: skip
        return torch.stack([position, speed, cos, sin, rate], -1)


def _turned(cos: Tensor, sin: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of an angle that is turned further; no angle is taken, so that it may be any number of turns."""
    c, s = angle.cos(), angle.sin()
    return cos * c - sin * s, sin * c + cos * s


def _sinc(h: Tensor) -> Tensor:
    """sin(h) / h, with right derivatives at 0."""
    square = h.square()
    series = 1 - square / 6 * (1 - square / 20 * (1 - square / 42 * (1 - square / 72)))
    near = square < 0.01
    return torch.where(near, series, torch.where(near, 1.0, h).sin() / torch.where(near, 1.0, h))
