from __future__ import annotations


def test_draws_the_curves(demo, tmp_path, monkeypatch):
    module = demo("curves")
    monkeypatch.setattr(module, "STEPS", (0, 2))
    module.plot(tmp_path / "curves.png", draws=1)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
