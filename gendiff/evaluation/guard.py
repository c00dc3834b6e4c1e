"""Watches samples during training for collapse and for copies of the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendiff.build import run_folder_of
from gendiff.errors import UserError
from gendiff.evaluation.points import SEED
from gendiff.evaluation.reference import Reference
from gendiff.evaluation.sight import Sight, measure
from gendiff.model import Model
from gendiff.ranks import Ranks
from gendiff.report.save import save_samples, training_picture
from gendiff.sections import RunConfig
from gendiff.seeding import key

SAMPLES = 256
"""Samples a look: enough to tell collapse."""
SHOWN = 64
"""Of them in a picture."""
METRICS = ("precision_recall", "copying")
COLLAPSE = 0.5
"""Share of the recall of real data below which samples have likely collapsed."""
COPYING = 0.5
"""Share of the held-out data's distance to the training data below which they are likely copies."""


class Guard:
    """Looks at the averaged model's samples a few times in training.

    Nothing of the training is touched: sampling has its own random numbers. Figures are logged as
    ``watch/recall``, ``watch/precision``, ``watch/nearest_ratio`` and ``watch/copying``; from half
    of the training on, what looks wrong is said aloud. A picture of some of them, the same ones in
    every look, goes to ``samples/training/``.

    Args:
        folder: of the stage.
        method: the method in training.
        say: prints a line.
    """

    def __init__(
        self,
        run: RunConfig,
        folder: Path,
        method: Any,
        device: torch.device,
        ranks: Ranks,
        say: Callable[[str], None],
    ) -> None:
        times = run.evaluation.watch_times if run.evaluation.steps and method.samplers else 0
        steps = {method.max_steps * (i + 1) // times for i in range(times)}
        self.steps = {step for step in steps if step > method.batches_done}
        self.model, self.folder, self.say = Model(run, method, method.speaker), folder, say
        if self.steps:  # now, as what is wrong with it should not end a training half-way
            self.reference = Reference(run, run_folder_of(folder), device, ranks)
            self.rows = some(self.reference.held_out)
            self.real = self._measure(self.reference.train.rows(some(self.reference.train)))
            self.told: set[str] = set()

    def look(self) -> dict[str, float]:
        """Figures to log if a look is due after this batch; empty otherwise."""
        method = self.model.method
        if method.batches_done not in self.steps:
            return {}
        labels = self.reference.held_out.labels[self.rows]
        seen = self.reference.look(self._draw(labels))
        if seen.broken:
            self._tell("samples that are not finite")
            return {}
        figures = self._measure(seen)
        if 2 * method.batches_done >= method.max_steps:
            self._judge(figures)
        return {f"watch/{name}": value for name, value in figures.items()}

    def _draw(self, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's share of the samples with these labels, in batches with them.

        All ranks draw equally many, some of them for nothing: calls of a network whose weights are
        shared out are everyone's.
        """
        ranks, n = self.reference.ranks, len(labels)
        (first, last), most = ranks.share(n), -(-n // ranks.world)
        begin = max(0, last - most)
        drawn = self.model.batches(
            begin,
            begin + most,
            self.model.default_steps,
            labels=labels[begin : begin + most] if self.model.conditional else None,
            seed=SEED,
        )
        for i, x in drawn:
            if ranks.first and i == 0:
                self._show(x, labels[: len(x)])
            rows = slice(max(first, i), min(last, i + len(x)))
            if rows.start < rows.stop:
                yield x[rows.start - i : rows.stop - i], labels[rows]

    def _show(self, x: Tensor, labels: Tensor) -> None:
        """A picture of the first samples, by class where they were asked for one."""
        x, step = x[:SHOWN].cpu(), self.model.method.batches_done
        x = x[labels[: len(x)].cpu().argsort(stable=True)] if self.model.conditional else x
        try:
            save_samples(x, training_picture(self.folder, step), classes=0)
        except UserError as error:  # a full disk, say: no reason to end a training
            self.say(f"  step {step}: no picture of samples: {error}")

    def _measure(self, generated: Sight) -> dict[str, float]:
        reference = self.reference
        real = reference.held_out.rows(self.rows)
        known = replace(reference.known, samples=min(len(real.labels), len(generated.labels)))
        return measure(METRICS, known, real, generated, reference.device)

    def _judge(self, figures: dict[str, float]) -> None:
        recall, real = figures.get("recall", 1.0), self.real.get("recall", 0.0)
        if recall < COLLAPSE * real:
            self._tell("the samples may have collapsed", f"recall {recall:.2f}, of data {real:.2f}")
        ratio = figures.get("nearest_ratio", 1.0)
        if ratio < COPYING:
            far = f"{ratio:.2f} times as far from the training data as held-out data are"
            self._tell("the samples may be copies", far)

    def _tell(self, what: str, why: str = "") -> None:
        """Say it, once."""
        if what not in self.told:
            step = self.model.method.batches_done
            self.say(f"  step {step}: {what}" + (f": {why}" if why else ""))
        self.told.add(what)


def some(sight: Sight) -> Tensor:
    """Indices of some samples, the same every time, whatever order the data are in."""
    generator = torch.Generator().manual_seed(key("guard"))
    return torch.randperm(len(sight.labels), generator=generator)[:SAMPLES]
