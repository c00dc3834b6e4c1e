"""What the evaluation protocol's figures and intervals are worth, on the digits.

    python tools/protocol_checks.py runs/digits_fewstep [--repeats 40]

needs a finished `gendiff run digits_fewstep`. Two tables of ``docs/evaluation.md``, to standard
output: how often the intervals of a point cover the mean of many repeats of it, and what each
figure says of sets with a known fault.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

import gendiff
from gendiff.evaluation.entries import metrics_of
from gendiff.evaluation.intervals import leaving_out, over_draws
from gendiff.evaluation.reference import Reference
from gendiff.evaluation.sight import Sight

DRAWS = 5
FIGURES = (
    *("frechet_distance", "frechet_infinity", "kernel_distance", "inception_score"),
    *("class_accuracy", "precision", "recall", "density", "coverage", "nearest_ratio", "copying"),
)


def looked_at(reference: Reference, x: torch.Tensor) -> Sight:
    labels = reference.held_out.labels
    return reference.look(zip(x.split(500), labels.split(500), strict=True))


def coverage(model: Any, reference: Reference, names: list[str], repeats: int) -> None:
    """Share of intervals that hold the mean of all draws: of five draws, and of single ones."""
    labels = reference.held_out.labels
    sights = [
        looked_at(reference, model.sample(len(labels), 1, labels=labels, seed=7000 + i))
        for i in range(repeats * DRAWS)
    ]
    draws = [reference.measure(names, sight) for sight in sights]
    print("| figure | mean | five draws: ± | hold the mean | one draw: ± | hold the mean |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    single = [
        leaving_out(lambda i, x=x: reference.measure(names, x.rows(i), i), len(labels))
        for x in sights[:repeats]
    ]
    for name in FIGURES:
        values = [draw[name] for draw in draws]
        mean = statistics.fmean(values)
        fives = [draws[i : i + DRAWS] for i in range(0, len(draws), DRAWS)]
        widths = [over_draws(five)[name] for five in fives]
        centres = [statistics.fmean(d[name] for d in five) for five in fives]
        held = sum(abs(c - mean) <= w for c, w in zip(centres, widths, strict=True))
        alone = sum(abs(v - mean) <= s[name] for v, s in zip(values, single, strict=False))
        print(
            f"| {name} | {mean:.4g} | {statistics.fmean(widths):.2g} | {held}/{repeats} | "
            f"{statistics.fmean(s[name] for s in single):.2g} | {alone}/{repeats} |"
        )


def faults(model: Any, reference: Reference, names: list[str]) -> None:
    """Every figure of sets that copy, collapse, blur or are noisy."""
    labels, n = reference.held_out.labels, reference.samples
    x = model.sample(n, 16, labels=labels, seed=1)
    train = reference.dataset.train.columns
    # a training image of the class asked for, each as often as it comes
    order = torch.randperm(len(train["label"]), generator=torch.Generator().manual_seed(0))
    places = {int(c): [int(i) for i in order if train["label"][i] == c] for c in range(10)}
    copies = torch.stack(
        [train["x0"][places[int(c)][k % len(places[int(c)])]] for k, c in enumerate(labels)]
    )
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    sets = {
        "teacher, 16 steps": x,
        "training images": copies,
        "half of them copies": torch.where(
            (torch.arange(n) % 2 == 0)[:, None, None, None], copies, x
        ),
        "threes alone": model.sample(n, 16, labels=torch.full((n,), 3), seed=1),
        "no nines": model.sample(n, 16, labels=labels.clamp(max=8), seed=1),
        "noise of 0.1": x + 0.1 * noise,
        "noise of 0.3": x + 0.3 * noise,
        "teacher, 2 steps: blurred": model.sample(n, 2, labels=labels, seed=1),
    }
    floor = reference.floor(names, True)
    print(f"\n| set | {' | '.join(FIGURES)} |\n| --- |{' ---: |' * len(FIGURES)}")
    print(
        f"| real halves | {' | '.join(f'{floor[f]:.3g}' if f in floor else '' for f in FIGURES)} |"
    )
    for title, samples in sets.items():
        figures = reference.measure(names, looked_at(reference, samples))
        print(f"| {title} | {' | '.join(f'{figures[f]:.3g}' for f in FIGURES)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    model = gendiff.load(args.run / "teacher")
    reference = Reference(model.run, args.run)
    names = metrics_of(model.run)
    faults(model, reference, names)
    coverage(gendiff.load(args.run / "halve-1"), reference, names, args.repeats)


if __name__ == "__main__":
    main()
