"""Small buffers of generated source, made once instead of in every call.

A compiled sum over pixels ends in some thirty numbers, each a tensor of its own, and in views of the matrix that they
are put together to. Making those took as long as the loop itself on a small image.
"""

from __future__ import annotations

import math
import re

KEPT_NUMBERS = 1024  # of a buffer that is made once
WORTH_COPYING = 3  # views of a returned buffer, from which a copy of it costs less than they do
CALL = "\n    def call(self, args):\n"
END_OF_CALL = "\nrunner = Runner(partitions=[])\ncall = runner.call\n"
EMPTY = re.compile(r"(buf\d+) = empty_strided_cpu\(\(([\d, ]*)\), \([\d, ]*\), torch\.\w+\)")
VIEW = re.compile(r"(buf\d+) = (?:reinterpret_tensor\()?(buf\d+)(?:, \([\d, ]*\), \([\d, ]*\), \d+\))?")
REUSE = re.compile(r"; del buf\d+  # reuse$")  # of the memory of a buffer that is not needed any more
END = re.compile(r"del (buf\d+)")
STATEMENT = re.compile(r"[\w.]+\(")  # a call that returns nothing: of a loop, or one told where to write
BUFFER = re.compile(r"\bbuf\d+\b")


def keep_small_buffers(body: str) -> str:
    """Generated source that defines `prepare`, which makes small buffers and returns `call` with them. Where it is of
    another form than expected: as it was.

    Small buffers are those of a size that is known, which are only written and read in loops. Of returned ones copies
    are. Two calls at once must be of two functions that `prepare` returns.
    """
    before, found, rest = body.partition(CALL)
    text, end, _ = rest.partition(END_OF_CALL)
    start = before.rfind("\nclass Runner")
    lines = [line.removesuffix("  # alias") for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    straight = all(re.match(r" {8}\S", line) for line in lines) and "self." not in text
    if not (found and end and start >= 0 and straight and lines[-1].startswith("        return ")):
        return body
    lines = [line.strip() for line in lines]
    kept = kept_buffers(lines)
    made, done = [], []
    for line in lines[:-1]:
        if _defined(line) in kept:
            made.append(REUSE.sub("", line))
        elif _ended(line) not in kept:
            done.append(line)
    done.append(BUFFER.sub(lambda name: f"{name[0]}.clone()" if name[0] in kept else name[0], lines[-1]))
    call = ["    def call(args):", *(f"        {line}" for line in done), "    return call", ""]
    return "\n".join([before[:start], "def prepare():", *(f"    {line}" for line in made), *call])


def kept_buffers(lines: list[str]) -> set[str]:
    """Names of the buffers, and of the views of them, that can be made once."""
    memory: dict[str, str] = {}  # by name, the buffer of which it is, or is a view
    others: set[str] = set()  # buffers with another use
    for line in lines[:-1]:
        if (found := EMPTY.fullmatch(line)) and math.prod(map(int, re.findall(r"\d+", found[2]))) <= KEPT_NUMBERS:
            memory[found[1]] = found[1]
        elif (found := VIEW.fullmatch(REUSE.sub("", line))) and found[2] in memory:
            memory[found[1]] = memory[found[2]]
        elif not (_ended(line) or STATEMENT.match(line)):
            others.update(memory.get(name, "") for name in BUFFER.findall(line))
    for name in BUFFER.findall(lines[-1]):
        of = memory.get(name, "")
        if list(memory.values()).count(of) <= WORTH_COPYING:
            others.add(of)
    return {name for name, of in memory.items() if of not in others}


def _defined(line: str) -> str | None:
    """The buffer that a line does nothing but make."""
    found = EMPTY.fullmatch(line) or VIEW.fullmatch(REUSE.sub("", line))
    return found[1] if found else None


def _ended(line: str) -> str | None:
    found = END.fullmatch(line)
    return found[1] if found else None
