"""Real data as an extractor sees them, kept under a digest that every figure names."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gendiff import registry
from gendiff.build import check_done, load_evaluator
from gendiff.data.base import collate
from gendiff.errors import UserError, other_rows
from gendiff.evaluation.intervals import GROUPS, in_all, over_draws
from gendiff.evaluation.sight import Batches, Sight, look, measure
from gendiff.extractors import find_weights, make_extractor
from gendiff.extractors.points import Points
from gendiff.metrics.base import Known
from gendiff.ranks import Ranks
from gendiff.sections import RunConfig
from gendiff.seeding import key
from gendiff.storage import read_json, sha256, write_json
from gendiff.weights import read_tensors, save_tensors

PROTOCOL = 1
"""Raised when a metric or the protocol changes: older figures are then computed anew."""
PARTITIONS = 5
"""Random halves of the real data that the floor is a mean over."""
BATCH = 1000
"""Real samples looked at at a time."""
UNFLOORED = ("copying",)
"""Metrics that say nothing about real data against real data."""


class Reference:
    """The held-out half that samples are measured against, and the training half they came from.

    Opened from its folder, ``reference-<digest>``, or made and kept there.

    Args:
        run: says the data, the extractor, and how many samples.
        run_folder: where evaluator stages and references are.

    Attributes:
        digest: of data, preprocessing, extractor and counts; only figures of one digest compare.
        held_out: the first ``samples`` held-out rows.
        train: all rows of the training half.
        known: what metrics may know beforehand.

    Raises:
        UserError: fewer rows are held out than are to be compared, or the extractor is missing; or
            the data have other rows now than when it was made.
    """

    def __init__(
        self,
        run: RunConfig,
        run_folder: Path,
        device: torch.device | str = "cpu",
        ranks: Ranks | None = None,
    ) -> None:
        self.run, self.device, self.ranks = run, torch.device(device), ranks or Ranks()
        self.dataset = registry.lookup("data", run.data.name)(run.data)
        count = len(self.dataset.held_out)
        self.samples = run.evaluation.samples or count
        if self.samples > count:
            raise UserError(f"evaluation.samples: {self.samples}; {count} are held out.")
        if self.samples < self.ranks.world:
            raise UserError(
                f"{self.samples} samples do not split over {self.ranks.world} processes."
            )
        self.extractor = open_extractor(run, run_folder, self.device)
        self.of = describe(run, run_folder)
        self.digest = digest_of(self.of)
        self.folder = run_folder / f"reference-{self.digest}"
        halves = self._kept() or self._look()
        self.held_out, self.train = halves["held_out"], halves["train"]
        rows = len(self.train.labels), len(self.dataset.train)
        if rows[0] != rows[1]:
            raise other_rows(str(self.folder), *rows, f"or remove {self.folder}")
        features, logits = self.held_out.features, self.held_out.logits
        mixture = getattr(self.dataset, "mixture", None)
        self.known = Known(
            num_features=features.shape[2],
            members=features.shape[1],
            classes=0 if logits is None else logits.shape[2],
            asked=run.evaluation.stage is not None,
            samples=self.samples * (GROUPS - 1) // GROUPS,
            points=run.evaluation.extractor is None,
            modes=mixture and (mixture.means, mixture.stds, mixture.weights),
            mode_weights=getattr(self.dataset, "mode_weights", None),
            train=self.train.features,
        )

    def _kept(self) -> dict[str, Sight] | None:
        """The halves as they were kept, if their file is whole."""
        record, path = self.folder / "reference.json", self.folder / "features.safetensors"

        def whole() -> bool:
            there = record.is_file() and path.is_file()
            return there and sha256(path) == read_record(record).get("features")

        if not self.ranks.decide(whole):
            return None
        tensors = read_tensors(path)
        return {
            half: Sight(
                tensors[f"{half}.features"],
                tensors.get(f"{half}.logits"),
                tensors[f"{half}.labels"],
            )
            for half in ("held_out", "train")
        }

    def _look(self) -> dict[str, Sight]:
        """Both halves through the extractor, and into the folder."""
        halves = {
            "held_out": self.look(rows_of(self.dataset.held_out, self.samples, self.ranks)),
            "train": self.look(rows_of(self.dataset.train, None, self.ranks)),
        }
        tensors: dict[str, Tensor] = {}
        for half, sight in halves.items():
            tensors |= {f"{half}.features": sight.features, f"{half}.labels": sight.labels}
            if sight.logits is not None:
                tensors[f"{half}.logits"] = sight.logits
        if self.ranks.first:
            kept = save_tensors(tensors, self.folder / "features.safetensors")
            record = {"digest": self.digest, "of": self.of, "features": kept, "floors": {}}
            write_json(self.folder / "reference.json", record)
        return halves

    def look(self, batches: Batches) -> Sight:
        """What the extractor sees in this rank's batches, joined with the other ranks'."""
        return look(self.extractor, batches, self.device, self.ranks)

    def measure(
        self, names: Sequence[str], generated: Sight, rows: Any = slice(None)
    ) -> dict[str, float]:
        """Figures of generated samples against the held-out half, or these rows of it."""
        return measure(names, self.known, self.held_out.rows(rows), generated, self.device)

    def floor(self, names: Sequence[str], labelled: bool) -> dict[str, float]:
        """What real data reach against real data.

        The mean over random halves of all rows, as large as the held-out one (``samples``, less
        where there are too few rows). Halves mix the rows that an evaluator was trained on with
        those it was not. The intervals are over partitions of the same data: another data set may
        differ by more.

        Args:
            labelled: the halves are alike in their labels, as the samples of a model that is
                given labels are to the held-out half.
        """
        record = read_json(self.folder / "reference.json")
        asked = floor_key(names, labelled)
        if asked not in record["floors"]:
            rows = self.held_out.joined(self.train)
            useful = [name for name in names if name not in UNFLOORED]
            draws = []
            for number in range(PARTITIONS):
                labels = rows.labels if labelled else torch.zeros_like(rows.labels)
                one, other = halves_of(labels, self.samples, number)
                known = replace(self.known, samples=min(self.known.samples, len(other)))
                draws.append(measure(useful, known, rows.rows(one), rows.rows(other), self.device))
            means: dict[str, float] = {"samples": len(other)}
            means |= {name: statistics.fmean(values) for name, values in in_all(draws).items()}
            widths = {f"{name}_interval": half for name, half in over_draws(draws).items()}
            record["floors"][asked] = {**means, **widths}
            write_json(self.folder / "reference.json", record)
        return dict(record["floors"][asked])


def floor_key(names: Sequence[str], labelled: bool) -> str:
    """What a floor is kept under."""
    return " ".join([*names, *(["labelled"] if labelled else [])])


def read_record(path: Path) -> dict[str, Any]:
    """A reference's ``reference.json``; empty if it is damaged, as it is then made again."""
    try:
        record = read_json(path)
    except UserError:
        return {}
    whole = isinstance(record, dict) and isinstance(record.get("floors"), dict)
    return record if whole else {}


