"""Compiled functions: what is on disk is loaded, what is not is compiled by another process, once."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gradslam_ng.compute import compiler_process, kernel_library
from gradslam_ng.compute.arguments import flatten
from gradslam_ng.compute.compiled import compilation, compiled
from gradslam_ng.compute.kernel_files import stamped_folder
from gradslam_ng.compute.kernel_library import Call, KernelLibrary, library

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@compiled(dynamic=("x",))
def scale_rows(x: Tensor, factor: float) -> tuple[Tensor, Tensor]:  # x (B, N)
    return factor * x, x


@compiled
def add_in_place(x: Tensor, y: Tensor) -> Tensor:
    return x.add_(y)


@compiled(dynamic=())
def wave(x: Tensor, more: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    return {"sine": factor * x.sin(), "same": more["y"]}


@compiled
def scale_by(x: Tensor, scale: Any) -> Tensor:
    return scale.factor * x


@compiled(dynamic=(), batched=True)
def center_rows(x: Tensor, more: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:  # x (B, N), more: (B, 2) and ()
    shift, scale = more
    return scale * (x - x.mean(-1, keepdim=True)) + shift.sum(-1, keepdim=True), shift


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder of compiled functions."""
    monkeypatch.setenv("GRADSLAM_NG_KERNELS", str(tmp_path / "kernels"))
    return stamped_folder()


@pytest.fixture
def submitted(monkeypatch) -> list[str]:
    """Functions that were handed to a compiler process."""
    names = []
    submit = KernelLibrary._submit

    def note(self, request, niceness):
        names.append(request.function.__qualname__)
        return submit(self, request, niceness)

    monkeypatch.setattr(KernelLibrary, "_submit", note)
    return names


@needs_compiler
@torch.no_grad()
def test_compiled_once_and_then_loaded(submitted):
    """For sizes that change, in place, and anew from disk as another process would."""
    x = torch.arange(12.0).reshape(2, 6)
    with compilation(wait=True):
        doubled, same = scale_rows(x, 2.0)
        assert torch.equal(doubled, 2 * x) and same is x
        assert torch.equal(scale_rows(x[:, :3].contiguous(), 2.0)[0], 2 * x[:, :3])
        total = x.clone()
        assert add_in_place(total, x) is total and torch.equal(total, 2 * x)
    assert submitted == ["scale_rows", "add_in_place"]
    kernel_library._library.cache_clear()
    with compilation(wait=True):
        assert torch.equal(scale_rows(x, 2.0)[0], 2 * x) and len(library().versions) == 1
    assert submitted == ["scale_rows", "add_in_place"]


@torch.no_grad()
def test_a_run_goes_on_plainly_until_a_version_is_ready(monkeypatch, submitted):
    """No call waits for the compiler, which is asked for what has cost most."""
    monkeypatch.setattr(kernel_library, "WORTH_COMPILING", 0.0)
    sent = []

    class Process:
        def __init__(self, folder, *, niceness):
            self.finished = queue.SimpleQueue()
            assert niceness > 0

        def submit(self, request):
            sent.append(request.digest)

        def close(self):
            sent.append("closed")

    monkeypatch.setattr(kernel_library, "CompilerProcess", Process)
    monkeypatch.setattr(kernel_library, "compiler_missing", lambda folder: "")
    x = torch.ones(2, 3)
    with compilation():
        for _ in range(4):
            assert torch.equal(scale_rows(x, 2.0)[0], 2 * x)
        assert len(sent) == 1 and library().count() == (0, 1)
    assert sent[1:] == ["closed"]


@pytest.mark.parametrize("missing", ["compiler", "folder"])
@torch.no_grad()
def test_without_a_compiler_or_a_folder_functions_run_plainly(monkeypatch, tmp_path, missing):
    monkeypatch.setattr(kernel_library, "WORTH_COMPILING", 0.0)
    if missing == "compiler":
        monkeypatch.setenv("CXX", "no-such-compiler")
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("GRADSLAM_NG_KERNELS", str(tmp_path / "file"))
    with compilation(wait=True):
        assert scale_rows(torch.ones(2, 3), 2.0)[0].sum() == 12
    assert ("no-such-compiler" if missing == "compiler" else "cannot be written") in library().refused


@needs_compiler
@torch.no_grad()
def test_a_function_that_cannot_be_compiled_runs_plainly_and_says_so_once(caplog):
    twice = compiled(lambda x: 2 * x)  # not found by its name in another process
    for _ in range(2):
        with compilation(wait=True):
            assert twice(torch.ones(())) == 2 and twice(torch.ones(())) == 2
    assert caplog.text.count("runs without a compiled version") == 1


