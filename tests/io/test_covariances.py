"""Covariances as text."""

from __future__ import annotations

import numpy as np
import torch

from gradslam_ng.io.covariances import save_covariances


def test_what_is_written_is_read(tmp_path):
    A = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariances, times = A @ A.mT, torch.tensor([0.0, 1 / 30, 1305031102.175304], dtype=torch.float64)
    save_covariances(tmp_path / "covariance.txt", times, covariances)
    rows = np.loadtxt(tmp_path / "covariance.txt")
    assert rows.shape == (3, 22) and (rows[:, 0] == times.numpy()).all()
    upper = np.zeros((3, 6, 6))
    upper[(slice(None), *np.triu_indices(6))] = rows[:, 1:]
    whole = upper + np.triu(upper, 1).transpose(0, 2, 1)
    assert np.allclose(whole, covariances.numpy(), rtol=1e-8)


def test_the_header_names_every_number(tmp_path):
    save_covariances(tmp_path / "covariance.txt", torch.zeros(0), torch.zeros(0, 6, 6))
    names = (tmp_path / "covariance.txt").read_text().splitlines()[-1].split("(")[0].split()[2:]
    assert names == [a + b for i, a in enumerate("xyzabc") for b in "xyzabc"[i:]]
