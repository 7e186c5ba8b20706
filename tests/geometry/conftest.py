"""SE(3) to 80 digits with mpmath: bare power series, none of the formulas under test."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
import torch

_DIGITS = 80
_STEP = mpmath.mpf("1e-40")  # forward differences with it are right to about 40 digits


@dataclass(frozen=True)
class Reference:
    """exp, left Jacobian and its inverse at one twist, with their derivatives on the last axis; rounded to double."""

    exp: np.ndarray  # (4, 4)
    exp_gradient: np.ndarray  # (4, 4, 6)
    left_jacobian: np.ndarray  # (6, 6)
    left_jacobian_gradient: np.ndarray  # (6, 6, 6)
    left_jacobian_inverse: np.ndarray  # (6, 6)
    left_jacobian_inverse_gradient: np.ndarray  # (6, 6, 6)


@pytest.fixture(autouse=True)
def seed() -> None:
    """The same random numbers in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def reference() -> Callable[[tuple[float, ...]], Reference]:
    """The reference at a twist of six numbers."""
    return _reference


@functools.cache
def _reference(xi: tuple[float, ...]) -> Reference:
    """All of it at a twist of six numbers, [translation, rotation], taken as exact."""
    with mpmath.workdps(_DIGITS):
        xi = np.array([mpmath.mpf(x) for x in xi])
        shifted = xi + _STEP * np.concatenate([np.zeros((1, 6), int), np.eye(6, dtype=int)])  # (7, 6)
        T = _series(_twist_matrix(shifted), 0)
        J = _series(_small_adjoint(shifted), 1)
        dT, dJ = (T[1:] - T[0]) / _STEP, (J[1:] - J[0]) / _STEP
        J_inv = np.array((mpmath.matrix(J[0].tolist()) ** -1).tolist())
        dJ_inv = -J_inv @ dJ @ J_inv
    last = functools.partial(np.moveaxis, source=0, destination=-1)
    values = (T[0], last(dT), J[0], last(dJ), J_inv, last(dJ_inv))
    return Reference(*(value.astype(np.float64) for value in values))


@pytest.fixture(scope="session")
def antipode() -> Callable[[tuple[float, ...]], tuple[float, ...]]:
    """The other twist of the same motion, turning the opposite way round; at a half turn both are logarithms."""
    return _antipode


def _antipode(xi: tuple[float, ...]) -> tuple[float, ...]:
    with mpmath.workdps(_DIGITS):
        v = np.array([[mpmath.mpf(x) for x in xi]])
        w = v[0, 3:]
        other = np.concatenate([0 * w, w * (1 - 2 * mpmath.pi / mpmath.sqrt(w @ w))])
        V = mpmath.matrix(_series(_small_adjoint(other[None]), 1)[0, :3, :3].tolist())
        t = mpmath.matrix(_series(_twist_matrix(v), 0)[0, :3, 3].tolist())
        return tuple(float(x) for x in (*(V**-1 * t), *other[3:]))


def _series(X: np.ndarray, offset: int) -> np.ndarray:
    """Sum of X^n / (n + offset)! for n >= 0, over square matrices (..., M, M) of mpmath numbers."""
    term = np.broadcast_to(np.eye(X.shape[-1], dtype=int), X.shape) / mpmath.factorial(offset)
    total = term
    for n in range(1, 1000):
        term = term @ X / mpmath.mpf(n + offset)
        total = total + term
        if np.abs(term).max() < mpmath.mpf(10) ** -_DIGITS:
            return total
    raise ArithmeticError("the series did not converge")


def _hat(w: np.ndarray) -> np.ndarray:
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    o = 0 * x
    return np.stack([o, -z, y, z, o, -x, -y, x, o], axis=-1).reshape(*w.shape[:-1], 3, 3)


def _twist_matrix(xi: np.ndarray) -> np.ndarray:
    top = np.concatenate([_hat(xi[..., 3:]), xi[..., :3, None]], axis=-1)
    return np.concatenate([top, 0 * top[..., :1, :]], axis=-2)


def _small_adjoint(xi: np.ndarray) -> np.ndarray:
    P, W = _hat(xi[..., :3]), _hat(xi[..., 3:])
    return np.concatenate([np.concatenate([W, P], -1), np.concatenate([0 * W, W], -1)], -2)
