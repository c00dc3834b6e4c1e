"""Quality against number of function evaluations, on one protocol for every model.

Each point: as many samples as the held-out half has, with its labels, drawn several times anew;
every figure is the mean over draws (and evaluator members) with a 95 % interval over draws.
The floor is the same distance between the two real halves.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student_t
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from gendiff import registry
from gendiff.build import Model, check_done, load_evaluator
from gendiff.metrics import (
    FrechetDistance,
    KernelDistance,
    energy_distance,
    modes_covered,
    wasserstein2,
)

SEED = 2**20
"""First sampling seed of evaluations, away from those a user is likely to look at."""


@dataclass(frozen=True)
class Point:
    """Where on the curve: a sampler, a number of steps, a guidance weight."""

    sampler: str
    steps: int
    guidance: float


class Reference:
    """The held-out half of a data set, seen through an evaluator.

    Args:
        data: a data config.
        evaluator: folder of a finished evaluator stage; None compares the data themselves.

    Attributes:
        digest: names what figures were computed against; only equal digests compare.
    """

    def __init__(self, data: Any, evaluator: Path | None) -> None:
        dataset = registry.lookup("data", data.name)(data)
        self.train: dict[str, Tensor] = dataset.train.columns
        self.real: dict[str, Tensor] = dataset.held_out.columns
        self.mixture = getattr(dataset, "mixture", None)
        self.evaluator = load_evaluator(evaluator) if evaluator else None
        self.digest = reference_digest(data, evaluator)
        self.features, _ = self.see(self.real["x0"])

    def see(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (n, members, F), and logits where there is an evaluator."""
        if self.evaluator is None:
            return x.flatten(1)[:, None], None
        seen = [self.evaluator.features(part) for part in x.split(1000)]
        return torch.cat([s[0] for s in seen]), torch.cat([s[1] for s in seen])

    def measure(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """All figures of one sample set."""
        features, logits = self.see(x)
        frechet = FrechetDistance(features.shape[-1], features.shape[1])
        kernel = KernelDistance()
        for metric in (frechet, kernel):
            metric.update(self.features, real=True)
            metric.update(features, real=False)
        figures = {"frechet_distance": float(frechet.compute())}
        if logits is not None:
            figures["kernel_distance"] = float(kernel.compute())
            accuracy = MulticlassAccuracy(logits.shape[-1], average="micro")
            accuracy.update(logits.mT, labels[:, None].expand(-1, logits.shape[1]))
            figures["class_accuracy"] = float(accuracy.compute())
        else:
            figures |= self.measure_points(x)
        return figures

    def measure_points(self, x: Tensor) -> dict[str, float]:
        """Figures of the data themselves: exact distances, and modes where these are known."""
        x, real = x.flatten(1), self.real["x0"].flatten(1)
        n = min(len(x), len(real))
        figures = {
            "wasserstein2": wasserstein2(x[:n], real[:n]),
            "energy_distance": energy_distance(x, real),
        }
        if self.mixture is not None:
            modes = modes_covered(x, self.mixture.means, self.mixture.stds)
            figures |= {"modes_covered": modes.covered, "high_quality": modes.high_quality}
        return figures

    def floor(self) -> dict[str, float]:
        """Real against real: the training half as if it were samples.

        The interval is that of the mean over the evaluator's members; the accuracy is that of
        the evaluator on the held-out half.
        """
        n = min(len(self.train["x0"]), len(self.features))
        x, labels = self.train["x0"][:n], self.train["label"][:n]
        features, _ = self.see(x)
        frechet = FrechetDistance(features.shape[-1], features.shape[1])
        frechet.update(self.features, real=True)
        frechet.update(features, real=False)
        members = frechet.compute_members().tolist()
        held_out = self.measure(self.real["x0"], self.real["label"])
        return {
            **self.measure(x, labels),
            **interval("frechet_distance", members),
            "class_accuracy": held_out["class_accuracy"],
        }


def reference_digest(data: Any, evaluator: Path | None) -> str:
    """Digest of the data's config and the evaluator's weights."""
    what = {"data": {**asdict(data), "batch_size": None}, "evaluator": None}
    if evaluator:
        what["evaluator"] = check_done(evaluator)["digests"]["weights/ema.safetensors"]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def evaluate_point(model: Model, reference: Reference, point: Point, draws: int) -> dict[str, Any]:
    """The entry of one point, but for the model's name and weights."""
    labels = reference.real["label"]
    figures, calls, seconds = [], 0, 0.0
    for draw in range(draws):
        begun, before = time.perf_counter(), model.nfe
        x = model.sample(
            len(labels),
            point.steps,
            sampler=point.sampler,
            labels=labels if model.conditional else None,
            guidance=point.guidance,
            seed=SEED + draw,
        )
        seconds += time.perf_counter() - begun
        calls += model.nfe - before
        figures.append(reference.measure(x, labels))
    batches = draws * math.ceil(len(labels) / model.batch)
    entry: dict[str, Any] = {
        "role": model.role,
        "sampler": point.sampler,
        "steps": point.steps,
        "nfe": calls // batches,
        "guidance": point.guidance,
        "samples": len(labels),
        "draws": draws,
    }
    for name in figures[0]:
        values = [f[name] for f in figures]
        entry[name] = statistics.fmean(values)
        entry |= interval(name, values)
    return {
        **entry,
        "images_per_second": round(draws * len(labels) / seconds, 1),
        "reference": reference.digest,
    }


def interval(name: str, values: list[float]) -> dict[str, float]:
    """Half the 95 % interval of the mean of a few independent values; nothing for a single one."""
    if len(values) < 2:
        return {}
    t = float(student_t.ppf(0.975, len(values) - 1))
    return {f"{name}_interval": t * statistics.stdev(values) / math.sqrt(len(values))}