@needs_compiler
def test_both_passes_are_compiled_while_gradients_are_recorded(submitted):
    """What no gradient reaches gets none; the plain function has second derivatives."""
    found = []
    for enabled in (False, True):
        x, unused = torch.linspace(0, 1, 6).reshape(2, 3).requires_grad_(), torch.ones(2, 2, requires_grad=True)
        with compilation(enabled, wait=True):
            for _ in range(2):  # the first backward pass is plain, to see what it reaches
                first = torch.autograd.grad(wave(x, {"y": unused}, 2.0)["sine"].sum(), x)[0]
            y = wave(x, {"y": unused}, 2.0)["sine"].sum()
            y.backward(retain_graph=True)
            again = torch.autograd.grad(y, x, create_graph=True)[0]
            second = torch.autograd.grad(again.sum(), x)[0]
        assert unused.grad is None and torch.equal(x.grad, first)
        found.append((y, first, second))
    for plain, ours in zip(*found, strict=True):
        assert torch.allclose(plain, ours)
    assert submitted == ["wave", "wave.backward"]


@needs_compiler
def test_elements_of_a_batch_take_the_version_for_one(submitted):
    """To the last bit, in both passes; the gradient of a number that all share is the sum of theirs."""
    x, scale = torch.linspace(0, 1, 3 * 4096).reshape(3, 4096).sin(), torch.tensor(3.0, requires_grad=True)
    shift = torch.ones(2).expand(3, 2)  # in memory one element

    def run(x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.clone().requires_grad_()
        y, same = center_rows(x, (shift, scale))
        assert same.shape == shift.shape and torch.equal(same, shift)
        return y.detach(), *torch.autograd.grad(y.square().sum(), (x, scale))

    with compilation(wait=True):
        for _ in range(2):  # the first backward pass is plain
            single = [run(x[i : i + 1], shift[i : i + 1]) for i in range(3)]
            batch = run(x, shift)
    y, of_x, of_scale = (torch.stack(parts) for parts in zip(*single, strict=True))
    assert (
        torch.equal(batch[0], y[:, 0]) and torch.equal(batch[1], of_x[:, 0]) and torch.equal(batch[2], of_scale.sum())
    )
    assert submitted == ["center_rows", "center_rows.backward"]


@needs_compiler
def test_what_may_hide_tensors_runs_plainly_while_gradients_are_recorded():
    class Hidden:
        def __init__(self) -> None:
            self.factor = torch.ones((), requires_grad=True)

    hidden = Hidden()
    with compilation(wait=True):
        scale_by(torch.ones(3), hidden).sum().backward()
    assert hidden.factor.grad == 3


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_compiler_process_outlives_its_run(number, tmp_path):
    """Nor what it runs itself."""
    code = (
        "import runpy, time\nfrom pathlib import Path\n"
        f"make = runpy.run_path({compiler_process.__file__!r})['CompilerProcess']\n"
        f"process = make(Path({str(tmp_path)!r}), niceness=0)\n"
        "print(process.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert run.stdout is not None
    compiler = int(run.stdout.readline())
    run.send_signal(number)
    run.wait()
    deadline = time.monotonic() + 60
    while is_running(compiler) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(compiler)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@needs_compiler
@torch.no_grad()
def test_one_number_expanded_to_a_row_has_a_version_for_all_lengths(submitted):
    """Its stride along the axis of one says nothing, not even that there is one."""
    with compilation(wait=True):
        for length in (6, 8, 11):
            assert scale_rows(torch.ones(()).expand(1, length), 2.0)[0].sum() == 2 * length
    assert submitted == ["scale_rows"] and not library().failed


def test_the_folder_is_the_users_unless_named(monkeypatch):
    monkeypatch.delenv("GRADSLAM_NG_KERNELS")
    monkeypatch.setenv("XDG_CACHE_HOME", os.sep + "cache")
    assert stamped_folder().parent == Path(os.sep) / "cache" / "gradslam_ng" / "kernels"


@needs_compiler
@torch.no_grad()
def test_what_two_runs_ask_for_at_once_is_compiled_once(folder):
    """The one that comes second waits, and finds what the first has compiled; a second folder of the same name would
    be told as a failure."""
    kernel_library.prepare_folder(folder)
    tensors, key = flatten((torch.ones(2, 3), 2.0))
    request = Call(scale_rows, (scale_rows.name, (*key, False)), (torch.ones(2, 3), 2.0), tensors).request()
    processes = [compiler_process.CompilerProcess(folder, niceness=0) for _ in range(2)]
    try:
        for process in processes:
            process.submit(request)
        assert [process.finished.get(timeout=300) for process in processes] == [request.digest] * 2
    finally:
        for process in processes:
            process.close()
    assert [path.name for path in folder.iterdir()] == [request.digest]
