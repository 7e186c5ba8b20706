"""Training through SLAM by many processes: `DistributedDataParallel`, checkpoints, TensorBoard, clips from shards.

What is learned is the depth bias of `demos.depth_bias`: each process corrects clips of its own, tracks and fuses them
and descends their disagreement; gradients are averaged over all processes. N processes with B clips each take the steps
of one process with N x B, up to rounding. A training that is started again goes on from its last checkpoint, with the
clips that would have come next.

    torchrun --nproc-per-node 2 -m demos.train_distributed --out out
    torchrun --nproc-per-node 2 -m demos.train_distributed --out out --recording FOLDER --shards out/shards

With `--shards` the clips are written there once and read from there in order. On GPUs each process has one of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

import gradslam_ng as gs
from demos.common.clips import EMBEDDED, shrunk
from demos.common.consistency import disagreement
from demos.depth_bias import PRIOR, BiasField, bent
from gradslam_ng.io.optional_import import import_optional
from gradslam_ng.io.tensor_tree import load_tree, save_tree
from gradslam_ng.odometry import ProjectiveICP

CHECKPOINT = "checkpoint.safetensors"


class Clips(Dataset):
    """Clips (L,) of every so many-th frame of `frames` (N,), one from each frame on, without poses."""

    def __init__(self, frames: gs.RGBDFrames, *, length: int, every: int) -> None:
        self.frames, self.span, self.every = frames, (length - 1) * every + 1, every
        if len(frames) < self.span:
            raise ValueError(f"frames: expected at least {self.span} for one clip, got {len(frames)}")

    def __len__(self) -> int:
        return len(self.frames) - self.span + 1

    def __getitem__(self, index: int) -> gs.RGBDFrames:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        part = self.frames[index : index + self.span : self.every]
        return gs.RGBDFrames(part.color, part.depth, part.K)


class DisagreementOfClips(nn.Module):
    """The loss of clips (B, L): the mean over them, so that the mean over processes is that of all their clips."""

    def __init__(self, field: BiasField) -> None:
        super().__init__()
        self.field = field
        odometry = ProjectiveICP(photometric=False, iterations=(3, 3), rotation_iterations=0, backward="implicit-gn")
        self.slam = gs.PointFusion(odometry, factor=1)

    def forward(self, clips: gs.RGBDFrames) -> Tensor:
        corrected = gs.RGBDFrames(clips.color, self.field(clips.depth), clips.K)
        _, T_wc = self.slam(corrected)
        losses = [disagreement(corrected[i, None], T_wc[i, None]) for i in range(len(clips))]
        return torch.stack(losses).mean() + PRIOR * self.field.prior()


@dataclass(frozen=True)
class Group:
    """The processes that train together, and which of them this is."""

    rank: int
    size: int
    device: torch.device

    @staticmethod
    def join() -> Group:
        """That of `torchrun`, or this process alone."""
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(device)
        if size > 1:
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return Group(rank, size, device)

    def spread(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients are those of all processes, in the mean, from here on."""
        return DistributedDataParallel(module) if self.size > 1 else module

    def leave(self) -> None:
        if self.size > 1:
            distributed.destroy_process_group()


