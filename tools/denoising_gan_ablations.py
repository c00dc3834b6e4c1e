"""What each part of a denoising GAN is worth: the paper's ablations on 25 Gaussians.

    python tools/denoising_gan_ablations.py [--seeds 3] [--steps 3000] [--dir runs/ablations]

Every variant is the shipped config with one change, trained with every seed. Stopped and started
again, it continues. Writes the table of ``docs/denoising_gan.md`` to standard output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml

from gendiff import cli
from gendiff.evaluation.intervals import half_width

CONFIG = "gaussians25_denoising_gan"
NO_LATENT = {
    "method": {"latent": 0},
    "networks": {"generator": {"conditions": {}}},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped (T = 4, v)": {},
    "T = 1": {"method": {"steps": 1}},
    "T = 2": {"method": {"steps": 2}},
    "T = 8": {"method": {"steps": 8}},
    "no latent": NO_LATENT,
    "x0": {"method": {"prediction": "x0"}},
    "eps": {"method": {"prediction": "eps"}},
    "direct": {"method": {"prediction": "x0", "direct": True}},
    "one shot, diffusion as augmentation": {"method": {"prediction": "x0", "one_shot": True}},
}
FIGURES = ("modes_covered", "high_quality", "wasserstein", "energy_distance")


def stage_of(variant: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in variant).strip("_")


def stages_file(seed: int, steps: int, folder: Path) -> Path:
    """All variants of one seed."""
    stages = {}
    for variant, change in VARIANTS.items():
        took = change.get("method", {})
        calls = 1 if took.get("one_shot") else took.get("steps", 4)
        stages[stage_of(variant)] = {
            "config": CONFIG,
            "seed": seed,
            **change,
            "trainer": {"max_steps": steps, "checkpoint_steps": steps},
            "evaluation": {"steps": [calls], "watch_times": 0, "draws": 1},
        }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed_{seed}.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return path


def figures(run: Path, variant: str) -> dict[str, float]:
    (point,) = json.loads((run / stage_of(variant) / "evaluation.json").read_text())
    return {name: point[name] for name in FIGURES if name in point}


def spread(values: list[float]) -> str:
    """Mean and 95 % interval of the mean."""
    half = f" ± {half_width(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3g}{half}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--dir", type=Path, default=Path("runs/ablations"))
    args = parser.parse_args()
    for seed in range(args.seeds):
        path = stages_file(seed, args.steps, args.dir)
        code = cli.main(["run", str(path), "--dir", str(args.dir / str(seed))])
        if code:
            sys.exit(code)
    names = list(figures(args.dir / "0", next(iter(VARIANTS))))
    print(f"| variant | {' | '.join(names)} |\n|{' --- |' * (1 + len(names))}")
    for variant in VARIANTS:
        rows = [figures(args.dir / str(seed), variant) for seed in range(args.seeds)]
        print(f"| {variant} | {' | '.join(spread([r[n] for r in rows]) for n in names)} |")


if __name__ == "__main__":
    main()
