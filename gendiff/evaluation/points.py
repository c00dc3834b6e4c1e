"""One point of the curve: its draws, their figures, and what they cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gendiff import registry
from gendiff.evaluation.cost import Memory
from gendiff.evaluation.intervals import in_all, leaving_out, over_draws
from gendiff.evaluation.reference import Reference
from gendiff.model import Model

SEED = 2**20
"""First sampling seed of evaluations, away from those a user is likely to look at."""


@dataclass(frozen=True)
class Point:
    """Where on the curve: whose weights, a sampler, a number of steps, a guidance weight."""

    role: str
    sampler: str
    steps: int
    guidance: float

    def __str__(self) -> str:
        guided = f", guidance {self.guidance:g}" if self.guidance else ""
        return f"{self.role}, {self.sampler}, {self.steps} steps{guided}"


def draw(
    model: Model, reference: Reference, point: Point, number: int, names: list[str], alone: bool
) -> dict[str, Any]:
    """One sample set's figures and cost; every rank draws its share, the first measures.

    Args:
        number: of the draw, which seeds it.
        names: of the metrics.
        alone: no other draw will give an interval, so this one is cut into tenths for it.
    """
    ranks, labels = reference.ranks, reference.held_out.labels
    if not model.conditional:  # then no class was asked for
        names = [n for n in names if registry.lookup("metrics", n).sees != "hits"]
    first, last = ranks.share(len(labels))
    calls, batches, seconds = model.nfe, 0, 0.0
    memory = Memory(reference.device)

    def sampled() -> Iterator[tuple[Tensor, Tensor]]:
        """Batches, with a clock that stops while they are looked at."""
        nonlocal batches, seconds
        begun = time.perf_counter()
        drawn = model.batches(
            first,
            last,
            point.steps,
            sampler=point.sampler,
            labels=labels[first:last] if model.conditional else None,
            guidance=point.guidance,
            seed=SEED + number,
        )
        for start, x in drawn:
            memory.look()
            batches, seconds = batches + 1, seconds + time.perf_counter() - begun
            yield x, labels[start : start + len(x)]
            memory.reset()
            begun = time.perf_counter()

    seen = reference.look(sampled())
    record: dict[str, Any] = {
        "nfe": (model.nfe - calls) // batches,
        "device": reference.device.type,
        "processes": ranks.world,
        "seconds": round(seconds, 4),
        "peak_memory_mb": memory.peak_mb,
    }
    if ranks.first and seen.broken:
        record |= {"broken": seen.broken, "figures": {}}
    elif ranks.first:
        record["figures"] = reference.measure(names, seen)
        if alone:
            record["intervals"] = leaving_out(
                lambda rows: reference.measure(names, seen.rows(rows), rows), len(labels)
            )
    return record


def summarise(point: Point, draws: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """The entry of a point from its draws: means, intervals, cost; ``each`` keeps the draws."""
    figures = [one["figures"] for one in draws if "broken" not in one]
    entry: dict[str, Any] = {
        "role": point.role,
        "sampler": point.sampler,
        "steps": point.steps,
        "nfe": draws[0]["nfe"],
        "guidance": point.guidance,
        "samples": samples,
        "draws": len(draws),
    }
    if len(figures) < len(draws):  # one draw that failed spoils the point
        entry["broken"] = sum(one.get("broken", 0) for one in draws)
        figures = []
    widths = over_draws(figures) or draws[0].get("intervals", {})
    for name, values in in_all(figures).items() if figures else ():
        entry[name] = statistics.fmean(values)
        if name in widths:
            entry[f"{name}_interval"] = widths[name]
    where = [(one["device"], one["processes"]) for one in draws]
    alike = [one for one, here in zip(draws, where, strict=True) if here == where[-1]]
    seconds = sum(one["seconds"] for one in alike)
    entry["images_per_second"] = round(len(alike) * samples / max(seconds, 1e-9), 1)
    peaks = [one["peak_memory_mb"] for one in alike if one["peak_memory_mb"] is not None]
    if peaks:
        entry["peak_memory_mb"] = max(peaks)
    return {**entry, "each": draws}
