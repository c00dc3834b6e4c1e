"""Every road on the 2-D mixture: distances, errors of the exact map, and a picture of each.

    python tools/mixture_roads.py [--dir runs/mixture_roads] [--docs docs]

Runs ``gendiff run mixture_roads`` (what is done already is kept) and measures how far samples lie
from where the exact probability flow takes the same noise: a student that was told to follow the
flow should land there, one that was told to match the distribution need not. Writes
``mixture_roads.md`` and, for methods that have a page, ``methods/<method>.png`` into the docs
folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import gendiff
from gendiff import cli, registry
from gendiff.model import Model
from gendiff.seeding import sample_noise

DRAWN, LINES, ROWS = 2000, 40, 2000
NFES = (1, 2, 4, 8)
FOLLOWING = ("ddim", "euler", "heun", "flow_map")
"""Samplers that add no noise on the way: only then is a sample a function of its noise."""


def exact_ends(model: Model, n: int) -> tuple[Tensor, Tensor]:
    """Noise that sampling begins with, (n, 2), and where the exact flow takes it."""
    path = model.method.path
    mixture = registry.lookup("data", "mixture")(model.run.data).mixture
    noise = sample_noise(0, 0, n, (2,), torch.device("cpu"))(-1)
    start = noise * path.sigma(torch.tensor(path.t_max))
    return noise, mixture.flow_map(path, start.double(), path.t_max, 0.0).float()


def map_error(model: Model, steps: int, sampler: str) -> float:
    """Mean distance of samples from the exact ends of the same noise."""
    ends = exact_ends(model, ROWS)[1]
    return float((model.sample(ROWS, steps, sampler=sampler) - ends).norm(dim=1).mean())


def table(run: Path) -> str:
    """2-Wasserstein distance and error of the map, by NFE."""
    heads = [f"{what}, {n}" for what in ("W2", "map") for n in NFES]
    lines = [
        "| road | " + " | ".join(heads) + " | straightness |",
        "|" + " --- |" * (2 + len(heads)),
    ]
    for folder in sorted(run.glob("*/evaluation.json"), key=lambda p: p.stat().st_mtime):
        points = json.loads(folder.read_text())
        model = gendiff.load(folder.parent)
        first = points[0]["sampler"]
        by_nfe = {p["nfe"]: p for p in points if p["sampler"] == first and p["nfe"] in NFES}
        if not by_nfe:
            continue
        cells = [f"{by_nfe[n]['wasserstein2']:.3f}" if n in by_nfe else "" for n in NFES]
        for n in NFES:
            steps = by_nfe[n]["steps"] if n in by_nfe else 0
            follows = steps == 1 or (steps and first in FOLLOWING)
            error = map_error(model, steps, first) if follows and n == steps else None
            cells.append("" if error is None else f"{error:.3f}")
        straight = points[0].get("straightness")
        cells.append("" if straight is None else f"{straight:.4f}")
        lines.append(f"| {folder.parent.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def picture(model: Model, steps: int, sampler: str, file: Path) -> None:
    """Samples beside the truth, and lines from some noise to the sample and to the exact end."""
    made = model.sample(DRAWN, steps, sampler=sampler)
    real = registry.lookup("data", "mixture")(model.run.data).held_out.columns["x0"][:DRAWN]
    noise, ends = exact_ends(model, LINES)
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharex=True, sharey=True)
    for panel, points, title in ((left, real, "data"), (middle, made, f"{steps} calls")):
        panel.scatter(*points.T, s=2, alpha=0.4, linewidths=0, color="#0072B2")
        panel.set_title(title if steps > 1 or title == "data" else "1 call")
    follows = steps == 1 or sampler in FOLLOWING
    for start, mine, exact in zip(noise, made[:LINES], ends, strict=True):
        right.plot(*torch.stack([start, mine]).T, color="#0072B2", linewidth=0.7)
        if follows:
            right.plot(*torch.stack([mine, exact]).T, color="#D55E00", linewidth=1.2)
    right.scatter(*noise.T, s=6, color="#999999")
    right.scatter(*made[:LINES].T, s=8, color="#0072B2")
    right.set_title("noise to sample" + ("; red: its error" if follows else ""))
    for panel in (left, middle, right):
        panel.set_aspect("equal")
        panel.set_xlim(-2.6, 2.6)
        panel.set_ylim(-2.4, 2.4)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("runs/mixture_roads"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    code = cli.main(["run", "mixture_roads", "--dir", str(args.dir)])
    if code:
        sys.exit(code)
    done: set[str] = set()
    for folder in sorted(args.dir.glob("*/evaluation.json"), key=lambda p: p.stat().st_mtime):
        model, points = gendiff.load(folder.parent), json.loads(folder.read_text())
        name = model.run.method.name
        if name not in done and (args.docs / "methods" / f"{name}.md").is_file():
            done.add(name)
            point = min(points, key=lambda p: p["wasserstein2"] if p["nfe"] <= 4 else 9)
            file = args.docs / "methods" / f"{name}.png"
            picture(model, point["steps"], point["sampler"], file)
    text = table(args.dir)
    (args.docs / "mixture_roads.md").write_text(HEAD + text)
    print(text)


HEAD = """# Every road on the mixture

`python tools/mixture_roads.py` trains and measures all of it. W2 is the 2-Wasserstein distance of
1,000 samples to held-out points by number of function evaluations (two sets of true points lie 0.09
apart); map is the mean distance of a sample from where the exact probability flow takes the same
noise (the data have a standard deviation of about 0.7). Straightness is S(Z) of Liu et al. 2023, in
units of the data's variance, 0 for straight lines.

"""


if __name__ == "__main__":
    main()
