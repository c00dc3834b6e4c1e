"""What each figure of an evaluation is called, what it says, and how it is written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

Entry = dict[str, Any]
"""One evaluated point: model, sampler, NFE and so on, with its figures and their intervals."""


class Column(NamedTuple):
    """How tables show a figure; a share in [0, 1] is written in per cent."""

    label: str
    note: str = ""
    better: str = ""
    share: bool = False

    @property
    def head(self) -> str:
        """The label with its unit."""
        return f"{self.label}, %" if self.share else self.label


_LOWER, _HIGHER = "lower is better", "higher is better"
QUALITY = {
    "wasserstein2": Column("2-Wasserstein", "cost of optimal transport, in data units", _LOWER),
    "sliced_wasserstein2": Column(
        "sliced 2-Wasserstein", "the same of projections on random lines", _LOWER
    ),
    "frechet_distance": Column(
        "Fréchet distance", "between the normal distributions fitted to features", _LOWER
    ),
    "frechet_infinity": Column(
        "Fréchet, infinite", "Fréchet distance extrapolated to infinitely many samples", _LOWER
    ),
    "kernel_distance": Column(
        "kernel distance", "squared maximum mean discrepancy; its floor lies below 0", _LOWER
    ),
    "energy_distance": Column(
        "energy distance", "how much further samples lie from data than from one another", _LOWER
    ),
    "inception_score": Column(
        "Inception score", "how sure and how varied a classifier finds samples", _HIGHER
    ),
    "class_accuracy": Column(
        "class accuracy", "samples recognised as the class that was asked for", _HIGHER, True
    ),
    "precision": Column("precision", "samples that lie among the real ones", _HIGHER, True),
    "density": Column("density", "how densely real ones lie about samples, 1 for data", _HIGHER),
    "high_quality": Column("high quality", "samples close to a mode", _HIGHER, True),
}
OTHERS = {
    "recall": Column("recall", "real samples that lie among the generated", _HIGHER, True),
    "coverage": Column(
        "coverage", "real samples with a generated one in their neighbourhood", _HIGHER, True
    ),
    "modes_covered": Column("modes", "modes that samples are close to", _HIGHER),
    "mode_divergence": Column(
        "mode divergence", "from the true shares of modes to those of samples, nats", _LOWER
    ),
    "copying": Column(
        "copying",
        "how often a sample is nearer to the training data than a held-out one is",
        "50 % as held-out data, 100 % for copies",
        True,
    ),
    "nearest_ratio": Column(
        "nearest ratio",
        "distance to the nearest training sample, over that of held-out data",
        "1 as held-out data, 0 for copies",
    ),
    "straightness": Column("straightness", "how far the flow's paths bend, 0 for lines", _LOWER),
    "images_per_second": Column("samples/s", "throughput of sampling", _HIGHER),
    "peak_memory_mb": Column("memory, MB", "the most held while sampling", _LOWER),
}
DISTANCES = ("wasserstein2", "sliced_wasserstein2", "frechet_distance")


def column(name: str) -> Column:
    """A figure's column; one that is not known is shown under its own name."""
    known = QUALITY | OTHERS
    return known[name] if name in known else Column(name.replace("_", " "))


def has(entry: Entry, name: str) -> bool:
    """Whether the figure is there and finite."""
    return entry.get(name) is not None and is_finite(entry[name])


def is_finite(value: Any) -> bool:
    """Whether it is a number, neither infinite nor an integer beyond all floats."""
    usual = isinstance(value, int | float) and not isinstance(value, bool)
    return usual and abs(value) <= sys.float_info.max


def finite(entry: Mapping[Any, Any]) -> dict[str, float]:
    """The finite numbers of an entry, or of other values by name."""
    return {str(name): value for name, value in entry.items() if is_finite(value)}


def interval(entry: Entry, name: str) -> float | None:
    """The half width of a figure's 95 % interval; None where there is none."""
    name += "_interval"
    return float(entry[name]) if has(entry, name) else None


def main_distance(entries: list[Entry]) -> str | None:
    """The distance that samplers are ranked by: the one most entries have, None if none has one.

    Among equals the transport distances come first, which only points have: two moments, which
    the Fréchet distance sees, say little of points that no extractor has made near normal.
    """
    counts = {name: sum(has(entry, name) for entry in entries) for name in DISTANCES}
    best = max(DISTANCES, key=lambda name: counts[name])
    return best if counts[best] else None


def pareto_front(entries: list[Entry], figure: str) -> list[Entry]:
    """Entries that no other beats: best quality for their cost, and the reverse.

    One is beaten by another of no more NFE and no larger figure, with either of them smaller;
    equals do not beat one another.

    Args:
        entries: those without a finite figure are left out.
        figure: the name of one of which smaller is better.

    Returns:
        the entries in order of NFE, then as given.
    """
    front: list[Entry] = []
    ranked = sorted((e for e in entries if has(e, figure)), key=lambda e: (e["nfe"], e[figure]))
    for entry in ranked:
        last = front[-1] if front else None
        place = (entry["nfe"], entry[figure])
        if last is None or entry[figure] < last[figure] or place == (last["nfe"], last[figure]):
            front.append(entry)
    return front


def by_reference(entries: list[Entry]) -> dict[str, list[Entry]]:
    """Entries that may be compared: by the digest of what they are measured against."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.get("reference", ""), []).append(entry)
    return groups


def number(entry: Entry, name: str) -> str:
    """``12.3 ± 1.4``: two significant digits of the interval decide; empty where there is none."""
    if not has(entry, name):
        return ""
    scale = 100 if column(name).share else 1
    value, half = scale * entry[name], interval(entry, name)
    if half is None or half == 0:
        return _plain(value) + ("" if half is None else " ± 0")
    # An interval of rounding errors would ask for digits without end.
    decimals = min(_decimals(scale * half, 2), _decimals(value, 6))
    return f"{_fixed(value, decimals)} ± {_fixed(scale * half, decimals)}"


def _plain(value: float) -> str:
    """Four significant digits, whole numbers whole."""
    whole = float(value).is_integer()
    return _fixed(value, 0 if whole else max(0, _decimals(value, 4)))


def _decimals(value: float, digits: int) -> int:
    """Decimals that show so many significant digits; negative for tens and hundreds."""
    return digits - 1 - int(f"{value:.{digits - 1}e}".split("e")[1])


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}"  # + 0.0: no negative zero
