"""What checkpoints, digests and determinism cost the digits teacher, a step.

    python tools/overhead.py [--steps 500]

Three processes train the same network on batches of 64, in turn, a step each: `gendiff run` as it
is; the same method in a plain Trainer, with PyTorch's own random numbers, no deterministic kernels,
checkpoints or logs; a loop by hand, with neither Lightning nor a method. Processor time, as
the machine may have other work, and the clock's for what checkpoints wait for the disk.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
import yaml
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from gendiff import averages, checkpoint, cli, train
from gendiff.build import build_method
from gendiff.config import compose
from gendiff.data.base import DataModule
from gendiff.data.digits import Digits
from gendiff.methods import base, update
from gendiff.optim import lr_factor, make_optimizer, set_lr

CONFIG = Path(__file__).parents[1] / "configs" / "digits_diffusion.yaml"
UNWATCHED = {"steps": [], "extractor": None, "watch_times": 0}
"""Evaluation, which is no part of this."""
WARM_UP = 10
"""Steps not counted."""


class Turns(Callback):
    """Waits before each step for the others to make theirs, and keeps what each took."""

    def __init__(self, me: int, ring: list[Any]) -> None:
        self.mine, self.next = ring[me], ring[(me + 1) % len(ring)]
        self.begun: float | None = None
        self.seconds: list[float] = []

    def between(self) -> None:
        """After a step, before the next."""
        if self.begun is not None:
            self.seconds.append(time.process_time() - self.begun)
            self.next.release()
        self.mine.acquire()
        self.begun = time.process_time()

    def on_train_batch_start(self, *_: Any) -> None:
        self.between()

    def on_train_end(self, *_: Any) -> None:
        self.next.release()


def as_it_is(turns: Turns, steps: int) -> dict[str, Any]:
    """`gendiff run`; also what its checkpoints took by the clock."""
    save, took = checkpoint.Checkpoints.save, []

    def timed(*what: Any) -> None:
        begun = time.perf_counter()
        save(*what)
        took.append(time.perf_counter() - begun)

    def with_turns(callbacks: list[Any], **settings: Any) -> Trainer:
        return Trainer(callbacks=[turns, *callbacks], **settings)

    checkpoint.Checkpoints.save = timed  # type: ignore[method-assign, assignment]  # in its place
    train.Trainer = with_turns  # type: ignore[attr-defined, assignment]  # in its place
    with tempfile.TemporaryDirectory() as folder:
        words = [f"trainer.max_steps={steps}", "evaluation.steps=[]", "evaluation.watch_times=0"]
        words.append("evaluation.extractor=null")
        cli.main(["run", str(CONFIG), "--dir", folder, *words])
    return {"checkpoints": took}


class PlainDraws:
    """PyTorch's own random numbers in place of `Draws`."""

    def __init__(self, parts: Any, first: int, count: int, *rest: Any) -> None:
        self.count = count

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape)


def the_method(steps: int) -> Any:
    text = yaml.safe_load(CONFIG.read_text())
    text["trainer"]["max_steps"], text["evaluation"] = steps, UNWATCHED
    return build_method(compose(text, "digits"))


def plain_trainer(turns: Turns, steps: int) -> dict[str, Any]:
    """The method without what makes its numbers those of any other run."""
    train.hush()
    update.Draws, base.reseed = PlainDraws, lambda *_: None  # type: ignore  # in its place
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[turns],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    trainer.fit(the_method(steps), DataModule(Digits(Digits.Config("digits")).train, 64))
    return {}


def by_hand(turns: Turns, steps: int) -> dict[str, Any]:
    """As one would write it for a single run."""
    method, columns = the_method(steps), Digits(Digits.Config("digits")).train.columns
    network, path, optim = method.networks["student"].train(), method.path, method.optim
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = make_optimizer(optim, network.parameters())
    for done in range(steps):
        turns.between()
        rows = torch.randint(len(columns["x0"]), (64,))
        x0, label = columns["x0"][rows], columns["label"][rows]
        eps, t = torch.randn_like(x0), torch.rand(64)
        label = label.masked_fill(torch.rand(64) < 0.1, 10)
        alpha, sigma = path.alpha(t), path.sigma(t)
        level = torch.atan2(sigma, alpha) * (2 / torch.pi)
        alpha, sigma = (x[:, None, None, None] for x in (alpha, sigma))
        output = network(alpha * x0 + sigma * eps, level, {"label": label})
        loss = (output - (alpha * eps - sigma * x0)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), optim.clip_norm)
        set_lr(optimizer, optim.lr * lr_factor(optim, done, steps))
        optimizer.step()
        optimizer.zero_grad()
        averages.update(average, network, optim.ema_decay)
    turns.on_train_end()
    return {}


RUNS: dict[str, Callable[[Turns, int], dict[str, Any]]] = {
    "gendiff run": as_it_is,
    "plain Trainer": plain_trainer,
    "loop by hand": by_hand,
}


def work(me: int, ring: list[Any], steps: int, found: Any) -> None:
    torch.set_num_threads(1)
    turns = Turns(me, ring)
    also = list(RUNS.values())[me](turns, steps + 1)
    found.put((me, {"seconds": turns.seconds, **also}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args().steps
    fork = mp.get_context("fork")
    ring, found = [fork.Semaphore(number == 0) for number in range(len(RUNS))], fork.Queue()
    begun = time.perf_counter()
    others = [fork.Process(target=work, args=(me, ring, steps, found)) for me in range(len(RUNS))]
    for process in others:
        process.start()
    results = dict(found.get() for _ in RUNS)
    wall = time.perf_counter() - begun
    ours = results[0]["seconds"][WARM_UP:]
    for me, name in enumerate(RUNS):
        theirs = results[me]["seconds"][WARM_UP:]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{name:13}  {1e3 * statistics.mean(theirs):.2f} ms a step, {len(theirs)} of them; "
            f"gendiff run takes {sum(ours) / sum(theirs):.4f} times as long in all, "
            f"{statistics.median(ratios):.4f} times by the median of pairs"
        )
    took = results[0]["checkpoints"]
    print(f"{len(took)} checkpoints: {1e3 * statistics.mean(took):.0f} ms each by the clock")
    print(f"{wall:.0f} s in all")


if __name__ == "__main__":
    main()
