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
from demos.research.whole_way.world import Place, cluttered, visit
from gradslam_ng.preprocessing import Noise, axial_noise

UNSEEN, FIRST = (1, 2, 3), 100  # seeds of the rooms to be judged in, and of the first to train in


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def train_all(known: list[Place], steps: int, rate: float, seeds: int) -> tuple[dict[str, list[Noise]], dict]:
    """Noise models by what they were trained by, and seconds of processor time of each training."""
    noises: dict[str, list[Noise]] = {"untrained": [Network()], "by hand": [axial_noise]}
    seconds = {}
    for name, loss in LOSSES.items():
        began = time.process_time()
        noises[name] = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            noises[name].append(train(Network(), known, loss, steps, rate, seed))
        seconds[name] = (time.process_time() - began) / seeds
    return noises, seconds


def judge_all(places: dict[int, Place], noises: dict[str, list[Noise]], goals: int, starts: int) -> dict[str, dict]:
    """Rows of each noise model, by room and by what it was trained by; beside them trips by what is true."""
    tables: dict[str, dict] = {}
    for k, place in places.items():
        asked = trips(place, goals, starts, torch.Generator().manual_seed(k))
        rows = {"the true room": [judge_trips(place, drive(place.distance, asked))]}
        rows["exact depth"] = [judge(place, place.exact, axial_noise, asked)]
        rows |= {way: [judge(place, place.frames, noise, asked) for noise in some] for way, some in noises.items()}
        tables[f"room {k}"] = rows
        print(f"room {k}", json.dumps({way: mean(some) for way, some in rows.items()}, indent=1), flush=True)
    return tables


def above_the_best(tables: dict[str, dict]) -> dict[str, list[float]]:
    """What trips by each noise model cost over the best, all rooms together, %."""
    rooms = list(tables.values())
    least = sum(rows["the true room"][0]["cost, m"] for rows in rooms)
    return {
        way: [
            100 * (sum(rows[way][seed]["cost, m"] for rows in rooms) / least - 1) for seed in range(len(rooms[0][way]))
        ]
        for way in rooms[0]
    }


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
    noises, seconds = train_all(known, steps, rate, seeds)
    places = {k: visit(cluttered(k), k, size, frames) for k in UNSEEN}
    tables = judge_all(places, noises, goals, starts)
    kinds = {way: [noise_by_kind(list(places.values()), one) for one in some] for way, some in noises.items()}
    by_room = {name: {way: mean(some) for way, some in rows.items()} for name, rows in tables.items()}
    numbers = {
        "rooms": by_room,
        "mean": {way: mean([rows[way] for rows in by_room.values()]) for way in next(iter(by_room.values()))},
        "cost above the best, %, by seed": above_the_best(tables),
        "noise of kinds of pixels": {way: mean(some) for way, some in kinds.items()},
        "noise of kinds of pixels, by seed": kinds,
        "seconds of a training": seconds,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "whole_way.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(out / "whole_way.png", places[UNSEEN[0]], {way: some[0] for way, some in noises.items()}, numbers)
    print(json.dumps({name: numbers[name] for name in numbers if name != "rooms"}, indent=2))
    return numbers


if __name__ == "__main__":
    tyro.cli(main)
