"""The reader of text: what is a line, a word, a number; what is no text; JSON and TOML."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

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

LINE_ENDS = ("\n", "\r\n", "\r", "\r\r\n")


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


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("invisible", ["", "\u200b", "\u2060", "\ufeff"])
def test_line_ends_of_unicode_and_spaces_without_width(tmp_path, end, invisible):
    """As text from web pages and word processors has them."""
    path = tmp_path / "file.txt"
    path.write_bytes(f"# pose{end}1.5 {invisible}1 2 3 0 0 0 1{end}2.5 4 5 6{invisible} 0 0 0 1{end}".encode())
    trajectory = Trajectory.load(path)
    assert trajectory.timestamps.tolist() == [1.5, 2.5]
    assert trajectory.T_wc[:, :3, 3].tolist() == [[1, 2, 3], [4, 5, 6]]
    path.write_bytes(f"# list{end}1.5 {invisible}a.png{end}2.5 b.png{invisible}{end}".encode())
    assert read_images(path) == ([1.5, 2.5], [tmp_path / "a.png", tmp_path / "b.png"])
    path.write_bytes(
        f"VERTEX_SE2 0 0 {invisible}0 0{end}VERTEX_SE2 7 1 2 0.5{end}EDGE_SE2 0 7 1 0 0 4 0 0 4 0 4".encode()
    )
    assert g2o.load(path).names.tolist() == [0, 7]


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
