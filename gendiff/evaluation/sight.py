"""Samples as metrics look at them: features, logits, and the labels that were asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendiff import registry
from gendiff.errors import UserError
from gendiff.metrics.base import Known
from gendiff.ranks import Ranks

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sight:
    """Attributes: features (n, M, F); logits (n, M, C) or None; labels (n,)."""

    features: Tensor
    logits: Tensor | None
    labels: Tensor

    @property
    def broken(self) -> int:
        """Samples whose features are not finite."""
        return int((~self.features.isfinite().flatten(1).all(1)).sum())

    @property
    def hits(self) -> Tensor | None:
        """Whether each extractor sees the class that was asked for, (n, M)."""
        return None if self.logits is None else self.logits.argmax(-1) == self.labels[:, None]

    def rows(self, index: Any) -> Sight:
        """Some of the samples."""
        logits = None if self.logits is None else self.logits[index]
        return Sight(self.features[index], logits, self.labels[index])

    def joined(self, other: Sight) -> Sight:
        """These samples, and then others."""
        logits = None
        if self.logits is not None and other.logits is not None:
            logits = torch.cat([self.logits, other.logits])
        return Sight(
            torch.cat([self.features, other.features]),
            logits,
            torch.cat([self.labels, other.labels]),
        )


def look(extractor: Any, batches: Batches, device: torch.device, ranks: Ranks) -> Sight:
    """What an extractor sees in this rank's batches (x, labels), joined with all other ranks'.

    Only features are kept, so that samples need not fit into memory.
    """
    seen: dict[str, list[Tensor]] = {"features": [], "logits": [], "labels": []}
    for x, labels in batches:
        features, logits = extractor(x.to(device))
        for name, part in (("features", features), ("logits", logits), ("labels", labels)):
            if part is not None:
                seen[name].append(part.cpu())
    rows = {name: ranks.gather(torch.cat(parts)) for name, parts in seen.items() if parts}
    return Sight(rows["features"], rows.get("logits"), rows["labels"])


def alone() -> bool:
    """What a metric asks before it waits for other ranks: all rows are here already."""
    return False


def measure(
    names: Iterable[str], known: Known, real: Sight, generated: Sight, device: torch.device
) -> dict[str, float]:
    """Finite figures of generated samples against real ones, by the named metrics that apply."""
    figures: dict[str, float] = {}
    for name in names:
        metric = registry.lookup("metrics", name).of(known)
        if metric is None or known.samples < metric.least:
            continue
        metric.distributed_available_fn = alone
        metric.to(device)
        for sight, is_real in ((real, True), (generated, False)):
            metric.update(getattr(sight, metric.sees).to(device), real=is_real)
        value = metric.compute()
        if not (isinstance(value, dict) or getattr(metric, "figures", None)):
            raise UserError(
                f"evaluation.metrics: {name}: its class lacks figures, a tuple of names."
            )
        values = value if isinstance(value, dict) else {metric.figures[0]: value}
        numbers = {key: float(number) for key, number in values.items()}
        figures |= {key: number for key, number in numbers.items() if math.isfinite(number)}
    return figures
