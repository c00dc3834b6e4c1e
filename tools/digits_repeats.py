"""The digits pipeline over training seeds, evaluator seeds and splits: what its figures resolve.

One run's interval covers the draws alone. Here everything is drawn anew: halves, evaluator,
teacher, students. Writes the table of ``docs/digits.md`` to standard output.

    python tools/digits_repeats.py [--repeats 3] [--dir runs/digits_repeats]
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
from gendiff.pipeline.shipped import shipped_folder

EVALUATOR = "digits_classifier"


def stages_file(repeat: int, folder: Path) -> Path:
    """The shipped pipeline with its own seed and split in every stage."""
    raw = yaml.safe_load((shipped_folder("stages") / "digits_fewstep.yaml").read_text())
    raw["stages"] = {EVALUATOR: {"config": EVALUATOR}, **raw["stages"]}
    for body in raw["stages"].values():
        body["seed"] = repeat
        body.setdefault("data", {})["split"] = repeat
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"repeat_{repeat}.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def figures(run: Path) -> dict[tuple[str, int], dict[str, float]]:
    """(model, NFE) -> distance, its ratio to the teacher's best and to the floor, accuracy."""
    entries: list[dict[str, Any]] = []
    for path in sorted(run.glob("*/evaluation.json")):
        entries += json.loads(path.read_text())
    record = json.loads(next(run.glob("reference-*/reference.json")).read_text())
    (floors,) = record["floors"].values()
    floor = floors["frechet_distance"]
    points = [e for e in entries if "nfe" in e]
    best = min(e["frechet_distance"] for e in points if e["model"] == "teacher")
    table = {
        (e["model"], e["nfe"]): {
            "distance": e["frechet_distance"],
            "to teacher": e["frechet_distance"] / best,
            "to floor": e["frechet_distance"] / floor,
            "kernel": e["kernel_distance"],
            "precision %": 100 * e["precision"],
            "recall %": 100 * e["recall"],
            "accuracy %": 100 * e["class_accuracy"],
        }
        for e in points
    }
    table["floor", 0] = {"distance": floor}
    return table


def spread(values: list[float]) -> str:
    """Mean and 95 % interval of the mean."""
    half = f" ± {half_width(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{half}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("runs/digits_repeats"))
    args = parser.parse_args()
    runs = []
    for repeat in range(args.repeats):
        folder = args.dir / str(repeat)
        code = cli.main(["run", str(stages_file(repeat, args.dir)), "--dir", str(folder)])
        if code:
            sys.exit(code)
        runs.append(figures(folder))
    columns = ["distance", "to teacher", "to floor", "kernel", "precision %", "recall %"]
    columns += ["accuracy %"]
    print(f"| model | NFE | {' | '.join(columns)} |\n|{' --- |' * (2 + len(columns))}")
    for model, nfe in runs[0]:
        rows = [run[model, nfe] for run in runs]
        cells = [spread([r[c] for r in rows]) if c in rows[0] else "" for c in columns]
        print(f"| {model} | {nfe or ''} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
