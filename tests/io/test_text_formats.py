"""Every reader of a text format against every encoding, separator, comment and line end."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
import pytest

import gradslam_ng as gs
from gradslam_ng.commands.config import read_config
from gradslam_ng.datasets.icl import ICL
from gradslam_ng.datasets.intrinsics_text import read_info
from gradslam_ng.datasets.text import read_pose, read_pose_table
from gradslam_ng.datasets.tum import read_images
from gradslam_ng.graph import g2o
from gradslam_ng.structures import Trajectory

ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16 LE": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 LE without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE without a mark": lambda text: text.encode("utf-16-be"),
    "UTF-32 LE": lambda text: b"\xff\xfe\x00\x00" + text.encode("utf-32-le"),
    "Windows-1252": lambda text: text.encode("cp1252"),
}
LINE_ENDS = ("\n", "\r\n", "\r", "\r\r\n")
SEPARATORS = (" ", "\t", ",", ";", ", ", "  \t ", "\u00a0")
COMMENTS = ("#", "//", "%")
ENDINGS = ("", "\n", "\n\n  \n", "\n\x1a", "\n\x00\x00")


class Format(NamedTuple):
    """How a format is written, with a separator and a mark of comments, and read; and what should come out."""

    write: Callable[[str, str], str]
    read: Callable[[Path], object]
    expected: object
    separators: tuple[str, ...] = SEPARATORS
    comments: tuple[str, ...] = COMMENTS
    name: str = "file.txt"


def numbers_text(rows: list[list[float]], head: str = "", first: str = "") -> Callable[[str, str], str]:
    """A table of numbers, with comments above, between, behind, and column names where `head` has some."""

    def write(separator: str, comment: str) -> str:
        lines = [separator.join([*first.split(), *map(str, row)]) for row in rows]
        names = [separator.join(head.split())] if head else []
        lines[1:1] = ["", f"  {comment} Möbel, 1.5 m from the wall"]
        return "\n".join([f"{comment} küche", *names, *lines[:-1], f"{lines[-1]} {comment} 2 of 2"])

    return write


def list_text(line: str) -> Callable[[str, str], str]:
    """A list of files: two lines, with a comment and column names above."""

    def write(separator: str, comment: str) -> str:
        lines = [line.format(time=time, name=name).replace("|", separator) for time, name in ((1.5, "ä"), (2, "b c"))]
        return "\n".join([f"{comment} Möbel", "timestamp filename", "", *lines])

    return write


def edges_text(separator: str, comment: str) -> str:
    lines = ["VERTEX_SE2 0 0 0 0", "VERTEX_SE2 7 1 2 0.5", "FIX 7", "EDGE_SE2 0 7 1 0 0 4 0 0 4 0 4"]
    lines = [line.replace(" ", separator) for line in lines]
    return "\n".join([f"{comment} Straße", *lines[:2], "", f"{lines[2]} {comment} here", lines[3]])


def info_text(separator: str, comment: str) -> str:
    camera = np.eye(4)
    camera[:3, :3] = K_ROWS
    numbers = separator.join(map(str, camera.ravel()))
    return f"{comment} größe\nm_depthWidth = 6 \nm_depthHeight = 4\nm_calibrationDepthIntrinsic = {numbers}"


def json_text(separator: str, comment: str) -> str:
    pairs = f"{separator},{separator}".join(f'"{key}":{separator}{value}' for key, value in K.items())
    return f'{{\n{comment} "größe": 3\n"lens": "f # 2 // %, ß"{separator},\n{pairs} {comment} of 2024\n}}'


def toml_text(separator: str, comment: str) -> str:
    equals = f"{separator}={separator}"
    lines = ["[odometry]", f"iterations{equals}[4, 3, 2] {comment} coarse first", f"kernel_width{equals}3.5"]
    return "\n".join([f"{comment} für 30 Hz", *lines])


def named_text(mark: str) -> Callable[[str, str], str]:
    """A camera, one number a line behind its name."""

    def write(separator: str, comment: str) -> str:
        lines = [f"{key}{separator}{mark}{separator}{value}" for key, value in K.items()]
        return "\n".join([f"{comment} größe", f"{lines[0]} {comment} of 2024", "", *lines[1:]])

    return write


def yaml_text(separator: str, comment: str) -> str:
    lines = ["%YAML:1.0", "---", f"{comment} größe", "lens: 'f # 2, ß'", "K: !!opencv-matrix", "   rows: 3"]
    numbers = f",{separator}".join(map(str, np.ravel(K_ROWS)))
    return "\n".join([*lines, f"   data:{separator}[{numbers}] {comment} of 2024"])


def xml_text(separator: str, comment: str) -> str:
    numbers = separator.join(map(str, np.ravel(K_ROWS)))
    head = f'<?xml version="1.0"?>\n<!-- {comment} größe -->\n<opencv_storage><lens>"f 2, ß"</lens>'
    return f"{head}\n<K><rows>3</rows><data>{numbers}</data></K></opencv_storage>"


def colmap_text(separator: str, comment: str) -> str:
    row = ["1", "PINHOLE", "6", "4", "5.5", "6", "3", "2"]
    return f"{comment} Camera list\n{separator.join(row)}"


def read_camera(path: Path) -> list:
    """The camera of a recording whose folder holds the file."""
    for kind, pixels in (("color", np.zeros((4, 6, 3), np.uint8)), ("depth", np.ones((4, 6), np.uint16))):
        if not (path.parent / kind).exists():
            (path.parent / kind).mkdir()
            iio.imwrite(path.parent / kind / "0.png", pixels)
    return gs.datasets.load(path.parent).K.tolist()


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Names of the images of an ICL recording with the list."""
    make_images(path.parent, {"rgb": np.zeros((4, 6, 3), np.uint8), "depth": np.ones((4, 6), np.uint16)})
    sequence = ICL(path.parent)
    return [(a.name, b.name) for a, b in zip(sequence.color, sequence.depth, strict=True)]


