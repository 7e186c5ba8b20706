from __future__ import annotations

import torch

from gradslam_ng.geometry import se3


def walks(module, count: int, frames: int, seed: int):
    """Alignments of made-up walks, one in seven of them far off, and less of the frame agreeing there."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    steps = se3.exp(0.1 * random(count, frames, 6))
    truth = [torch.eye(4, dtype=torch.float64).expand(count, 4, 4)]
    for step in steps[:, 1:].unbind(1):
        truth.append(truth[-1] @ step)
    truth = torch.stack(truth, 1)
    i = torch.cat([torch.arange(frames - span) for span in module.SPANS if span < frames])
    j = torch.cat([torch.arange(span, frames) for span in module.SPANS if span < frames])
    off = torch.rand(count, len(i), generator=generator) < 1 / 7
    error = torch.where(off, 0.2, 0.005)[..., None] * random(count, len(i), 6)
    T_ij = se3.inverse(truth[:, i]) @ truth[:, j] @ se3.exp(error)
    agreed = torch.where(off, 0.6, 0.97).double() + 0.02 * random(count, len(i))
    evidence = torch.stack([torch.full_like(agreed, 0.8), agreed.clamp(max=1), torch.full_like(agreed, 1.5)], -1)
    H = 1e6 * torch.eye(6, dtype=torch.float64).expand(count, len(i), 6, 6)
    return module.Edges(i, j, T_ij, H, evidence, torch.ones_like(off), truth)


def test_learns_from_the_trajectory_which_alignments_are_astray(demo):
    """Nobody says which alignments are off: the smoothed trajectories have to get better, in walks never seen."""
    model, module = (demo(f"research.learned_information.{name}") for name in ("model", "train"))
    torch.manual_seed(0)
    network = model.Learned().double()
    taught, unseen = walks(model, 16, 8, seed=0), walks(model, 4, 8, seed=1)
    models = {"H": model.Hessian(), "learned": network}
    before = module.judge(models, unseen[:1])
    assert abs(before["learned"] - before["H"]) < 1e-6  # it starts as H itself
    module.train(network, taught, steps=25, rate=0.05, seed=0, batch=8)
    rows = {str(k): module.judge(models, unseen[k : k + 1]) for k in range(4)}
    assert demo("common.recordings").ratios(rows, to="H")["learned"] < 0.6


def test_alignments_and_their_evidence(demo):
    """Frames a fraction of a second apart: found to centimeters; where there is little noise nearly all agrees."""
    module = demo("research.learned_information.model")
    room = demo("common.rooms").random_room(3)
    edges = demo("research.learned_information.train").clip(room, 1, 0, 3, (72, 96))
    motion = se3.inverse(edges.truth[:, edges.i]) @ edges.truth[:, edges.j]
    error = se3.log(se3.inverse(edges.T_ij) @ motion)
    assert edges.ok.all() and error.abs().max() < 0.03
    overlap, agreed, residual = edges.evidence.unbind(-1)
    assert overlap.min() > 0.8 and agreed.max() > 0.8 and residual.min() < 3
    L, V = module.spectrum(edges)
    W = module.square_root(edges, L, V) / module.TURNS
    torch.testing.assert_close(W.mT @ W, edges.H, rtol=1e-6, atol=1e-3 * float(edges.H.abs().max()))


def test_writes_a_table_and_a_picture(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(demo("research.learned_information.model"), "SPANS", (1, 2))
    numbers = demo("research.learned_information.__main__").main(
        tmp_path, tmp_path, size=(48, 64), rooms=2, unseen=2, frames=4, steps=2, seeds=1
    )
    assert numbers["mean ratio to H"]["unseen rooms"]["H"] == 1 and not numbers["ATE, cm"]["recordings"]
    for row in numbers["ATE, cm"]["unseen rooms"].values():
        assert row.keys() == {"H", "H / residual", "none", "H, robust", "learned 0"}
        assert all(0 < error < 100 for error in row.values())
    assert (tmp_path / "learned_information.png").stat().st_size > 10_000
