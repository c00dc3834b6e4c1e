"""Every sampler on the digits teacher: Fréchet distance against NFE, and other paths' grids.

    python tools/digits_samplers.py runs/digits_fewstep [--docs docs] [--draws 3]

needs a finished `gendiff run digits_fewstep` (its teacher and its evaluator). Figures are kept in
``<run>/samplers.json`` as they are computed, so the program can be stopped and started again.
Writes ``samplers.png`` into the docs folder and the tables of ``docs/samplers.md`` to standard
output.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import gendiff
from gendiff.evaluation.points import Point, draw, summarise
from gendiff.evaluation.reference import Reference
from gendiff.sampling import Rehearsal
from gendiff.storage import write_json

NFES = (4, 8, 16, 32, 64)
PANELS = {
    "one call a step": ["ddim", "euler", "ddim@quadratic"],
    "Runge-Kutta": ["heun", "heun@edm", "midpoint", "rk45"],
    "exponential integrators": [
        "dpm_solver(order=2)",
        "dpm_solver(order=3)",
        "dpm_solver(order=2,multi=true)",
        "dpm_solver(order=3,multi=true)",
        "dpmpp_2s",
        "dpmpp_2m",
        "dpmpp_2m@log_snr",
    ],
    "with noise": [
        "ancestral",
        "ancestral(variance=large)",
        "ddim(eta=0.5)",
        "heun(churn=10)@edm",
        "dpmpp_2m_sde",
        "predictor_corrector",
        "langevin(walks=3)@log_snr",
    ],
}
ELSEWHERE = [
    ("heun", 16),
    *((f"heun@{path}", 16) for path in ("linear", "vp", "trig", "ve", "edm")),
    ("dpmpp_2m", 32),
    *((f"dpmpp_2m@{path}", 32) for path in ("linear", "vp", "ve", "edm", "discrete_linear")),
]
"""Near-exact runs of one model along several paths: (sampler, steps)."""
TOLERANCES = (0.3, 0.1, 0.03, 0.01, 0.001)
"""Of rk45, which takes as many calls as it needs."""


class Counting(Rehearsal):
    """Counts its calls."""

    calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return super().__call__(*args)


def most_steps(model: Any, sampler: str, nfe: int) -> int | None:
    """The most steps that cost at most so many calls; None if one costs more."""
    best = None
    for steps in range(1, nfe + 1):
        sampling = model.method.sampling(model.run.method, model.method.path, sampler, steps)
        counting = Counting(sampling.path or model.method.path)
        sampling.run(counting, torch.zeros(1, 1), steps)
        if counting.calls > nfe:
            break
        best = steps
    return best


def asked(model: Any) -> list[tuple[str, int]]:
    """All (sampler, steps) to evaluate."""
    points = list(ELSEWHERE)
    for sampler in [s for names in PANELS.values() for s in names]:
        if sampler == "rk45":
            points += [(f"rk45(rtol={tol},atol={tol})", 1) for tol in TOLERANCES]
        else:
            steps = (most_steps(model, sampler, nfe) for nfe in NFES)
            points += [(sampler, count) for count in steps if count]
    return list(dict.fromkeys(points))


def evaluate(run: Path, draws: int) -> list[dict[str, Any]]:
    """An entry a point."""
    kept = run / "samplers.json"
    entries = json.loads(kept.read_text()) if kept.is_file() else []
    model = gendiff.load(run / "teacher")
    reference, names = Reference(model.run, run), ["frechet_distance", "kernel_distance"]
    points = asked(model)
    for number, (sampler, steps) in enumerate(points):
        if any((e["sampler"], e["steps"], e["draws"]) == (sampler, steps, draws) for e in entries):
            continue
        point = Point("ema", sampler, steps, 0.0)
        drawn = [draw(model, reference, point, i, names, draws == 1) for i in range(draws)]
        entry = summarise(point, drawn, reference.samples)
        print(f"{number + 1}/{len(points)}", sampler, steps, entry["frechet_distance"], flush=True)
        entries.append(entry)
        write_json(kept, entries)
    return [e for e in entries if (e["sampler"], e["steps"]) in points]


def shown(entry: dict[str, Any]) -> str:
    return f"{entry['frechet_distance']:.2f} ± {entry['frechet_distance_interval']:.2f}"


def family(entries: list[dict[str, Any]], sampler: str) -> list[dict[str, Any]]:
    """A sampler's entries by NFE."""
    mine = [
        e for e in entries if e["sampler"] == sampler or e["sampler"].startswith(f"{sampler}(r")
    ]
    return sorted(mine, key=lambda e: e["nfe"])


def tables(entries: list[dict[str, Any]]) -> None:
    """Both tables, in Markdown."""
    print("| sampler | " + " | ".join(f"NFE ≤ {n}" for n in NFES) + " |")
    print("| --- |" + " --- |" * len(NFES))
    for sampler in [s for names in PANELS.values() for s in names]:
        cells = []
        for low, high in zip((0, *NFES), NFES, strict=False):
            inside = [e for e in family(entries, sampler) if low < e["nfe"] <= high]
            last = inside[-1:] if inside else []
            cells += [f"{shown(e)} ({e['nfe']})" for e in last] or [""]
        print(f"| `{sampler}` | " + " | ".join(cells) + " |")
    print("\n| sampler@path | steps | NFE | Fréchet distance | kernel distance |")
    print("| --- | --- | --- | --- | --- |")
    for sampler, steps in ELSEWHERE:
        e = next(e for e in entries if (e["sampler"], e["steps"]) == (sampler, steps))
        kernel = f"{e['kernel_distance']:.2f} ± {e['kernel_distance_interval']:.2f}"
        print(f"| `{sampler}` | {steps} | {e['nfe']} | {shown(e)} | {kernel} |")


def picture(entries: list[dict[str, Any]], path: Path) -> None:
    """A panel a family of samplers, all with the same axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flatten()
    for panel, (title, names) in zip(panels, PANELS.items(), strict=True):
        for sampler, marker in zip(names, "osD^vPX", strict=False):
            line = family(entries, sampler)
            panel.errorbar(
                [e["nfe"] for e in line],
                [e["frechet_distance"] for e in line],
                [e["frechet_distance_interval"] for e in line],
                marker=marker,
                markersize=4,
                linewidth=1.2,
                capsize=2,
                label=sampler,
            )
        panel.set_title(title, fontsize=11)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(NFES, [str(n) for n in NFES])
        panel.set_ylim(2.5, 120)
        panel.set_yticks([3, 5, 10, 20, 50, 100], ["3", "5", "10", "20", "50", "100"])
        panel.grid(True, color="0.92", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    for panel in panels[2:]:
        panel.set_xlabel("function evaluations per sample (NFE)")
    for panel in panels[::2]:
        panel.set_ylabel("Fréchet distance")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    entries = evaluate(args.run, args.draws)
    tables(entries)
    picture(entries, args.docs / "samplers.png")


if __name__ == "__main__":
    main()
