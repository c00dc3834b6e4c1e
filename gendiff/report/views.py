"""What a page shows of a run folder: plain values, none of them trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gendiff.report.figures import Entry

Change = tuple[str, str, str]
"""A key, its value in the parent's config, and in the stage's own."""
Curve = list[tuple[float, float]]
"""Steps and values, in order."""


@dataclass(frozen=True)
class StageView:
    """One stage."""

    name: str
    state: str
    """done, running, half done, not begun, stale or damaged."""
    why: list[str] = field(default_factory=list)
    """What is wrong with it, or worth a word."""
    method: str = ""
    data: str = ""
    fingerprint: str = ""
    init: dict[str, str] = field(default_factory=dict)
    """Its role -> ``stage.role``."""
    parents: dict[str, str] = field(default_factory=dict)
    """Its role -> the stage that comes from."""
    gave: dict[str, str] = field(default_factory=dict)
    """Role or product -> short digest."""
    steps: int = 0
    total: int = 0
    """Steps it has taken and is to take."""
    batch: int = 0
    """Rows of a step; 0 if unknown."""
    config: str = ""
    """Text of ``config.yaml``."""
    parent: str = ""
    """The stage that ``changes`` are from."""
    changes: list[Change] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    """Column of ``metrics.csv`` -> its values."""
    pictures: list[Path] = field(default_factory=list)
    seconds: float | None = None
    sampling: float | None = None
    """Seconds of the training, and of drawing the samples of the evaluation."""
    processes: int | None = None
    device: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        """Whether it is to be named at the top of the page."""
        return self.state != "done" or bool(self.why)

    @property
    def speed(self) -> float | None:
        """Rows a second in training."""
        return self.steps * self.batch / self.seconds if self.seconds and self.batch else None


@dataclass(frozen=True)
class RunView:
    """A run folder."""

    title: str
    stages: list[StageView]
    """Each after its parents."""
    entries: list[Entry] = field(default_factory=list)
    """Points as `draw_curve` takes them."""
    floors: dict[str, Entry] = field(default_factory=dict)
    """What real data reach, by reference."""
    papers: list[tuple[Any, list[str]]] = field(default_factory=list)
    """Papers, with key, text and bibtex, and the stages that use each."""

    def environments(self) -> Iterator[tuple[dict[str, str], list[str]]]:
        """Each environment with the stages that began in it."""
        found: list[tuple[dict[str, str], list[str]]] = []
        for stage in self.stages:
            same = next((names for known, names in found if known == stage.environment), None)
            if same is None:
                found.append((stage.environment, same := []))
            same.append(stage.name)
        return iter(found)
