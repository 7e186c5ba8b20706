"""Small buffers of generated source are made once, and what is returned is nobody else's."""

from __future__ import annotations

import threading

import pytest
import torch

from gradslam_ng.compute.kernel_buffers import keep_small_buffers
from gradslam_ng.compute.kernel_source import Libraries, run_source

HEADER = "import torch\nasync_compile = AsyncCompile()\n"
SOURCE = """
fill = async_compile.cpp_pybinding(['float*'], '')

class Runner:
    def __init__(self, partitions):
        self.partitions = partitions

    def call(self, args):
        arg0_1, = args
        args.clear()
        buf0 = empty_strided_cpu((1, ), (1, ), torch.float32)
        buf9 = empty_strided_cpu((1, 4), (4, 1), torch.float32)
        buf1 = reinterpret_tensor(buf9, (1, 1), (4, 1), 0)  # alias
        buf2 = reinterpret_tensor(buf9, (1, 1), (4, 1), 1)  # alias
        buf3 = reinterpret_tensor(buf9, (1, 1), (4, 1), 2)  # alias
        buf4 = reinterpret_tensor(buf9, (1, 1), (4, 1), 3)  # alias
        large = 0
        fill(arg0_1, buf0, buf1, buf2, buf3, buf4)
        del arg0_1
        buf5 = empty_strided_cpu((64, 64), (64, 1), torch.float32)
        buf6 = buf0; del buf0  # reuse
        extern_kernels.add(buf6, buf9, out=buf5[:1, :4])
        # Topologically Sorted Source Nodes: []
        buf7 = torch.neg(buf6)
        return (reinterpret_tensor(buf9, (4, ), (1, ), 0), buf7, buf6, )

runner = Runner(partitions=[])
call = runner.call
"""
STRAIGHT = SOURCE.replace("        buf7 = torch.neg(buf6)\n", "").replace("        del arg0_1\n", "")
STRAIGHT = STRAIGHT.replace("buf7, buf6", "arg0_1")


def fill(given, *places):
    for i, place in enumerate(places):
        place.fill_(given.item() + i)


def load(source, loop=fill):
    return run_source(HEADER + source + "\ndef get_args():\n    pass\n", Libraries(lambda *_: loop), {})


def parts(source):
    """What is made once, and what in every call."""
    made, found, done = keep_small_buffers(source).partition("def call(args):")
    assert found
    return made, done


def test_small_ones_are_made_once_with_their_views():
    made, done = parts(STRAIGHT)
    assert all(f"buf{i} = " in made and f"buf{i} = " not in done for i in (0, 1, 2, 3, 4, 6, 9))
    assert "buf5 = " in done  # 4096 numbers
    assert "del buf0" not in made + done


def test_what_has_another_use_is_not_kept():
    made, done = parts(SOURCE)
    assert "buf0 = " in done and "buf6 = buf0; del buf0" in done and "buf9 = " in made
    assert "buf6.clone()" not in done and "buf9.clone()" in done


@pytest.mark.parametrize("source", [SOURCE, STRAIGHT])
def test_what_is_returned_stays_as_it_is(source):
    call = load(source)
    first = call([torch.tensor(1.0)])
    kept = [x.clone() for x in first]
    second = call([torch.tensor(5.0)])
    assert first[0].tolist() == [2.0, 3.0, 4.0, 5.0] and second[0].tolist() == [6.0, 7.0, 8.0, 9.0]
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_threads_have_buffers_of_their_own():
    barrier, inside = threading.Barrier(2), {}

    def slow(given, *places):
        fill(given, *places)
        barrier.wait(10)

    call = load(STRAIGHT, slow)

    def run(number):
        inside[number] = call([torch.tensor(float(number))])[0].tolist()

    threads = [threading.Thread(target=run, args=(number,)) for number in (10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert inside == {10: [11.0, 12.0, 13.0, 14.0], 20: [21.0, 22.0, 23.0, 24.0]}


@pytest.mark.parametrize(
    "old, new",
    [
        ("class Runner", "class Other"),
        ("        large = 0", "        if large:\n            large = 0"),
        ("        large = 0", "        self.large = 0"),
        ("    def call(self, args)", "    def main(self, args)"),
    ],
)
def test_another_form_stays_as_it_is(old, new):
    source = SOURCE.replace(old, new)
    assert keep_small_buffers(source) == source
