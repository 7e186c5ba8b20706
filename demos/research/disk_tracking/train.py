"""Training of the trackers by surrogate loss, likelihood or filter, and their cross-validated position errors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import gradslam_ng as gs
from demos.research.disk_tracking.model import Eye, Noise, Recurrent, kalman, positions, smoother
from gradslam_ng.graph import negative_log_likelihood


def by_surrogate(noise: Noise, x: Tensor, features: Tensor, z: Tensor, rows: Tensor) -> Tensor:
    """How far two Gauss-Newton steps lead away from the true states x (B, T, 4)."""
    return gs.surrogate_loss(smoother(noise, features[rows], z[rows]), {"state": x[rows]}, steps=2).mean()


def by_likelihood(noise: Noise, x: Tensor, features: Tensor, z: Tensor, rows: Tensor) -> Tensor:
    """How unlikely the true states are."""
    return negative_log_likelihood(smoother(noise, features[rows], z[rows]), {"state": x[rows]}).mean()


def by_filter(noise: Noise, x: Tensor, features: Tensor, z: Tensor, rows: Tensor) -> Tensor:
    """How far off the Kalman filter is."""
    return (kalman(noise, features[rows], z[rows]) - x[rows]).square().mean()


def train(parameters, loss, epochs: int, rate: float, count: int, batch: int = 30, seed: int = 0) -> None:
    """Adam on loss(rows) over shuffled batches of rows, the rate falling to nothing."""
    parameters = list(parameters)
    generator, optimizer = torch.Generator().manual_seed(seed), torch.optim.Adam(parameters, rate)
    steps = epochs * -(-count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=generator).split(batch):
            optimizer.zero_grad()
            loss(rows).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimizer.step()
            schedule.step()


def fold(truth: Tensor, images: Tensor, test: Tensor, epochs: int, seed: int) -> tuple[dict[str, float], dict]:
    """Position errors (RMS, pixels) of every method on the test rows, taught on the others; and what to draw."""
    torch.manual_seed(seed)
    x, seen = truth[~test], images[~test]
    eye = Eye()
    train(
        eye.parameters(), lambda rows: (eye(seen[rows])[1] - x[rows, :, :2]).square().mean(), epochs, 1e-2, len(x), 10
    )
    with torch.no_grad():
        features, z = (t.double() for t in eye(seen))  # in float32 the solver's floor would count as knowledge
        test_features, test_z = (t.double() for t in eye(images[test]))
    middle, scale = features.mean((0, 1)), features.std((0, 1))  # of tens they would saturate whatever reads them
    features, test_features = (features - middle) / scale, (test_features - middle) / scale
    x, position = x.double(), {"network alone": test_z}

    sigmas = {}
    for name, how in (("smoother, {}", by_surrogate), ("smoother, {}, likelihood", by_likelihood),
                      ("Kalman filter, {}", by_filter)):  # fmt: skip
        constant, by_input = Noise(False).double(), Noise(True).double()
        for kind, noise, rate in (("constant noise", constant, 0.1), ("noise by input", by_input, 0.02)):
            noise.load_state_dict(constant.state_dict(), strict=False)
            train(noise.parameters(), lambda rows, n=noise, f=how: f(n, x, features, z, rows), 2 * epochs, rate, len(x),
                  40)  # fmt: skip
            with torch.no_grad():
                found = (kalman if how is by_filter else positions)(noise, test_features, test_z)
                position[name.format(kind)], sigmas[name.format(kind)] = found[..., :2], noise(test_features)[1]
    for name, both in (("LSTM", False), ("LSTM both ways", True)):
        network = Recurrent(both).double()
        train(network.parameters(), lambda rows, n=network: (n(features[rows], z[rows]) - x[rows]).square().mean(),
              5 * epochs, 1e-2, len(x))  # fmt: skip
        with torch.no_grad():
            position[name] = network(test_features, test_z)[..., :2]
    errors = {name: float((p - truth[test][..., :2]).square().sum(-1).mean().sqrt()) for name, p in position.items()}
    return errors, {"truth": truth[test], "images": images[test], "position": position, "sigma": sigmas}


def table(errors: list[dict[str, float]]) -> dict[str, dict]:
    """Of each method its error over folds, and by how much more it is than that of the first smoother, fold by fold."""
    best = "smoother, noise by input"
    return {
        name: {**over_folds([e[name] for e in errors]), "more than the first": over_folds(
            [e[name] - e[best] for e in errors])}
        for name in errors[0]
    }  # fmt: skip


def over_folds(values: list[float]) -> dict[str, float | None]:
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "standard error": error}
