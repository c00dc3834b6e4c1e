"""The processes that share a run: who does what, and how all of them learn of it.

All ranks walk the same plan. What one of them alone should do, look at a folder or write a file,
the first one does; what came of it, a refusal as well, is then known to all, so that none is left
waiting for another that has gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, _set_pg_timeout
from torch.distributed.rendezvous import rendezvous
from torchmetrics.utilities.distributed import gather_all_tensors

from gendiff.errors import Interrupted, UserError
from gendiff.lost import losing
from gendiff.storage import Busy, lock

T = TypeVar("T")

START = timedelta(minutes=10)
"""How long processes wait for each other to come up."""
LEAVE = timedelta(minutes=1)
"""How long the others wait for the first rank to close its files and say why all stop."""
SECONDS = 0.5
"""For it to say so."""


@dataclass(frozen=True)
class Ranks:
    """This process among ``world``; alone by default."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Place on this node, which is the number of its GPU."""
    nodes: int = 1
    """Machines, each with as many processes as the others."""
    store: Any = field(default=None, repr=False, compare=False)
    """Where ranks can leave words for each other."""

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

    def any(self, asked: bool) -> bool:
        """Whether any rank asks for it."""
        return any(self.together(lambda: asked))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Means over the ranks, which all give the same keys; equal shares of a batch."""
        if self.world == 1 or not values:
            return values
        sums = torch.tensor([*values.values()], dtype=torch.float64)
        dist.all_reduce(sums)
        return dict(zip(values, (sums / self.world).tolist(), strict=True))

    def agree(self, value: Any) -> Any:
        """What the first rank says."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def decide(self, work: Callable[[], T]) -> T:
        """What a work gave that the first rank alone does.

        Raises:
            UserError, Interrupted: on all ranks, if it was raised on the first.
        """
        if self.world == 1:
            return work()
        gave, failed = None, None
        if self.first:
            try:
                gave = work()
            except (UserError, Interrupted) as error:
                failed = type(error), str(error)
        gave, failed = self.agree((gave, failed))
        if failed:
            raise for_all(*failed)
        return gave  # type: ignore[return-value]  # the first rank's

    def together(self, work: Callable[[], T]) -> list[T]:
        """What each rank's part of a work gave, in the order of ranks.

        Raises:
            UserError: on all ranks, if a part failed on one.
        """
        try:
            mine: tuple[Any, str] = (work(), "")
        except UserError as error:
            mine = (None, str(error))
        every = [mine] * self.world
        if self.world > 1:
            dist.all_gather_object(every, mine)
        for _, failed in every:
            if failed:
                raise for_all(UserError, failed)
        return [part for part, _ in every]

    def losing(self, what: str) -> AbstractContextManager[None]:
        """A block whose failing messages are told as `Lost`, with who is silent."""
        return losing(self.store, self.rank, self.world, what)

    @contextmanager
    def holding(self, folder: Path, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """The first rank's lock on a folder.

        Args:
            wait: called once if another run has it; then this one waits for it.

        Raises:
            Busy: another run has it, on all ranks.
        """
        with ExitStack() as stack:
            told = False
            while True:
                try:
                    self.decide(lambda: stack.enter_context(lock(folder)))
                    break
                except Busy:  # on all ranks: each look is one message between them
                    if not wait:
                        raise
                    if not told:
                        wait()
                    told = True
            yield


def for_all(kind: type[BaseException], text: str) -> BaseException:
    """An error that every rank raises."""
    error: Any = kind(text)
    error.shared = True
    return error


class Vote:
    """Which of some things any rank asks for, known to all after the same step.

    Asked after every step and answered one step later, as the message travels meanwhile; with one
    process the answer is its own. The message is a few numbers between CPUs: no GPU is waited for.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.sent: tuple[Tensor, Any] | None = None

    def __call__(self, *asked: bool) -> list[bool]:
        if self.ranks.world == 1:
            return [*asked]
        answer = [False] * len(asked)
        if self.sent:
            ballot, work = self.sent
            work.wait()
            answer = ballot.bool().tolist()
        ballot = torch.tensor(asked, dtype=torch.int32)
        self.sent = ballot, dist.all_reduce(ballot, dist.ReduceOp.MAX, async_op=True)
        return answer


def here(store: Any = None) -> Ranks:
    """This process among those of PyTorch's group, if there is one."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    world = dist.get_world_size()
    local, per_node = (int(os.environ.get(w, 0)) for w in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return Ranks(dist.get_rank(), world, local, world // (per_node or world), store)


def from_slurm() -> None:
    """Say in torchrun's words which process this is, if ``srun`` has started several.

    SLURM's own words are those of the job step: a script that ``sbatch`` runs is one process,
    however many tasks its job may start.
    """
    said = os.environ
    world = int(said.get("SLURM_STEP_NUM_TASKS", 1))
    if "WORLD_SIZE" in said or world == 1:
        return
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    slurm, nodes = SLURMEnvironment(auto_requeue=False), int(said["SLURM_STEP_NUM_NODES"])
    words = {
        "WORLD_SIZE": world,
        "RANK": said["SLURM_PROCID"],
        "LOCAL_RANK": said["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": world // nodes,
        "GROUP_RANK": said["SLURM_NODEID"],
        "MASTER_ADDR": slurm.resolve_root_node_address(said["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": slurm.main_port,
    }
    for word, value in words.items():
        said.setdefault(word, str(value))


def place() -> tuple[int, int]:
    """How many processes there are, and which of them this one is, in torchrun's words.

    Raises:
        UserError: one of them is missing, or no number.
    """
    said = os.environ
    world = said.get("WORLD_SIZE", "1")
    for word in ("WORLD_SIZE", "RANK", "MASTER_PORT", "MASTER_ADDR") if world != "1" else ():
        found = said.get(word, "missing")
        if not (found.isdecimal() or (word == "MASTER_ADDR" and word in said)):
            why = "torchrun and srun set all of WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT"
            raise UserError(f"{word} is {found}; {why}.")
    return (int(world), int(said["RANK"])) if world != "1" else (1, 0)


@contextmanager
def joined(minutes: float = 12 * 60) -> Iterator[Ranks]:
    """The ranks that torchrun or ``srun`` started, joined for as long as the block runs.

    Args:
        minutes: that one rank waits for another.

    Raises:
        Lost: another rank is missing or has gone.
        UserError: the environment has some of torchrun's words, not all.
    """
    from_slurm()
    world, rank = place()
    if world == 1:
        yield Ranks()
        return
    # what is said between processes travels by the CPU; gradients of GPUs by theirs
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    wait = timedelta(minutes=minutes)
    start = min(wait, START)
    with losing(None, rank, world, "start"):
        store, rank, world = next(rendezvous("env://", timeout=start))
        apart = PrefixStore("group", store)
        dist.init_process_group(backend, store=apart, rank=rank, world_size=world, timeout=start)
    getattr(dist, "set_timeout", _set_pg_timeout)(wait)  # public since PyTorch 2.15
    with losing(store, rank, world, "start"):
        dist.barrier()  # nobody leaves while others still connect
    try:
        with losing(store, rank, world, "between stages"):
            yield here(store)
    except (UserError, Interrupted) as error:
        if error.shared and rank:  # a launcher ends all when one has left
            with suppress(RuntimeError):
                store.wait(["left"], LEAVE)
                time.sleep(SECONDS)
        raise
    finally:
        if not rank:
            with suppress(RuntimeError):
                store.set("left", "")
        dist.destroy_process_group()
