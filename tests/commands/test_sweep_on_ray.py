"""`gradslam-ng sweep --ray`: a node of a cluster is killed in the middle, and nothing is lost or done twice."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from gradslam_ng.commands import sweep_runs
from gradslam_ng.commands.sweep_runs import Run, _run_once, read_outcome, run_on_ray

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
QUICK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def cluster():
    """Two nodes of a core each on this machine; the first is the head."""
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    head = {"num_cpus": 1, "_system_config": QUICK, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000, wait=False)
    cluster.wait_for_nodes(timeout=120)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def note(root, name: str, line: str) -> None:
    with (root / name).open("a") as file:
        file.write(f"{line}\n")


def lines(root, name: str) -> list[list[str]]:
    path = root / name
    return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []


def a_short_run(run: Run) -> sweep_runs.Outcome:
    """In place of a run: takes two seconds, and tells where it is."""
    note(run.root, "started", f"{run.name} {ray.get_runtime_context().get_node_id()} {os.getpid()}")
    time.sleep(2.0)
    run.out.mkdir(exist_ok=True)
    (run.out / "metrics.json").write_text("{}")
    note(run.root, "finished", run.name)
    return sweep_runs.Outcome(run.arguments, 0, 1.0, 1)


def test_a_worker_that_outlives_its_node_is_waited_for(tmp_path):
    """It may go on for a while; what it finishes is not done again, and of what it does not, nothing is lost."""
    run = Run("r", "/data/r", tmp_path, ())
    running, go_on = threading.Event(), threading.Event()

    def slow(run: Run) -> sweep_runs.Outcome:
        running.set()
        assert go_on.wait(60)
        run.out.mkdir()
        (run.out / "metrics.json").write_text("{}")
        return sweep_runs.Outcome(run.arguments, 3, 1.0, 1)

    def never(run: Run) -> sweep_runs.Outcome:
        raise AssertionError("done twice")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(_run_once, run, slow)
        assert running.wait(60)
        second = pool.submit(_run_once, run, never)
        time.sleep(0.1)
        assert not second.done()
        go_on.set()
        assert first.result() == second.result()
    (tmp_path / sweep_runs.LOGS / "r.json").unlink()  # as one that was killed leaves it
    assert _run_once(run, lambda run: sweep_runs.Outcome(run.arguments, 0, 1.0, 1)).exit_status == 0


def kill_when_busy(cluster, root) -> str:
    """Kill the second node once it is at its second run, and what would outlive it for a while. Returns its id."""
    victim = cluster.worker_nodes.copy().pop()
    deadline = time.monotonic() + 60
    while len(at := [int(pid) for _, node, pid in lines(root, "started") if node == victim.node_id]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cluster.remove_node(victim, allow_graceful=False)
    with contextlib.suppress(ProcessLookupError):
        os.kill(at[-1], signal.SIGKILL)
    return victim.node_id


def test_a_node_killed_in_the_middle_loses_nothing(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_runs, "_run_in_worker", a_short_run)
    (tmp_path / sweep_runs.LOGS).mkdir()
    runs = [Run(f"r{i}", f"/data/r{i}", tmp_path, ()) for i in range(6)]
    killed: list[str] = []
    killer = threading.Thread(target=lambda: killed.append(kill_when_busy(cluster, tmp_path)))
    killer.start()
    outcomes = dict(run_on_ray(runs, cluster.address, 0.0))
    killer.join()
    assert len(outcomes) == 6 and all(outcome.has_results for outcome in outcomes.values())
    finished = Counter(name for (name,) in lines(tmp_path, "finished"))
    assert finished == Counter(run.name for run in runs)  # each once
    started = lines(tmp_path, "started")
    again = [name for name, count in Counter(name for name, *_ in started).items() if count > 1]
    assert len(again) == 1 and [again[0], killed[0]] in [line[:2] for line in started]  # what the node was at
    assert all(read_outcome(run) is not None for run in runs)  # and a second sweep has nothing to do
