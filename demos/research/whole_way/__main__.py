"""The whole way: depth noise learned because the plan gets better, from trips in the true room back to the pixels.

A depth sensor has faults that go with what a pixel looks like: edges fly, dark surfaces read long, corners of the image
short. A network says how far to trust each pixel; its weights make a volume, that distances over the floor, these a
cost and that a policy, and what this costs in the true room is the loss, differentiated implicitly through the planner
and on through the map into the network. Beside it the same network is trained by the error of the volume, and by that
of the distances: does the task teach something else? Judged in rooms not seen, by trips that an exact planner takes.

    python -m demos.research.whole_way --out out
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
import tyro

from demos.research.whole_way.figure import draw
from demos.research.whole_way.judge import drive, judge, judge_trips, noise_by_kind, trips
from demos.research.whole_way.model import Network
from demos.research.whole_way.train import LOSSES, train
from demos.research.whole_way.world import cluttered, visit
from gradslam_ng.preprocessing import axial_noise

UNSEEN, FIRST = (1, 2, 3), 100  # seeds of the rooms to be judged in, and of the first to train in


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def main(
    out: Path = Path("out"),
    size: tuple[int, int] = (48, 64),
    frames: int = 12,
    rooms: int = 6,
    steps: int = 24,
    rate: float = 0.03,
    seeds: int = 1,
    goals: int = 8,
    starts: int = 6,
) -> dict:
    """Write whole_way.png and .json.

    Args:
        out: folder for both.
        size: image height and width.
        frames: of each room.
        rooms: to train in.
        steps: of training, a room each.
        rate: of training, at its beginning.
        seeds: networks trained by each error.
        goals: in each room not seen.
        starts: for each goal.
    """
    torch.set_num_threads(1)
    known = [visit(cluttered(FIRST + k), FIRST + k, size, frames) for k in range(rooms)]
    noises, seconds = {"untrained": [Network()], "by hand": [axial_noise]}, {}
    for name, loss in LOSSES.items():
        began = time.process_time()
        noises[name] = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            noises[name].append(train(Network(), known, loss, steps, rate, seed))
        seconds[name] = time.process_time() - began
    places = [visit(cluttered(k), k, size, frames) for k in UNSEEN]
    tables: dict[str, dict] = {}
    for k, place in zip(UNSEEN, places, strict=True):
        name = f"room {k}"
        asked = trips(place, goals, starts, torch.Generator().manual_seed(k))
        tables[name] = {"the true room": judge_trips(place, drive(place.distance, asked))}
        tables[name]["exact depth"] = judge(place, place.exact, axial_noise, asked)
        for way, some in noises.items():
            tables[name][way] = mean([judge(place, place.frames, noise, asked) for noise in some])
        print(name, json.dumps(tables[name], indent=1), flush=True)
    numbers = {
        "rooms": tables,
        "mean": {way: mean([rows[way] for rows in tables.values()]) for way in next(iter(tables.values()))},
        "noise of kinds of pixels": {
            way: mean([noise_by_kind(places, one) for one in some]) for way, some in noises.items()
        },
        "seconds": seconds,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "whole_way.json").write_text(json.dumps(numbers, indent=2) + "\n")
    first = {way: some[0] for way, some in noises.items()}
    draw(out / "whole_way.png", places[0], first, numbers)
    print(json.dumps({name: numbers[name] for name in numbers if name != "rooms"}, indent=2))
    return numbers


if __name__ == "__main__":
    tyro.cli(main)
