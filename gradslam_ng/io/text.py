"""Text files: one reader for all formats of encodings, line ends, comments, separators and spellings of numbers.

Lists, matrices, trajectories, g2o, TOML and JSON are read through this module, so that what one of them takes all take:

- UTF-8, with a byte order mark or without, and bytes that are none as Windows-1252; UTF-16 and UTF-32 with a mark.
- Lines that end in LF, CR LF, CR or as Unicode has it, the last one in nothing; NUL, and Ctrl-Z at the end of the file.
- Comments from `#`, `//` or `%`, on lines of their own and after numbers; column names above the first numbers.
- Blanks, commas, semicolons, brackets and quotes between numbers; a comma within a number is refused.
- Fortran's exponents (1.0D-03); what C, MSVC and Python write for what is no number (nan, -1.#IND, null).
"""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gradslam_ng.io.similar_names import meant_path

MARKS = (  # that of UTF-16 LE is the beginning of that of UTF-32 LE
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAMPLE = 8192  # characters that show whether a file is text
MAX_CONTROL = 0.02  # share of control characters from which it is not
SHOWN = 100  # characters of a line in a message

INVISIBLE = re.compile("[\ufeff\u200b\u2060]")  # byte order marks, and spaces without width as web pages have them
CONTROL = re.compile(r"[\x01-\x08\x0e-\x1f\x7f]")
LOST = re.compile(r"\x00+")  # what a file system leaves of blocks that were not written when the power went
LINE_END = re.compile(r"\r*\n|[\r\x85\u2028\u2029]")  # CR CR LF is a CR LF that was converted once more
COMMENT_LINE = re.compile(r"\s*(?:#|//|%)")
# A comment after numbers; `1.#IND` is none.
COMMENT = re.compile(r"(?:(?<![.\d])#|#(?!ind|inf|qnan|snan|[jr]\b)|//|%).*", re.IGNORECASE)
SEPARATORS = re.compile(r"[\s,;|\"'()\[\]{}]+")
OTHER_THAN_BLANKS = re.compile(r"[,;|\"'()\[\]{}#/%]")  # between words
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[dDqQ]|(?=[+-]\d{3}$))([+-]?\d+)")
INFINITE = re.compile(r"([+-]?)(?:1\.#inf\d*|1\.#j)", re.IGNORECASE)
NOT_A_NUMBER = re.compile(r"[+-]?(?:nan\w*|1\.#\w+|null|none|nil|n/?a)", re.IGNORECASE)

Item = TypeVar("Item")
Value = TypeVar("Value")


class BadLine(ValueError):
    """A line, or a file for one frame, that does not hold what it should; the others may be fine."""


class NoContent(ValueError):
    """A file that is empty, or has nothing but comments and column names."""


@dataclass(frozen=True)
class Line:
    """A line of a text file."""

    path: Path
    number: int
    text: str  # without blanks around it, comments included

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.path}, line {self.number}"

    def words(self) -> list[str]:
        """What is between separators, without a comment."""
        return split_words(self.text)

    def numbers(self, expected: str, counts: Sequence[int] = ()) -> list[float]:
        """The numbers on it, NaN and infinity included; BadLine where it has others, or not one of `counts`."""
        return parse_numbers(self.text, self.where, expected, counts)


@dataclass(frozen=True)
class TextFile:
    """What a text file holds."""

    path: Path
    header: str  # comments and column names above the first line
    lines: list[Line]  # neither blank nor comments
    is_ended: bool  # whether the last line has an end, or the file may have been cut within it


