from __future__ import annotations


def test_intrinsics_come_nearer_the_truth(demo, tmp_path):
    """Four frames of 64x48, eight steps: the focal length, off by 3%, loses most of that, and so does the center."""
    numbers = demo("self_calibration").main(tmp_path, size=(48, 64), frames=4, steps=8)
    assert numbers["loss after"] < numbers["loss before"]
    for name in ("f", "cx", "cy"):
        before, after = (abs(numbers[name][when]) for when in ("off before, %", "off after, %"))
        assert after < 0.5 * before, name
    assert (tmp_path / "self_calibration.png").stat().st_size > 10_000
