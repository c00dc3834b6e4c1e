"""What sharing a network out saves of memory and costs of time: fsdp beside ddp, in one run.

    torchrun --nproc-per-node 2 tools/sharding.py [--width 256] [--depth 8] [--batch 16]
        [--steps 12] [--precision fp32] [--gpu]

Trains a DiT on noise by either strategy, from the same start on the same batches. Says what each
rank holds between steps (weights, averages, moments), on GPUs also the most that it had taken, and
the median time of a step; then how far the losses are apart. Ends with code 1 if that is more than
rounding, or if a rank holds no less.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import sys
import time
import warnings
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from gendiff.data.base import DataModule, Rows
from gendiff.methods.diffusion import Diffusion, DiffusionConfig
from gendiff.networks.dit import DiT, DiTConfig
from gendiff.optim import OptimConfig
from gendiff.ranks import Ranks, joined
from gendiff.sharding import Sharded, mine

SHAPE = (4, 32, 32)
WARM_UP = 2
"""Steps that are not timed."""
APART = {"fp32": 1e-5, "bf16": 2e-2}
"""Relative difference of losses that rounding explains."""


@dataclass
class Meter(Callback):
    """Losses, seconds and memory of this rank, over all steps."""

    losses: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    held: int = 0

    def on_train_batch_end(self, trainer: Any, method: Any, *rest: Any) -> None:
        self.losses.append(float(method.losses["loss"]))  # waits for the device
        self.ends.append(time.perf_counter())
        moments = [v for s in trainer.optimizers[0].state.values() for v in s.values()]
        tensors = [*method.networks.parameters(), *method.averaged.parameters(), *moments]
        self.held = sum(mine(t).nbytes for t in tensors)

    @property
    def step(self) -> float:
        """Median seconds."""
        ends = self.ends[WARM_UP:]
        return statistics.median(b - a for a, b in pairwise(ends))


def train(strategy: Any, asked: argparse.Namespace, ranks: Ranks) -> tuple[Meter, float]:
    """A training on shares or whole networks: its figures, and the most GPU memory, bytes."""
    torch.manual_seed(0)
    config = DiTConfig(width=asked.width, depth=asked.depth, heads=asked.width // 64)
    settings = {"shape": SHAPE, "max_steps": asked.steps}
    network = {"student": DiT(config, SHAPE, SHAPE[0])}
    optim = OptimConfig(lr=1e-4)
    method = Diffusion(DiffusionConfig(), network, optim=optim, **settings)
    rows = Rows(x0=torch.randn(64, *SHAPE), label=torch.zeros(64, dtype=torch.int64))
    meter = Meter()
    if asked.gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(
        accelerator="gpu" if asked.gpu else "cpu",
        devices=ranks.world // ranks.nodes,
        num_nodes=ranks.nodes,
        strategy=strategy,
        plugins=[TorchElasticEnvironment()],
        precision="bf16-mixed" if asked.precision == "bf16" else "32-true",
        max_epochs=1,
        callbacks=[meter],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(method, DataModule(rows, asked.batch))
    return meter, torch.cuda.max_memory_allocated() if asked.gpu else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, size in {"width": 256, "depth": 8, "batch": 16, "steps": 12}.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--precision", choices=[*APART], default="fp32")
    parser.add_argument("--gpu", action="store_true")
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    found: dict[str, Meter] = {}
    with joined(minutes=10) as ranks:
        if ranks.world == 1:
            parser.error("one process has nothing to share; see the torchrun line above")
        if asked.gpu:
            torch.cuda.set_device(ranks.local)
        for name, kind in {"ddp": DDPStrategy, "fsdp": Sharded}.items():
            meter, peak = train(kind(), asked, ranks)
            gc.collect()
            found[name] = meter
            meter.losses = [*ranks.mean(dict(enumerate(meter.losses))).values()]
            every = ranks.together(lambda m=meter, p=peak: (m.held / 1e6, p / 1e6, m.step))
            if ranks.first:
                for rank, (held, most, step) in enumerate(every):
                    took = f", {most:.0f} MB at most" if asked.gpu else ""
                    words = f"holds {held:.1f} MB{took}, {1000 * step:.0f} ms a step"
                    print(f"{name:5} rank {rank}: {words}")
        pairs = zip(found["ddp"].losses, found["fsdp"].losses, strict=True)
        apart = max(abs(a - b) / abs(a) for a, b in pairs)
        if ranks.first:
            print(f"losses over {asked.steps} steps differ by {apart:.1e} at most, relatively")
        less = all(ranks.together(lambda: found["fsdp"].held < found["ddp"].held))
    return 0 if apart < APART[asked.precision] and less else 1


if __name__ == "__main__":
    sys.exit(main())
