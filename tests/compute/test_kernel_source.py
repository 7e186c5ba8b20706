"""Generated source that is run without what generated it: whatever is not as expected is refused before it is used."""

from __future__ import annotations

import pytest
import torch

from gradslam_ng.compute.kernel_source import Libraries, run_source

HEADER = "import torch\nasync_compile = AsyncCompile()\n"
BODY = """
loop = async_compile.cpp_pybinding(['float*'], 'void kernel(float*)')
async_compile.wait(globals())
del async_compile
constant0 = None

class Runner:
    def __init__(self, partitions):
        self.partitions = partitions

    def call(self, args):
        x, = args
        args.clear()
        loop(x)
        return (x + constant0, aten.neg(x))

runner = Runner(partitions=[])
call = runner.call
"""
TAIL = "\ndef get_args():\n    from torch._dynamo.testing import rand_strided\n"


def doubling(argument_types, source):
    assert argument_types == ["float*"] and source.startswith("void")
    return lambda x: x.mul_(2)


def test_what_is_generated_runs_with_its_loops_and_constants():
    call = run_source(HEADER + BODY + TAIL, Libraries(doubling), {"constant0": torch.tensor(10.0)})
    given = [torch.tensor([1.0, 2.0])]
    total, negative = call(given)
    assert total.tolist() == [12.0, 14.0] and negative.tolist() == [-2.0, -4.0] and given == []


@pytest.mark.parametrize(
    "source, said",
    [
        (BODY, "inductor generates"),
        (HEADER + BODY.replace("aten.neg", "another_release.neg") + TAIL, "another_release"),
        (HEADER + BODY.replace("call = runner", "main = runner") + TAIL, "not call"),
    ],
)
def test_source_of_another_form_is_refused(source, said):
    with pytest.raises(ValueError, match=said):
        run_source(source, Libraries(doubling), {})
