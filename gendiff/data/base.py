"""What a data set offers, and the loader whose batches are a function of (seed, stage, number)."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from gendiff.errors import UserError
from gendiff.seeding import key

Batch = dict[str, Tensor]

MOST_ROWS = 10**8
"""That a set which draws its rows is asked for: they are held in memory."""


@dataclass(frozen=True)
class DataConfig:
    name: str
    batch_size: int = 128
    """Samples in a global batch, over all processes and accumulated parts."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, known without loading anything."""
        raise TypeError(f"{type(self).__name__} does not say its shape")

    @property
    def classes(self) -> int:
        """Number of labels; 0 for unlabelled data."""
        return 0

    def check(self) -> None:
        """
        Raises:
            ValueError: a value is impossible; the message begins with the key.
        """


class Data(Protocol):
    """A data set's two halves. ``train`` is learned from; ``held_out`` only measures.

    A set whose truth is a Gaussian mixture may offer it as ``mixture``, with ``means`` (K, d) and
    ``stds`` (K,): evaluation then counts its modes. One whose labels are modes in themselves may
    offer their true shares as ``mode_weights`` (K,); an evaluator of K classes then counts them.
    """

    Config: ClassVar[type[Any]]
    train: Dataset[Batch]
    held_out: Dataset[Batch]


class Rows(Dataset[Batch]):
    """Tensors of equal length held in memory; rows come with their ``index``."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> Batch:
        return {name: column[index] for name, column in self.columns.items()} | {
            "index": torch.tensor(index)
        }

    def __getitems__(self, indices: list[int]) -> Batch:
        """A whole batch at once: the loader's fast way."""
        picked = torch.tensor(indices)
        return {name: column[picked] for name, column in self.columns.items()} | {"index": picked}


def collate(rows: Any) -> Batch:
    """Leave a batch that came whole; stack one that came as rows."""
    return rows if isinstance(rows, dict) else default_collate(rows)


class GlobalBatches(Sampler[list[int]]):
    """This rank's part of global batches ``first`` to ``last``, shuffled anew every epoch.

    Batch k holds positions k B to (k + 1) B of an endless sequence of permutations, each a
    function of (seed, stage, epoch); rank r takes the r-th slice.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        first: int,
        last: int,
        seed: int,
        stage: str,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.samples, self.batch_size, self.first, self.last = samples, batch_size, first, last
        self.seed, self.stage, self.rank = seed, stage, rank
        self.local = batch_size // world_size

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        orders: dict[int, Tensor] = {}
        for batch in range(self.first, self.last):
            begin = batch * self.batch_size + self.rank * self.local
            epochs = range(begin // self.samples, (begin + self.local - 1) // self.samples + 1)
            orders = {e: orders[e] if e in orders else self._order(e) for e in epochs}
            start = begin - epochs[0] * self.samples
            yield torch.cat([*orders.values()])[start : start + self.local].tolist()

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(key(self.seed, self.stage, "order", epoch))
        return torch.randperm(self.samples, generator=generator)


class Loader(DataLoader[Batch]):
    """PyTorch's loader, whose workers fail with the one line that a user is meant to see."""

    def __iter__(self) -> Any:
        try:
            yield from super().__iter__()
        except UserError as error:  # a worker's comes with its traceback before it
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None


def ignore_signals(worker: int) -> None:
    """A signal to all processes asks the main one to stop; it ends its workers when it is done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """What multiprocessing does next, but in a way that is not ignored: it waits for them."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


class DataModule(LightningDataModule):
    """Feeds a method the global batches it has not seen yet.

    Args:
        dataset: rows {x0, label, ...}.
        batch_size: global batch.
        workers: processes that read ahead; batches are the same with any number of them.

    The method being fitted says where to start (``batches_done``), where to stop (``max_steps``)
    and how to shuffle (``seed``, ``stage``); one pass of the loader is the whole run.
    """

    def __init__(self, dataset: Dataset[Batch], batch_size: int, workers: int = 0) -> None:
        super().__init__()
        self.dataset, self.batch_size, self.workers = dataset, batch_size, workers

    def train_dataloader(self) -> DataLoader[Batch]:
        if self.trainer is None:
            raise RuntimeError("a DataModule is read by a Trainer")
        method: Any = self.trainer.lightning_module
        sampler = GlobalBatches(
            len(self.dataset),  # type: ignore[arg-type]  # Dataset has no __len__ of its own
            self.batch_size,
            method.batches_done,
            method.max_steps,
            method.seed,
            method.stage,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return Loader(
            self.dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            worker_init_fn=ignore_signals,
        )
