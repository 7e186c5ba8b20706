"""Columns of trajectory files: those of TUM, EuRoC and KITTI, told apart by their number, names and time stamps."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from gradslam_ng.io.text import BadLine, Line, TextFile, is_number, parse_number

TUM = "poses 't tx ty tz qx qy qz qw'"
KITTI = "poses of 12 numbers, the upper three rows of a matrix"
EUROC = "poses 't tx ty tz qw qx qy qz ...'"
SCALAR_FIRST = re.compile(r"\bq\w*w\b.*\bq\w*x\b", re.IGNORECASE)  # names of the columns of quaternions as w x y z
IN_NANOSECONDS = re.compile(r"\[ns\]|nanosec|\w_ns\b", re.IGNORECASE)  # the unit beside the name of the time
NANOSECONDS = 1e16  # a time stamp beyond this is no number of seconds or microseconds since 1970
STATE = 17  # columns of EuRoC's ground truth: beside the pose, velocity and the biases of the IMU


@dataclass(frozen=True)
class Columns:
    """What stands in the columns of a trajectory file."""

    expected: str  # what messages say of it
    count: int  # numbers on a line
    is_scalar_first: bool = False  # quaternions w x y z
    seconds: float = 1.0  # of a unit of time

    @property
    def has_times(self) -> bool:
        """KITTI has none: its poses are a line a frame."""
        return self.expected != KITTI

    def parse(self, line: Line) -> list[float]:
        """Of one line: 12 numbers of a matrix, or time, position and quaternion x y z w, NaN behind the time where the
        pose is not known; BadLine where it has others."""
        row = line.numbers(self.expected, (self.count,))
        if not self.has_times:
            return row
        if not math.isfinite(row[0]):
            raise BadLine(f"{line.where}: expected a time stamp first, got {line.text[:100]!r}")
        time, position, quaternion = row[0] * self.seconds, row[1:4], row[4:8]
        if self.is_scalar_first:
            quaternion = [*quaternion[1:], quaternion[0]]
        is_known = all(map(math.isfinite, row[:8])) and math.hypot(*quaternion) > 1e-6
        return [time, *position, *quaternion] if is_known else [time, *[math.nan] * 7]

    def parse_time(self, line: Line) -> list[float] | None:
        """The time stamp of a line that cannot be read further, and NaN behind it; None where it has none."""
        first, *rest = line.words()
        if not rest or not is_number(first) or not math.isfinite(parse_number(first)):
            return None
        return [parse_number(first) * self.seconds, *[math.nan] * 7]


def recognize_columns(file: TextFile) -> Columns:
    """What the columns of a file hold, as most of its lines and the names above them have it; TUM's if nothing says
    otherwise."""
    words = [line.words() for line in file.lines]
    count = Counter(map(len, words)).most_common(1)[0][0]
    if count == 12:
        return Columns(KITTI, 12)
    times = [parse_number(first) for first, *_ in words if is_number(first)]
    are_ns = sum(time > NANOSECONDS for time in times) > len(words) / 2 or bool(IN_NANOSECONDS.search(file.header))
    is_scalar_first = count == STATE or bool(SCALAR_FIRST.search(file.header))
    seconds = 1e-9 if are_ns else 1.0
    if is_scalar_first:
        return Columns(EUROC, count if count == STATE else 8, True, seconds)
    return Columns(TUM, 8, False, seconds)
