"""Watches samples during training for collapse and for copies of the training data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gendiff.config import RunConfig
from gendiff.evaluation.points import SEED
from gendiff.evaluation.reference import Reference
from gendiff.evaluation.sight import Sight, measure
from gendiff.model import Model

SAMPLES = 256
"""Samples a look: enough to tell collapse, cheap beside the batches between two looks."""
METRICS = ("precision_recall", "copying")
COLLAPSE = 0.5
"""Share of the recall of real data below which samples have likely collapsed."""
COPYING = 0.5
"""Share of the held-out data's distance to the training data below which they are likely copies."""


class Guard:
    """Looks at the averaged model's samples a few times in training.

    Nothing of the training is touched: sampling has its own random numbers. Figures are logged as
    ``watch/recall``, ``watch/precision``, ``watch/nearest_ratio`` and ``watch/copying``; from half
    of the training on, what looks wrong is said aloud.

    Args:
        method: the method in training.
        say: prints a line.
    """

    def __init__(
        self,
        run: RunConfig,
        run_folder: Path,
        method: Any,
        device: torch.device,
        say: Callable[[str], None],
    ) -> None:
        times = run.evaluation.watch_times if run.evaluation.steps and method.samplers else 0
        steps = {method.max_steps * (i + 1) // times for i in range(times)}
        self.steps = {step for step in steps if step > method.batches_done}
        self.model, self.say = Model(run, method, method.speaker), say
        if self.steps:  # now, as what is wrong with it should not end a training half-way
            self.reference = Reference(run, run_folder, device)
            self.real = self._measure(self.reference.train.rows(slice(SAMPLES)))

    def look(self) -> dict[str, float]:
        """Figures to log if a look is due after this batch; empty otherwise."""
        method = self.model.method
        if method.batches_done not in self.steps:
            return {}
        real, rows = self.reference.held_out, slice(SAMPLES)
        labels = real.labels[rows]
        drawn = self.model.batches(
            0,
            len(labels),
            self.model.default_steps,
            labels=labels if self.model.conditional else None,
            seed=SEED,
        )
        seen = self.reference.look((x, labels[first : first + len(x)]) for first, x in drawn)
        figures = self._measure(seen)
        if 2 * method.batches_done >= method.max_steps:
            self._judge(figures)
        return {f"watch/{name}": value for name, value in figures.items()}

    def _measure(self, generated: Sight) -> dict[str, float]:
        reference = self.reference
        real = reference.held_out.rows(slice(SAMPLES))
        return measure(METRICS, reference.known, real, generated, reference.device)

    def _judge(self, figures: dict[str, float]) -> None:
        recall, real, ratio = figures["recall"], self.real["recall"], figures["nearest_ratio"]
        step = self.model.method.batches_done
        if recall < COLLAPSE * real:
            self.say(
                f"  step {step}: recall {recall:.2f}, where real data have {real:.2f}: "
                f"the samples may have collapsed"
            )
        if ratio < COPYING:
            self.say(
                f"  step {step}: samples lie {ratio:.2f} times as far from the training data as "
                f"held-out data do: they may be copies"
            )
