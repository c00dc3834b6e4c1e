"""The processes that share an evaluation: which rows are whose, and all rows in one place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


@dataclass(frozen=True)
class Ranks:
    """This process among ``world``; alone by default."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Place on this node, which is the number of its GPU."""

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, n: int) -> tuple[int, int]:
        """First and last (exclusive) of this rank's rows: contiguous, in the order of ranks."""
        return n * self.rank // self.world, n * (self.rank + 1) // self.world

    def gather(self, rows: Tensor) -> Tensor:
        """All ranks' shares as one tensor on the CPU, in the order of their rows."""
        rows = rows.cpu().contiguous()
        return rows if self.world == 1 else torch.cat(gather_all_tensors(rows))

    def agree(self, value: Any) -> Any:
        """What the first rank says."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun started, joined for as long as the block runs."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield Ranks()
        return
    # rows meet on the CPU; the others wait while the first one measures
    dist.init_process_group("gloo", timeout=timedelta(hours=12))
    try:
        yield Ranks(dist.get_rank(), world, int(os.environ.get("LOCAL_RANK", 0)))
    finally:
        dist.destroy_process_group()
