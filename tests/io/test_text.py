"""The reader of text: every encoding, separator, comment and line end, by every reader of a format."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
import pytest
import torch

import gradslam_ng as gs
from gradslam_ng.commands.config import read_config
from gradslam_ng.datasets.icl import ICL
from gradslam_ng.datasets.text import read_pose, read_pose_table
from gradslam_ng.datasets.tum import read_images
from gradslam_ng.graph import g2o
from gradslam_ng.io.text import (
    BadLine,
    NoContent,
    is_number,
    parse_each,
    parse_number,
    parse_numbers,
    read_json,
    read_lines,
    read_text,
    read_toml,
    split_words,
)
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


def json_text(separator: str, comment: str) -> str:
    pairs = f"{separator},{separator}".join(f'"{key}":{separator}{value}' for key, value in K.items())
    return f'{{\n{comment} "größe": 3\n"lens": "f # 2 // %, ß"{separator},\n{pairs} {comment} of 2024\n}}'


def toml_text(separator: str, comment: str) -> str:
    equals = f"{separator}={separator}"
    lines = ["[odometry]", f"iterations{equals}[4, 3, 2] {comment} coarse first", f"kernel_width{equals}3.5"]
    return "\n".join([f"{comment} für 30 Hz", *lines])


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
    "pose": Format(numbers_text(POSE), lambda path: read_pose(path).round(decimals=9).tolist(), POSE),
    "intrinsics": Format(numbers_text(K_ROWS), read_camera, K_ROWS, name="intrinsics.txt"),
    "intrinsics, four numbers": Format(
        numbers_text([[5.5], [6], [2.5, 1.5]], "fx fy cx cy"), read_camera, K_ROWS, name="intrinsics.txt"
    ),
    "g2o": Format(edges_text, read_graph, ([0, 7], [7], [1, 2], 1)),
    "JSON": Format(json_text, read_camera, K_ROWS, (" ", "\t", "\n", ""), ("#", "//"), "intrinsics.json"),
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


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "got an empty file"),
        (b"\x00" * 40, "got an empty file"),
        (b"\xef\xbb\xbf\r\n", "got an empty file"),
        (b"# only this\n", "got only comments"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x02\x80", "got binary data"),
        (bytes(range(256)) * 20, "got binary data"),
        (None, "got a folder"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, got):
    path = tmp_path / "file.txt"
    path.mkdir() if content is None else path.write_bytes(content)
    readers = (Trajectory.load, g2o.load, read_images, read_pose_table)
    for read in readers:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises((ValueError, UserWarning), match=f"file.txt: expected .*{got}"):
                read(path)
    with pytest.raises(FileNotFoundError, match="absent"):
        readers[0](tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(
            ("1.5", 1.5),
            ("-1e-3", -1e-3),
            ("+.5", 0.5),
            ("1.", 1.0),
            ("1.0D-03", 1e-3),
            ("2d2", 200.0),
        ),
        *(
            ("1.5Q+1", 15.0),
            ("1.5-100", 1.5e-100),
            ("\N{MINUS SIGN}2.5", -2.5),
            ("inf", math.inf),
            ("-Infinity", -math.inf),
        ),
        *(("1.#INF", math.inf), ("-1.#INF00", -math.inf), ("1.#J", math.inf)),
        *((word, math.nan) for word in ("nan", "NaN", "-nan", "-1.#IND", "1.#QNAN", "1.#SNAN00", "1.#R", "null")),
    ],
)
def test_spellings_of_numbers(word, value):
    assert parse_number(word) == value or (math.isnan(value) and math.isnan(parse_number(word)))
    assert is_number(word)


@pytest.mark.parametrize("word", ["", "1_000", "1,5", "x", "1.5.2", "0x10", "#", "1.5e", "--1", "2024-01-01", "12:30"])
def test_what_is_no_number(word):
    assert not is_number(word)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-nan(ind) nan(snan) 1", ["-nan", "nan", "1"]),
        ("[[1. 2.]; [3,4]]", ["1.", "2.", "3", "4"]),
        ("1.#INF -1.#IND # 1.#QNAN", ["1.#INF", "-1.#IND"]),
        ("1 2.0# two", ["1", "2.0"]),
        ("1 2 #inf", ["1", "2"]),
        ("1;2;;3 // end", ["1", "2", "3"]),
        ('"1", "2"', ["1", "2"]),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize("text", ["1,5 2,5 3", "1,5;2,5;3,5", "100 0,5 0", "1,5\t2", "-1,0e-3 2"])
def test_decimal_commas_are_refused_by_name(text):
    with pytest.raises(BadLine, match=r"f, line 3: expected numbers, with decimal points, got commas: "):
        parse_numbers(text, "f, line 3", "numbers")


@pytest.mark.parametrize("text", ["1,2,3", "1, 2, 3", "1.5,2.5 3.5", "1 , 2", "1.0,\t2.0"])
def test_commas_that_separate(text):
    assert parse_numbers(text, "f", "numbers") == [float(word) for word in text.replace(",", " ").split()]


def test_bytes_of_another_encoding_in_one_line(tmp_path):
    path = tmp_path / "f.txt"
    path.write_bytes("ä 1\n".encode() + "ü 2\n".encode("cp1252") + b"\xef\xbb\xbf\x81 3")
    assert read_text(path, "text") == "ä 1\nü 2\n\ufffd 3"


def test_lines_are_numbered_as_editors_do(tmp_path):
    for line_end in LINE_ENDS:
        (tmp_path / "f.txt").write_bytes(f"# a{line_end}{line_end}x y{line_end}1{line_end}2\x0b3".encode())
        file = read_lines(tmp_path / "f.txt", "numbers")
        assert [(line.number, line.text) for line in file.lines] == [(4, "1"), (5, "2\x0b3")]
        assert file.header == "# a\n\nx y" and file.lines[0].where.endswith("f.txt, line 4") and not file.is_ended


def test_column_names_are_not_lines(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("time x\n")
    with pytest.raises(NoContent, match=r"f\.txt: expected numbers, got 'time x'"):
        read_lines(path, "numbers")
    assert len(read_lines(path, "words", column_names=False).lines) == 1
    path.write_text("some\nprose\nand more\n")
    with pytest.raises(ValueError, match=r"f\.txt: expected numbers, got 'some'"):
        read_lines(path, "numbers")


def test_most_items_must_be_good():
    def parse(item: int) -> int:
        if item < 0:
            raise BadLine(f"bad {item}")
        return 2 * item

    values, bad = parse_each([1, -2, 3, -4], parse)
    assert values == [2, None, 6, None] and [str(error) for error in bad] == ["bad -2", "bad -4"]
    with pytest.raises(BadLine, match="bad -1"):
        parse_each([-1, 2, -3], parse)
    assert parse_each([], parse) == ([], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1 column 2"),
        ('{\n"a": 1\n"b": 2}', "line 3 column 1"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ("[" * 100_000, "expected a camera"),
        ("", "got an empty file"),
        ('{"a": 1,5}', "expected a camera"),
    ],
)
def test_json_that_is_none(tmp_path, text, message):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_json(tmp_path / "f.json", "a camera")
    assert str(caught.value).startswith(f"{tmp_path / 'f.json'}: expected a camera")


def test_json_with_comments_and_nan(tmp_path):
    text = '{"a": [1, NaN, -Infinity,], /* two\nlines */ "b": "x // \\" # y, ]", "c": {"d": 1,},}'
    (tmp_path / "f.json").write_text(text)
    found = read_json(tmp_path / "f.json", "a camera")
    assert math.isnan(found["a"][1]) and found["a"][2] == -math.inf
    assert found["b"] == 'x // " # y, ]' and found["c"] == {"d": 1}


@pytest.mark.parametrize(("text", "where"), [("a = \n", "line 1"), ("a = 1\na = 2\n", "line 2"), ("a = [" * 5000, "")])
def test_toml_that_is_none(tmp_path, text, where):
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"f\.toml: expected settings, got what is not TOML.*{where}"):
        read_toml(tmp_path / "f.toml", "settings")


def test_pose_that_is_lost(tmp_path):
    for text in ("", "# nothing\n", "nan " * 16, "0 " * 16, "-1.#IND " * 12):
        (tmp_path / "f.txt").write_text(text)
        assert bool(torch.isnan(read_pose(tmp_path / "f.txt")).all())