def read_listed(path: Path) -> tuple[list[float], list[str]]:
    make_images(path.parent, {"rgb": np.zeros((4, 6, 3), np.uint8)})
    times, files = read_images(path)
    return times, [file.name for file in files]


def make_images(folder: Path, pixels: dict[str, np.ndarray]) -> None:
    for kind, image in pixels.items():
        if not (folder / kind).exists():
            (folder / kind).mkdir()
            for name in ("ä", "b c"):
                iio.imwrite(folder / kind / f"{name}.png", image)


def read_graph(path: Path) -> tuple:
    graph = g2o.load(path)
    return graph.names.tolist(), graph.names[graph.fixed].tolist(), graph.T[1, :2, 2].tolist(), len(graph.i)


K = {"fx": 5.5, "fy": 6, "cx": 2.5, "cy": 1.5}
K_ROWS = [[5.5, 0, 2.5], [0, 6, 1.5], [0, 0, 1]]
POSE = [[0, -1, 0, 1.5], [1, 0, 0, 2], [0, 0, 1, -3], [0, 0, 0, 1]]
SETTINGS = {"iterations": [4, 3, 2], "kernel_width": 3.5}
TIMES = ([1.5, 2.0], ["ä.png", "b c.png"])
FORMATS = {
    "trajectory": Format(
        numbers_text([[1.5, 1, 2, 3, 0, 0, 0, 1], ["2.5D0", 4, 5, 6, 0, 0, 1, 0]], "timestamp tx ty tz qx qy qz qw"),
        lambda path: [[float(t), *T[:3, 3].tolist(), float(T[0, 0])] for t, T in Trajectory.load(path)],
        [[1.5, 1, 2, 3, 1], [2.5, 4, 5, 6, -1]],
    ),
    "list of images": Format(list_text("{time}|rgb/{name}.png"), read_listed, TIMES),
    "list of quoted images": Format(list_text('"{time}"|"rgb/{name}.png"'), read_listed, TIMES),
    "list of pairs": Format(
        list_text("{time}|rgb/{name}.png|{time}|depth/{name}.png"),
        read_pairs,
        [("ä.png", "ä.png"), ("b c.png", "b c.png")],
        name="associations.txt",
    ),
    "list of quoted pairs": Format(
        list_text("{time}|'rgb/{name}.png'|{time}|'depth/{name}.png'"),
        read_pairs,
        [("ä.png", "ä.png"), ("b c.png", "b c.png")],
        name="associations.txt",
    ),
    "poses, one a line": Format(
        numbers_text([np.ravel(POSE).tolist(), np.ravel(POSE[:3]).tolist()]),
        lambda path: [T.round(decimals=9).tolist() for T in read_pose_table(path)],
        [POSE, POSE],
    ),
    "poses, four lines each": Format(
        numbers_text([*POSE, *POSE]),
        lambda path: [T.round(decimals=9).tolist() for T in read_pose_table(path)],
        [POSE, POSE],
    ),
    "pose": Format(numbers_text(POSE), lambda path: read_pose(path).round(decimals=9).tolist(), POSE),
    "intrinsics": Format(numbers_text(K_ROWS), read_camera, K_ROWS, name="intrinsics.txt"),
    "intrinsics, four numbers": Format(
        numbers_text([[5.5], [6], [2.5, 1.5]], "fx fy cx cy"), read_camera, K_ROWS, name="intrinsics.txt"
    ),
    "info.txt": Format(info_text, lambda path: read_info(path).K.tolist(), K_ROWS, (" ", "\t", ", "), ("#", "//")),
    "g2o": Format(edges_text, read_graph, ([0, 7], [7], [1, 2], 1)),
    "JSON": Format(json_text, read_camera, K_ROWS, (" ", "\t", "\n", ""), ("#", "//"), "intrinsics.json"),
    "names and numbers": Format(
        named_text("="), read_camera, K_ROWS, (" ", "\t", ""), ("#", "//", "%"), "intrinsics.txt"
    ),
    "names, colons and numbers": Format(
        named_text(":"), read_camera, K_ROWS, (" ", "\t", ""), ("#", "//", "%"), "intrinsics.txt"
    ),
    "COLMAP": Format(colmap_text, read_camera, K_ROWS, (" ", "\t", "  \t "), ("#", "//", "%"), "cameras.txt"),
    "YAML": Format(yaml_text, read_camera, K_ROWS, (" ", "\t", "\n      "), ("#",), "camera.yaml"),
    "XML": Format(xml_text, read_camera, K_ROWS, (" ", "\t", "\n", ", "), ("#",), "camera.xml"),
    "TOML": Format(toml_text, read_config, {"odometry": SETTINGS}, (" ", "\t", ""), ("#",)),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_however_it_is_written(tmp_path, name, encoding):
    form = FORMATS[name]
    endings = itertools.cycle(ENDINGS)
    for separator, comment, line_end in itertools.product(form.separators, form.comments, LINE_ENDS):
        text = (form.write(separator, comment) + next(endings)).replace("\n", line_end)
        path = tmp_path / form.name
        path.write_bytes(ENCODINGS[encoding](text))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = form.read(path)
        assert found == form.expected, (separator, comment, line_end, text)