@dataclass(frozen=True)
class Training:
    """What is trained, and how far it is: all that a checkpoint holds."""

    loss: DisagreementOfClips
    descent: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    losses: list[float]

    @staticmethod
    def start(size: tuple[int, int], *, steps: int, device: torch.device, dtype: torch.dtype) -> Training:
        loss = DisagreementOfClips(BiasField(size)).to(device, dtype)
        descent = torch.optim.Adam(loss.parameters(), lr=1e-3, betas=(0.8, 0.95))
        return Training(loss, descent, torch.optim.lr_scheduler.CosineAnnealingLR(descent, steps), [])

    def save(self, path: Path) -> None:
        """Replace the checkpoint at once: there is always a whole one."""
        parts = {"field": self.loss.field, "descent": self.descent, "schedule": self.schedule}
        states: dict[str, Any] = {name: dict(part.state_dict()) for name, part in parts.items()}
        save_tree(path, states | {"losses": self.losses}, {"steps": len(self.losses)})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: the file is none.
        """
        tree = load_tree(path, ())
        self.loss.field.load_state_dict(tree["field"])
        self.descent.load_state_dict(tree["descent"])
        self.schedule.load_state_dict(tree["schedule"])
        self.losses[:] = tree["losses"]


def batches(clips: Clips, group: Group, *, batch: int, first: int, steps: int, seed: int) -> list[list[int]]:
    """Clips of this process in each step from the `first` on: one resumed meets those that it would have met."""
    sampler: DistributedSampler = DistributedSampler(clips, group.size, group.rank, seed=seed, drop_last=True)
    each = len(sampler) // batch
    if each == 0:
        raise ValueError(
            f"clips: expected at least {group.size * batch}, one for each place in a batch, got {len(clips)}"
        )
    epochs = {}
    for epoch in range(first // each, -(-steps // each)):
        sampler.set_epoch(epoch)
        epochs[epoch] = list(sampler)
    starts = ((step // each, step % each * batch) for step in range(first, steps))
    return [epochs[epoch][start : start + batch] for epoch, start in starts]


def loader(
    clips: Clips, shards: Path | None, group: Group, *, batch: int, first: int, steps: int, seed: int
) -> DataLoader:
    """Batches (B, L) of this process, of clips in memory, or of those in a folder of shards, which has no end."""
    pin = group.device.type == "cuda"
    if shards is None:
        plan = batches(clips, group, batch=batch, first=first, steps=steps, seed=seed)
        return DataLoader(clips, batch_sampler=plan, pin_memory=pin)
    stream = gs.datasets.read_shards(sorted(shards.glob("*.tar")), seed=seed + first)
    return DataLoader(stream, batch_size=batch, num_workers=1, pin_memory=pin)


def steps_of(training: Training, batches: DataLoader, group: Group, steps: int) -> Iterator[dict[str, float]]:
    """Take steps up to so many; of each the loss of all processes, its time and that of waiting for clips."""
    loss, source = group.spread(training.loss), iter(batches)
    while len(training.losses) < steps:
        began = time.perf_counter()
        clips = next(source).to(group.device, non_blocking=True)
        read = time.perf_counter()
        value = loss(clips)
        training.descent.zero_grad()
        value.backward()
        training.descent.step()
        training.schedule.step()
        value = value.detach()
        if group.size > 1:
            distributed.all_reduce(value)
        training.losses.append(float(value) / group.size)
        yield {"loss": training.losses[-1], "step, s": time.perf_counter() - began, "reading, s": read - began}


def board(folder: Path) -> Any:
    """A writer of TensorBoard's, or None where that is not installed, which is said."""
    try:
        import_optional("tensorboard", user="the curve of the loss", extra="training")
    except ImportError as error:
        print(f"no TensorBoard: {error}")
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)


def main(
    out: Path = Path("out"),
    recording: Path = EMBEDDED,
    shards: Path | None = None,
    width: int = 80,
    frames: int = 120,
    every: int = 8,
    length: int = 4,
    batch: int = 2,
    steps: int = 100,
    save_every: int = 10,
    seed: int = 0,
    double: bool = False,
) -> dict:
    """Write checkpoint.safetensors, train_distributed.json and, with TensorBoard, its events; go on where they are.

    Args:
        out: folder for these.
        recording: of which clips are taken, without their poses.
        shards: folder of the clips, written where it has none.
        width: that images are shrunk to, about, pixels.
        frames: of the recording, from its beginning.
        every: frames from one of a clip to the next.
        length: frames of a clip.
        batch: clips in a step of each process.
        steps: in all.
        save_every: steps from one checkpoint to the next.
        seed: of the order of the clips.
        double: compute in double precision: then rounding makes no difference that grows.
    """
    group = Group.join()
    dtype = torch.float64 if double else torch.float32
    images = shrunk(gs.datasets.load(recording)[:frames], width).to(dtype=dtype)
    clips = Clips(gs.RGBDFrames(images.color, bent(images.depth), images.K), length=length, every=every)
    training = Training.start(images.size, steps=steps, device=group.device, dtype=dtype)
    path = out / CHECKPOINT
    if path.is_file():
        training.load(path)
    first = len(training.losses)
    if group.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        if shards is not None and not any(shards.glob("*.tar")):
            gs.datasets.write_shards(clips, shards)
    if group.size > 1:
        distributed.barrier()  # until shards are written
    source = loader(clips, shards, group, batch=batch, first=first, steps=steps, seed=seed)
    numbers = follow(training, steps_of(training, source, group, steps), path if group.rank == 0 else None, save_every)
    group.leave()
    return numbers | {"processes": group.size, "first step": first}


def follow(training: Training, taken: Iterator[dict[str, float]], path: Path | None, save_every: int) -> dict:
    """Take the steps; the process with a path keeps checkpoints there, figures and the curve beside it."""
    writer = None if path is None else board(path.parent)
    rows = []
    for row in taken:
        rows.append(row)
        count = len(training.losses)
        if writer is not None:
            writer.add_scalar("loss", row["loss"], count)
        if path is not None and count % save_every == 0:
            training.save(path)
            print(f"step {count}: loss {row['loss']:.4f}", flush=True)
    waiting, whole = (sum(row[name] for row in rows[1:]) for name in ("reading, s", "step, s"))
    numbers = {"losses": training.losses, "step, s": whole / max(1, len(rows) - 1)}
    numbers |= {"share of a step that waits for clips": waiting / whole if whole else 0.0}
    if path is not None:
        training.save(path)
        path.with_name("train_distributed.json").write_text(json.dumps(numbers, indent=2) + "\n")
    if writer is not None:
        writer.close()
    return numbers


if __name__ == "__main__":
    tyro.cli(main)
