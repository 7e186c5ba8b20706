"""The two experiments of IDPlan, small: `python -m benchmarks.planning.convolutional`, one thread.

- runtime: forward and backward of a VIN by number of iterations, algorithmic and implicit differentiation.
- success: VIN and ConvGPPN, differentiated either way, trained for a few minutes on given mazes of 15 x 15, tried at
  15, 27 and 49 with the iterations of the training and with more; the share of reachable starts that arrive.

All times are of the processor: what else runs on the machine neither slows a row down nor takes training from it.
"""

from __future__ import annotations

import time
import warnings

import torch
import tyro
from torch import Tensor, nn

from benchmarks.planning.mazes import arrived, batch, optimal_actions, truth
from benchmarks.report import save
from gradslam_ng.planning import VIN, ConvGPPN, ConvolutionalPlanner, ValueIteration

MOVES = ValueIteration(4).moves
TEST_ITERATIONS = {15: 200, 27: 300, 49: 400}
TEST_MAZES = {15: 40, 27: 20, 49: 6}


def given(free: Tensor, goals: Tensor) -> Tensor:
    """Walls and goal as channels (B, 2, X, Y)."""
    goal = torch.zeros(free.shape)
    goal[torch.arange(len(free)), goals[:, 0], goals[:, 1]] = 1.0
    return torch.stack([(~free).float(), goal], 1)


def runtime(size: int = 15, count: int = 16, repeats: int = 3) -> dict:
    maps = given(*batch(size, count, seed=0))
    rows = {}
    for iterations in (25, 50, 100, 200, 400, 800):
        row = {}
        for backward in ("implicit", "unroll"):
            torch.manual_seed(0)
            planner = VIN(hidden=32, latent_actions=40, contraction=0.9, iterations=iterations, backward=backward)
            with torch.no_grad():
                planner.from_value.weight.copy_(planner.from_value.weight.abs() * 10)  # as slow as it may contract
            row[backward] = one_runtime(planner, maps, repeats)
        rows[str(iterations)] = row
        print(iterations, row, flush=True)
    return rows


def one_runtime(planner: ConvolutionalPlanner, maps: Tensor, repeats: int) -> dict:
    forward, backward, kept = [], [], {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    for _ in range(repeats):
        kept.clear()
        begin = time.process_time()
        with warnings.catch_warnings(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            warnings.simplefilter("ignore")  # the table has what converged
            plan = planner(maps)
        forward.append(time.process_time() - begin)
        begin = time.process_time()
        plan.logits.square().mean().backward()
        backward.append(time.process_time() - begin)
    return {
        "forward_ms": 1e3 * min(forward),
        "backward_ms": 1e3 * min(backward),
        "kept_mb": sum(kept.values()) / 1e6,
        "converged": float(plan.converged.float().mean()),
        "taken": float(plan.iterations.float().mean()),
    }


def make(kind: str, backward: str) -> ConvolutionalPlanner:
    torch.manual_seed(0)
    iterations = 30 if backward == "unroll" else 200
    more = {"iterations": iterations, "backward": backward, "tolerance": 1e-3}
    if kind == "VIN":
        return VIN(hidden=32, latent_actions=20, contraction=0.99 if backward == "implicit" else None, **more)
    return ConvGPPN(hidden=24, **more)


def train(planner: ConvolutionalPlanner, seconds: float) -> dict:
    adam = torch.optim.Adam(planner.parameters(), lr=5e-3)
    begin, step, converged = time.process_time(), 0, []
    while time.process_time() - begin < seconds:
        free, goals = batch(15, 16, seed=1000 + step)
        best = optimal_actions(truth(free, goals), MOVES).movedim(1, -1)
        plan = planner(given(free, goals))
        logs = plan.logits.movedim(1, -1).log_softmax(-1)[best.any(-1)]
        loss = -torch.where(best[best.any(-1)], logs, -torch.inf).logsumexp(-1).mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(planner.parameters(), 1.0)
        adam.step()
        converged.append(float(plan.converged.float().mean()))
        step += 1
    return {"steps": step, "loss": float(loss.detach()), "converged": sum(converged) / step}


@torch.no_grad()
def success(planner: ConvolutionalPlanner, size: int, iterations: int) -> dict:
    planner.iterations = iterations
    free, goals = batch(size, TEST_MAZES[size], seed=7)
    plan = planner(given(free, goals))
    moves = torch.from_numpy(MOVES)
    cells = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"), -1)
    after = cells + moves[plan.logits.argmax(1)]
    inside = ((after >= 0) & (after < size)).all(-1)
    successor = torch.where(inside, after[..., 0] * size + after[..., 1], -1)
    reachable = truth(free, goals).isfinite()
    share = float(arrived(successor, free, goals)[reachable].double().mean())
    return {"success": share, "converged": float(plan.converged.float().mean())}


def trained(seconds: float) -> dict:
    rows = {}
    for kind in ("VIN", "ConvGPPN"):
        for backward in ("unroll", "implicit"):
            planner = make(kind, backward)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the table has what converged
                row = train(planner, seconds)
                trained_with = {size: planner.iterations for size in TEST_ITERATIONS}
                for name, counts in (("more", TEST_ITERATIONS), ("as trained", trained_with)):
                    row[name] = {str(size): success(planner, size, counts[size]) for size in TEST_ITERATIONS}
            rows[f"{kind}, {backward}"] = row
            print(kind, backward, row, flush=True)
    return rows


def main(seconds: float = 80.0) -> None:
    """Write planning_convolutional_runtime.json, then planning_convolutional_success.json.

    Args:
        seconds: of processor time that each planner is trained for.
    """
    torch.set_num_threads(1)
    print(save("planning_convolutional_runtime", {"runtime": runtime()}, images="none"))
    figures = {"success": trained(seconds), "seconds": seconds}
    print(save("planning_convolutional_success", figures, images="none"))


if __name__ == "__main__":
    tyro.cli(main)
