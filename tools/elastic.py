"""Every method on 1, 2 and 4 processes: what it draws to the bit, and its losses.

    python tools/elastic.py [--steps 200] [--precision 64] [--cases flow reflow] [--worlds 1 2 4]

The cases are those of ``tests/methods/cases.py``: tiny networks, on gloo processes of this machine.
Compared with one process: sample indices, all random numbers, and the noise levels that networks
are told, in the order of the samples; losses, relative to the largest of their name so far; and
the losses of runs begun on 2 processes and ended on 1, begun on 4 and ended on 2, half-way each.
Ends with code 1 if a draw differs, or losses by more than a millionth.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch.strategies import DDPStrategy

sys.path.append(str(Path(__file__).parents[1] / "tests" / "methods"))

from cases import CASES
from seen import Seen, gathered
from small import fit

TOLERANCE = 1e-6
BATCH = 64
"""A global batch: its parts hold whole groups on 4 processes as well."""
MOVES = ((2, 1), (4, 2))
"""Processes that a run begins and ends on."""


def work(rank: int, world: int, port: int, folder: Path, case: str, asked: Any) -> None:
    """Train on this rank, from the start and from where others are half-way; keep what was seen."""
    torch.set_num_threads(1)
    if world > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "NODE_RANK": 0}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        dist.init_process_group("gloo", timeout=timedelta(minutes=10))
    double = asked.precision == 64
    for first in [None, *(first for first, last in asked.moves if last == world)]:
        kept = first and torch.load(folder / f"{first}-0.pt", weights_only=True)["kept"]
        method = CASES[case](max_steps=asked.steps)
        method = method.double() if double else method
        settings: dict[str, Any] = {}
        if world > 1:
            settings = {"strategy": DDPStrategy(broadcast_buffers=False), "devices": world}
        seen = Seen(double, asked.steps // 2, kept)
        method.batches_done = kept["batches_done"] if kept else 0
        fit(method, seen, batch=BATCH, **settings)
        found = {"losses": seen.losses, "drawn": (dict(seen.drawn), dict(seen.told))}
        name = f"{first}to{world}" if first else f"{world}"
        torch.save({**found, "kept": seen.kept}, folder / f"{name}-{rank}.pt")


def read(folder: Path, name: str, world: int) -> tuple[list[dict[str, float]], Any]:
    """Mean losses of a run, and its draws, of all ranks."""
    ranks = [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(world)]
    losses = [
        {name: sum(part[name] for part in parts) / world for name in parts[0]}
        for parts in zip(*(rank["losses"] for rank in ranks), strict=True)
    ]
    return losses, gathered([rank["drawn"] for rank in ranks])


def apart(ours: list[dict[str, float]], wanted: list[dict[str, float]]) -> float:
    """The largest difference of losses, relative to the largest of their name so far."""
    largest: dict[str, float] = {}
    worst = 0.0
    for mine, theirs in zip(ours, wanted, strict=True):
        for name, value in theirs.items():
            if value != value:  # spoilt on purpose
                worst = max(worst, 0.0 if mine[name] != mine[name] else float("inf"))
                continue
            largest[name] = max(largest.get(name, 0.0), abs(value))
            if mine[name] != value:
                worst = max(worst, abs(mine[name] - value) / largest[name])
    return worst


def same(ours: Any, wanted: Any) -> list[str]:
    """What is drawn or told otherwise, by name."""
    wrong = set()
    for what, mine, theirs in zip(("drawn", "told"), ours, wanted, strict=True):
        for note in mine.keys() | theirs.keys():
            x, y = mine.get(note), theirs.get(note)
            if x is None or y is None or not torch.equal(x, y):
                wrong.add(f"{what} {note[1]} from batch {note[0]}")
    return sorted(wrong, key=lambda text: int(text.split()[-1]))


def compare(folder: Path, asked: Any) -> tuple[list[str], list[float]]:
    """What is drawn otherwise on several processes, and how far losses are apart, of each run."""
    losses, draws = read(folder, "1", 1)
    wrong, distances = [], []
    for world in asked.worlds[1:]:
        others, drawn = read(folder, f"{world}", world)
        wrong += [f"{world} processes: {what}" for what in same(drawn, draws)[:2]]
        distances.append(apart(others, losses))
    for first, last in asked.moves:
        ended, _ = read(folder, f"{first}to{last}", last)
        begun, _ = read(folder, f"{first}", first)
        distances.append(apart([*begun[: len(begun) - len(ended)], *ended], losses))
    return wrong, distances


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--precision", type=int, choices=[32, 64], default=64)
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2, 4], help="1 is the first")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=[*CASES])
    asked = parser.parse_args()
    asked.moves = [move for move in MOVES if {*move} <= {*asked.worlds}]
    torch.set_num_threads(1)
    begun = time.monotonic()
    on = [f"on {world}" for world in asked.worlds[1:]]
    on += [f"{first} to {last}" for first, last in asked.moves]
    print(f"{'case':32}", *(f"{words:7}" for words in on), sep="  ")
    right = True
    for case in asked.cases:
        with tempfile.TemporaryDirectory() as name:
            for world in sorted(asked.worlds, reverse=True):  # a run that moves goes to fewer
                with socket.create_server(("127.0.0.1", 0)) as free:
                    port = free.getsockname()[1]
                what = world, port, Path(name), case, asked
                mp.start_processes(work, what, world, start_method="fork")
            wrong, distances = compare(Path(name), asked)
        right = right and not wrong and max(distances) <= TOLERANCE
        print(f"{case:32}  {'  '.join(f'{x:7.1e}' for x in distances)}", *wrong, flush=True)
    print(f"{len(asked.cases)} cases, {asked.steps} steps, {time.monotonic() - begun:.0f} s")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