def read_text(path: str | os.PathLike, expected: str) -> str:
    """The text of a file, lines ended by LF. `expected` tells messages what the file should hold.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file cannot be read.
        ValueError: a folder, or binary data.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: expected {expected}, got a folder")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}{meant_path(path)}; expected {expected}") from None
    except OSError as error:
        raise OSError(f"{path}: expected {expected}, but it cannot be read: {error.strerror}") from None
    text = decode(data).rstrip("\x00\x1a")
    sample = text[:SAMPLE]
    if len(CONTROL.findall(sample)) > MAX_CONTROL * len(sample):
        raise ValueError(f"{path}: expected {expected}, got binary data")
    return LINE_END.sub("\n", LOST.sub("\n", text))


def decode(data: bytes) -> str:
    """The text that bytes hold, without byte order marks."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return INVISIBLE.sub("", data[len(mark) :].decode(encoding, errors="replace"))
    half = max(len(data[:SAMPLE].rstrip(b"\x00")) // 2, 1)  # UTF-16 without a mark: every other byte is 0
    for encoding, zeros in (("utf-16-le", data[1:SAMPLE:2]), ("utf-16-be", data[0:SAMPLE:2])):
        if data[:SAMPLE].count(0) < 1.2 * half and zeros.count(0) > 0.8 * half:
            return data.decode(encoding, errors="replace")
    return INVISIBLE.sub("", data.decode("utf-8", errors="gradslam_ng.windows-1252"))


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are not UTF-8, as an error handler of `bytes.decode` replaces them."""
    assert isinstance(error, UnicodeDecodeError)
    data = error.object[error.start : error.end]
    return "".join(bytes([byte]).decode("cp1252", errors="replace") for byte in data), error.end


codecs.register_error("gradslam_ng.windows-1252", _as_windows_1252)


def read_lines(path: str | os.PathLike, expected: str, column_names: bool = True) -> TextFile:
    """The lines of a text file without blank ones and comments.

    column_names: whether lines without any number may stand above the others, which are left out.

    Raises:
        NoContent: there is none.
        FileNotFoundError, OSError, ValueError: see `read_text`.
    """
    path = Path(path)
    text = read_text(path, expected)
    header: list[Line] = []
    lines: list[Line] = []
    for number, line in enumerate(text.split("\n"), start=1):
        found = Line(path, number, line.strip())
        is_name = column_names and not lines and not any(map(is_number, found.words()))
        if not lines and (COMMENT_LINE.match(line) or is_name):
            header.append(found)
        elif found.text and not COMMENT_LINE.match(line):
            lines.append(found)
    if not lines:
        names = [line.text for line in header if line.text and not COMMENT_LINE.match(line.text)]
        got = f"{names[0][:SHOWN]!r}" if names else "only comments" if text.strip() else "an empty file"
        raise (ValueError if len(names) > 1 else NoContent)(f"{path}: expected {expected}, got {got}")
    return TextFile(path, "\n".join(line.text for line in header), lines, text.endswith("\n"))


def split_words(text: str) -> list[str]:
    """What is between separators, without a comment."""
    if not OTHER_THAN_BLANKS.search(text):
        return text.split()
    if "(" in text:
        text = re.sub(r"nan\(\w*\)", "nan", text, flags=re.IGNORECASE)  # as GNU and MSVC write it
    return [word for word in SEPARATORS.split(COMMENT.sub("", text)) if word]


def parse_numbers(text: str, where: str, expected: str, counts: Sequence[int] = ()) -> list[float]:
    """The numbers of a text, NaN and infinity included.

    Raises:
        BadLine: something else, decimal commas, or not one of `counts` numbers. The message begins with `where`.
    """
    if "," in text:
        blocks = re.split(r"[\s;]+", COMMENT.sub("", text).strip())
        if len(blocks) > 1 and "." not in "".join(blocks) and any(map(DECIMAL_COMMA.fullmatch, blocks)):
            raise BadLine(f"{where}: expected {expected}, with decimal points, got commas: {text.strip()[:SHOWN]!r}")
    words = split_words(text)
    numbers = None if "_" in text and any("_" in word for word in words) else _to_numbers(words)
    if numbers is None or (counts and len(numbers) not in counts):
        raise BadLine(f"{where}: expected {expected}, got {text.strip()[:SHOWN]!r}")
    return numbers


def _to_numbers(words: list[str]) -> list[float] | None:
    """The numbers that words are, None where one is none."""
    try:
        return [float(word) for word in words]  # as nearly all are written
    except ValueError:
        pass
    try:
        return [parse_number(word) for word in words]
    except ValueError:
        return None


def parse_number(word: str) -> float:
    """A number as C, Fortran, MSVC, Python or a spreadsheet writes it; ValueError where it is none."""
    try:
        if "_" not in word:  # which Python alone takes
            return float(word)
    except ValueError:
        pass
    word = word.replace("\N{MINUS SIGN}", "-").replace("_", "?")
    if infinite := INFINITE.fullmatch(word):
        return -math.inf if infinite[1] == "-" else math.inf
    if NOT_A_NUMBER.fullmatch(word):
        return math.nan
    parts = FORTRAN.fullmatch(word)
    return float(f"{parts[1]}e{parts[2]}" if parts else word)


def is_number(word: str) -> bool:
    """Whether it is a number, NaN and infinity included."""
    try:
        parse_number(word)
    except ValueError:
        return False
    return True


def parse_each(items: Sequence[Item], parse: Callable[[Item], Value]) -> tuple[list[Value | None], list[BadLine]]:
    """Each of the items parsed, None in the place of those for which `parse` raises BadLine, and these errors.

    Raises:
        BadLine: more than half of them are bad; that of the first.
    """
    values: list[Value | None] = []
    bad: list[BadLine] = []
    for item in items:
        try:
            values.append(parse(item))
        except BadLine as error:
            values.append(None)
            bad.append(error)
    if 2 * len(bad) > len(items):
        raise bad[0]
    return values, bad


def read_json(path: str | os.PathLike, expected: str) -> Any:
    """What a JSON file holds; NaN, infinity, comments and commas before a closing bracket are taken.

    Raises:
        ValueError: not JSON, or a key given twice; with line and column.
        FileNotFoundError, OSError: see `read_text`.
    """
    text = read_text(path, expected)
    if not text.strip():
        raise NoContent(f"{path}: expected {expected}, got an empty file")
    strings_or_comments = re.compile(r'("(?:\\.|[^"\\\n])*")|(?://|#)[^\n]*|/\*.*?\*/', re.DOTALL)
    bare = strings_or_comments.sub(lambda found: found[1] or re.sub(r"[^\n]", " ", found[0]), text)
    bare = re.sub(r'("(?:\\.|[^"\\\n])*")|,(?=\s*[}\]])', lambda found: found[1] or " ", bare)
    try:
        return json.loads(bare, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected {expected}, got {text[:SHOWN]!r}: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose keys must differ."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is given twice")
        found[key] = value
    return found


def read_toml(path: str | os.PathLike, expected: str) -> dict[str, Any]:
    """What a TOML file holds.

    Raises:
        ValueError: not TOML; with line and column.
        FileNotFoundError, OSError: see `read_text`.
    """
    text = read_text(path, expected)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected {expected}, got what is not TOML: {error}") from None
