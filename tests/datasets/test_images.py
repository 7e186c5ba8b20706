"""Image files of every common kind: read as they are meant, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gradslam_ng.datasets.images import depth_in_meters, image_kind, load_color, load_depth, unit_color

SIZE = (24, 32)


def read_color(path):
    return unit_color(load_color(path))


def read_depth(path, scale, **options):
    return depth_in_meters(load_depth(path), scale, **options)


@pytest.fixture
def pixels() -> np.ndarray:
    """(24, 32, 3) uint8, smooth, so that JPEG keeps it, and not symmetric."""
    v, u = np.mgrid[0:24, 0:32]
    return np.stack([6 * u + 20, 8 * v + 10, 3 * u + 4 * v], -1).astype(np.uint8)


@pytest.mark.parametrize("ending", [".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".tif", ".tiff", ".webp", ".ppm"])
def test_color_of_every_ending(pixels, tmp_path, ending):
    path = tmp_path / f"a{ending}"
    Image.fromarray(pixels).save(path, **({"quality": 95, "subsampling": 0} if ending.lower()[1] in "jw" else {}))
    color = read_color(path)
    assert color.shape == (*SIZE, 3) and color.dtype == torch.float32
    assert (color - torch.from_numpy(pixels) / 255).abs().mean() < (0.01 if ending.lower()[1] in "jw" else 1e-6)
    assert image_kind(path) == ((*SIZE, 3), np.uint8)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBA", "P", "L", "LA", "1"])
def test_color_of_every_mode(pixels, tmp_path, mode):
    """What Pillow shows of it, whatever its channels mean."""
    image = Image.fromarray(pixels).convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    expected = torch.from_numpy(np.asarray(image.convert("RGB"))) / 255
    assert (read_color(path) - expected).abs().mean() < 0.01
    if mode in ("CMYK", "YCbCr", "RGBA"):
        assert (read_color(path) - torch.from_numpy(pixels) / 255).abs().mean() < 0.02


@pytest.mark.parametrize("ending", [".png", ".tiff", ".pgm"])
def test_gray_of_16_bit_is_color(tmp_path, ending):
    gray = np.linspace(0, 65535, 24 * 32).reshape(SIZE).astype(np.uint16)
    Image.fromarray(gray).save(tmp_path / f"a{ending}")
    expected = torch.from_numpy(gray.astype(np.float32))[..., None].expand(*SIZE, 3) / 65535
    torch.testing.assert_close(read_color(tmp_path / f"a{ending}"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_in_the_file_is_applied(pixels, tmp_path, orientation):
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    turns = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    across = pixels.transpose(1, 0, 2)
    turns |= {5: across, 6: across[:, ::-1], 7: across[::-1, ::-1], 8: across[::-1]}
    expected = np.ascontiguousarray(turns[orientation])
    assert torch.equal(read_color(tmp_path / "a.png"), torch.from_numpy(expected).float() / 255)
    assert image_kind(tmp_path / "a.png")[0] == expected.shape


@pytest.mark.parametrize("ending", [".png", ".PNG", ".tiff", ".TIF", ".pgm", ".npy"])
def test_depth_of_16_bit(tmp_path, ending):
    depth = np.arange(24 * 32, dtype=np.uint16).reshape(SIZE) * 80
    path = tmp_path / f"a{ending}"
    np.save(path, depth) if ending == ".npy" else Image.fromarray(depth).save(path)
    expected = torch.from_numpy(depth.astype(np.float32))[..., None] / 1000
    torch.testing.assert_close(read_depth(path, 1000.0), expected)
    assert image_kind(path)[0] == SIZE and image_kind(path)[1].itemsize > 1


@pytest.mark.parametrize("ascii_", [False, True])
@pytest.mark.parametrize("largest", [4095, 10000, 65535])
def test_numbers_of_a_pgm_are_as_they_stand(tmp_path, largest, ascii_):
    """Whatever the header's largest value; comments may stand in it."""
    depth = np.arange(24 * 32).reshape(SIZE) * 5
    body = " ".join(map(str, depth.ravel())).encode() if ascii_ else depth.astype(">u2").tobytes()
    header = f"P{2 if ascii_ else 5}\n# a comment\n32 24\n{largest}\n".encode()
    (tmp_path / "a.pgm").write_bytes(header + body)
    assert torch.equal(read_depth(tmp_path / "a.pgm", 1.0)[..., 0], torch.from_numpy(depth).float())


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2", ">u2", "<i2", "<i4"])
def test_arrays_of_any_type(tmp_path, dtype):
    depth = np.full(SIZE, 3, dtype)
    np.save(tmp_path / "a.npy", depth)
    assert read_depth(tmp_path / "a.npy", 1.0).unique().tolist() == [3]


@pytest.mark.parametrize("ending", [".npy", ".tiff"])
def test_a_scale_of_floats(tmp_path, ending):
    depth = np.full(SIZE, 3082, np.float32)
    path = tmp_path / f"a{ending}"
    np.save(path, depth) if ending == ".npy" else Image.fromarray(depth).save(path)
    assert float(read_depth(path, 1000.0).mean()) == 3082
    assert float(read_depth(path, 5000.0, float_scale=1000.0).mean()) == pytest.approx(3.082)


@pytest.mark.parametrize("kind", ["8 bit", "palette", "RGB", "RGBA", "gray and alpha", "bits", "8 bit pgm"])
def test_what_cannot_be_depth_is_refused(pixels, tmp_path, kind):
    modes = {"palette": "P", "RGB": "RGB", "RGBA": "RGBA", "gray and alpha": "LA", "bits": "1"}
    path = tmp_path / ("a.pgm" if kind == "8 bit pgm" else "a.png")
    Image.fromarray(pixels).convert(modes.get(kind, "L")).save(path)
    with pytest.raises(ValueError, match=r"expected (a depth image of one channel|depth of 16 bit or float)"):
        read_depth(path, 1000.0)


@pytest.mark.parametrize("content", ["empty", "cut", "text", "several"])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tiff", ".webp", ".ppm"])
def test_broken_files(pixels, tmp_path, ending, content):
    path = tmp_path / f"a{ending}"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8))
    if content == "several":
        if ending not in (".tiff", ".webp"):
            pytest.skip("holds one image")
        image.save(path, save_all=True, append_images=[Image.fromarray(pixels)])
    else:
        image.save(path)
        data = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "text": b"no image"}[content])
    with pytest.raises(ValueError, match="not a readable image"):
        read_color(path)


@pytest.mark.parametrize("content", [b"", b"P5\n32 24\n65535\n12", b"\x93NUMPY"])
@pytest.mark.parametrize("ending", [".pgm", ".npy"])
def test_broken_depth(tmp_path, ending, content):
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable image"):
        read_depth(tmp_path / f"a{ending}", 1000.0)


def test_missing_files(tmp_path):
    for read in (read_color, lambda path: read_depth(path, 1.0)):
        with pytest.raises(FileNotFoundError, match="no such file"):
            read(tmp_path / "a.png")
