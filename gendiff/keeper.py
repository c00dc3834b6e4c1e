"""After each global batch of a stage: what is reported, checkpointed, and stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Container, Mapping
from typing import Any

from lightning.pytorch import Callback, Trainer

from gendiff.checkpoint import Checkpoints
from gendiff.errors import Interrupted, UserError
from gendiff.evaluation.guard import Guard
from gendiff.methods.base import Method
from gendiff.methods.levels import level_means, level_sums
from gendiff.methods.update import HELP, skipping
from gendiff.progress import Task
from gendiff.ranks import Ranks, Vote, for_all
from gendiff.sections import RunConfig
from gendiff.sharding import gathered, mine, restore
from gendiff.signals import Stop
from gendiff.tracking import Tracker


class Keeper(Callback):
    """After each global batch: report, checkpoint when due, stop when asked."""

    def __init__(
        self,
        run: RunConfig,
        checkpoints: Checkpoints,
        state: dict[str, Any] | None,
        trackers: list[Tracker],
        task: Task,
        stop: Stop,
        guard: Guard,
        ranks: Ranks,
    ) -> None:
        self.run, self.checkpoints, self.state = run, checkpoints, state
        self.trackers, self.task, self.stop, self.guard = trackers, task, stop, guard
        self.ranks, self.vote = ranks, Vote(ranks)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        saved = self.state["optimizers"] if self.state else []
        self.before = seconds_of(self.state) if self.state else 0.0
        for optimizer, state in zip(trainer.optimizers, saved, strict=False):
            restore(optimizer, state)
        self.state = None  # its tensors are the optimizer's now
        self.told = int(pl_module.skipped[:, 1].sum())
        self.saved = self.begun = time.monotonic()
        self.stop.patient = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = pl_module.batches_done
        last = done == pl_module.max_steps
        # looked at once: a signal can come between two looks
        asked, due = self.vote(self.stop.asked, self.ranks.first and self.late())
        save = done % self.run.trainer.checkpoint_steps == 0 or last or asked or due
        watched = self.guard.look()
        row = done % self.run.logging.every_steps == 0 or save
        if watched and not row:  # no losses of a few steps among those of many
            self.ranks.decide(lambda: self.tell(watched, done))
        if row:
            losses = self.ranks.mean({k: float(v) for k, v in pl_module.losses.items()})
            limit = self.run.trainer.skip_limit
            skipped = self.ranks.decide(lambda: skipping(pl_module, limit))
            save = save and (last or not skipped)  # the weights may be why
            losses = self.ranks.together(lambda: finite(losses, pl_module, skipped, save))[0]
            self.task.loss = losses.get(next(iter(pl_module.losses)), self.task.loss)
            levels = self.levels(pl_module)
            logged = {**losses, **levels, **watched, **self.count_skipped(pl_module)}
            self.ranks.decide(lambda: self.tell(logged, done))
        self.task.update(done, self.run.data.batch_size, self.task.loss)
        if save:
            optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
            state = {"state": pl_module.state_dict(), "optimizers": optimizers}
            state = gathered(state, keep=self.ranks.first)
            data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by fit
            state = {"batches_done": done, "rows": len(data.dataset), **state}
            state["seconds"] = self.seconds()
            self.ranks.decide(lambda: self.checkpoints.save(state, done))
            self.saved = time.monotonic()
        if asked and not last:
            raise for_all(Interrupted, f"stopped at step {done} of {pl_module.max_steps}")

    def tell(self, logged: dict[str, float], step: int) -> None:
        """Tell all that take losses."""
        for tracker in self.trackers:
            tracker.log(logged, step)

    def seconds(self) -> float | None:
        """That the steps done took, those of resumed runs as well; None if those are unknown."""
        return None if self.before is None else self.before + time.monotonic() - self.begun

    def levels(self, method: Method) -> dict[str, float]:
        """Losses by noise level, over all ranks."""
        role = f"{method.learning[0]}/" if len(method.learning) > 1 else ""
        means = level_means(self.ranks.mean(level_sums(method)))
        return {f"{role}loss/{level}": mean for level, mean in means.items()}

    def late(self) -> bool:
        """Whether the last checkpoint is older than it may be."""
        return time.monotonic() - self.saved > 60 * self.run.trainer.checkpoint_minutes

    def count_skipped(self, method: Method) -> dict[str, float]:
        """What to log of skipped updates, if any; says so when they are more than before."""
        counts = dict(zip(method.learning, method.skipped[:, 1].tolist(), strict=True))
        total = sum(counts.values())
        if total > self.told:
            self.told, step = total, method.batches_done
            each = ", ".join(f"{role} {count}" for role, count in counts.items() if count)
            self.task.reporter.say(f"  step {step}: updates skipped so far, not finite: {each}")
        return {"skipped": total} if total else {}


def seconds_of(state: Mapping[str, Any]) -> float | None:
    """What the steps of a checkpoint took; None where that is not recorded."""
    seconds = state.get("seconds")
    return seconds if isinstance(seconds, float) and math.isfinite(seconds) else None


def finite(
    losses: dict[str, float], method: Method, skipped: Container[str], weights_too: bool
) -> dict[str, float]:
    """Losses, less those not finite of roles whose update was skipped.

    Raises:
        UserError: another one, or a weight about to be saved, is not finite.
    """
    wrong = [name for name, value in losses.items() if not math.isfinite(value)]
    told = [n for n in wrong if (n.rpartition("/")[0] or method.learning[0]) in skipped]
    bad = [f"{name} is {losses[name]}" for name in wrong if name not in told]
    if weights_too and not bad:
        named = method.networks.named_parameters()
        bad = [f"{name} is not finite" for name, p in named if not mine(p).isfinite().all()]
    if bad:
        raise UserError(f"{method.stage}: {bad[0]} at step {method.batches_done}; {HELP}")
    return {name: value for name, value in losses.items() if name not in wrong}
