"""Three errors to train a depth noise network by: of the volume, of distances over the floor, and of the plan."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

import gradslam_ng as gs
from demos.research.whole_way.model import TRUNCATION, Network, distances, fuse
from demos.research.whole_way.world import RADIUS, Place
from gradslam_ng import planning
from gradslam_ng.structures.voxel_blocks import BLOCK_RESOLUTION, unpack, voxel_offsets

MOVES = torch.tensor([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)])
TOUCHING, SOFTNESS = 20.0, 0.04  # what a meter costs more where the robot touches something, and over how many meters
TEMPERATURE = 0.3  # of a cell's cost
FAR = 0.5  # meters, beyond which errors of distances do not count

Loss = Callable[[gs.VoxelGrid, Place], Tensor]


def price(distance: Tensor) -> Tensor:
    """The cost of a meter: finite within obstacles, too, since the map may be wrong."""
    return 1 + TOUCHING * torch.sigmoid((RADIUS - distance) / SOFTNESS)


def volume_error(volume: gs.VoxelGrid, place: Place) -> Tensor:
    """Mean error of the truncated signed distances of all voxels that are known, centimeters."""
    slot = volume.slots
    _, block = unpack(volume.keys)
    at = block[:, None] * BLOCK_RESOLUTION + voxel_offsets(slot.device)
    true = place.room.clearance((volume.voxel_size * at.double()).flatten(0, 1)).view(at.shape[:2])
    error = (volume.sdf[slot] - true.clamp(-TRUNCATION, TRUNCATION)).abs()
    return 100 * error[volume.weight[slot] > 0].mean()


def distance_error(volume: gs.VoxelGrid, place: Place) -> Tensor:
    """Mean error of distances over the floor where the room is free, centimeters."""
    found, free = distances(volume, place), place.distance > 0
    return 100 * (found.clamp(max=FAR) - place.distance.clamp(max=FAR))[free].abs().mean()


def plan_error(volume: gs.VoxelGrid, place: Place) -> Tensor:
    """What trips planned on the map cost in the true room, over what they must: the mean from everywhere to some goals.

    The planner is soft value iteration, differentiated implicitly; its policy's cost an absorbing chain.
    """
    found, true = distances(volume, place), price(place.distance)
    spent, least = (expected(price(d), true, place.goals)[:, place.standing] for d in (found, place.distance))
    return (spent.sum() / least.sum()).log()


def expected(cost: Tensor, true: Tensor, goals: Tensor) -> Tensor:
    """What the soft policy for a cost (X, Y) costs (G, X, Y) by the true one, from everywhere to goals (G, 2)."""
    values = planning.ValueIteration(MOVES, temperature=TEMPERATURE)(cost.expand(len(goals), *cost.shape), goals)
    policy = values.policy().flatten(2)
    cells = torch.stack(torch.meshgrid(*(torch.arange(n) for n in cost.shape), indexing="ij"), -1).flatten(0, 1)
    ends = cells + MOVES[:, None]
    action, rows = ((ends >= 0) & (ends < torch.tensor(cost.shape))).all(-1).nonzero().T
    x, y = ends[action, rows].T
    cols, flat = x * cost.shape[1] + y, true.flatten()
    step = 0.5 * (flat[rows] + flat[cols]) * MOVES.double().norm(dim=-1)[action]
    costs = []
    for probability, order in zip(policy, values.cost_to_go.detach().flatten(1), strict=True):
        weights = probability[action, rows]
        chain = planning.AbsorbingChain(weights, rows=rows, cols=cols, count=len(cells), order=order)
        costs.append(chain.solve(torch.zeros_like(flat).index_add(0, rows, weights * step)))
    return torch.stack(costs).view(len(goals), *cost.shape)


LOSSES: dict[str, Loss] = {"volume": volume_error, "distances": distance_error, "plan": plan_error}


def train(network: Network, places: list[Place], loss: Loss, steps: int, rate: float, seed: int) -> Network:
    """Fit a network by one of the errors, a place a step."""
    generator = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    began, order = time.process_time(), []
    for step in range(steps):
        order = order or torch.randperm(len(places), generator=generator).tolist()
        place = places[order.pop()]
        error = loss(fuse(place.frames, network), place)
        adam.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step}: {float(error.detach()):.4f}, {time.process_time() - began:.0f} s", flush=True)
    return network.eval()