def halves_of(labels: Tensor, n: int, number: int) -> tuple[Tensor, Tensor]:
    """Indices of two disjoint random sets of n rows (or half of all), equal in their labels."""
    generator = torch.Generator().manual_seed(key("floor", number))
    order = torch.randperm(len(labels), generator=generator)[: 2 * n]
    order = order[labels[order].argsort(stable=True)]
    return order[0::2], order[1::2]


def rows_of(dataset: Any, count: int | None, ranks: Ranks) -> Batches:
    """This rank's share of a half's first rows, in batches (x0, label)."""
    first, last = ranks.share(count or len(dataset))
    sampler = [range(k, min(k + BATCH, last)) for k in range(first, last, BATCH)]
    for batch in DataLoader(dataset, batch_sampler=sampler, collate_fn=collate):  # type: ignore[arg-type]  # any iterable of lists does
        yield batch["x0"], batch["label"]


def open_extractor(run: RunConfig, run_folder: Path, device: torch.device) -> Any:
    """The extractor that a run's evaluation names: pretrained, a trained stage, or none."""
    asked = run.evaluation
    if asked.extractor is None:
        return Points()
    if asked.stage is None:
        return make_extractor(asked.extractor, asked.weights).to(device)
    return load_evaluator(run_folder / asked.stage).to(device).features


def describe(run: RunConfig, run_folder: Path) -> dict[str, Any]:
    """What a reference is made of, without making it."""
    asked, weights = run.evaluation, None
    if asked.stage:
        weights = check_done(run_folder / asked.stage)["digests"]["weights/ema.safetensors"]
    elif asked.extractor:
        weights = sha256(find_weights(asked.weights))
    return {
        "protocol": PROTOCOL,
        "data": {k: v for k, v in asdict(run.data).items() if k != "batch_size"},
        "extractor": {"name": asked.extractor, "weights": weights},
        "samples": asked.samples,
    }


def digest_of(what: dict[str, Any]) -> str:
    """The first 16 hex digits of its SHA-256."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
