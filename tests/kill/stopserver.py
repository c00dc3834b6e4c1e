"""Send SIGTERM to some of two processes of a stage at a chosen moment, and print how both end.

    python tests/kill/stopserver.py FOLDER [MOMENT:RANKS ...]

Such as ``training:1 evaluation:0,1``; without any, all moments and choices. Prints one JSON list:
the exit codes of the ranks, the seconds until both had ended, the steps in the newest checkpoint,
and whether the same command, run again, ended in the weights of an undisturbed run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forkserver import attempt, digests, wait

from gendiff import checkpoint, keeper, train
from gendiff.data import filling
from gendiff.evaluation import guard
from gendiff.evaluation import stage as evaluation
from gendiff.pipeline import runner

STEP = 8
WORDS = ["stages.teacher.evaluation.steps=[2]", "stages.teacher.evaluation.samples=60"]
WORDS += ["stages.teacher.evaluation.metrics=[energy_distance]", "--only"]
MOMENTS = {
    "set-up": (train, "build_method"),
    "training": (keeper.Vote, "__call__"),
    "pictures": (guard.Guard, "_draw"),
    "saving": (checkpoint, "write_atomic"),  # by the first rank alone
    "evaluation": (evaluation, "draw"),
    "between": (runner, "evaluate_after"),
    "pairs": (filling, "write_shard"),
}
"""What is called at that moment."""


def ask(moment: str) -> Callable[[], None]:
    """SIGTERM to this process, in the middle of a stage, as that moment begins."""

    def install() -> None:
        place, name = MOMENTS[moment]
        call, count = getattr(place, name), [0]

        def asked(*args: Any, **settings: Any) -> Any:
            count[0] += 1
            if count[0] == (STEP if moment == "training" else 1):
                os.kill(os.getpid(), signal.SIGTERM)
            return call(*args, **settings)

        setattr(place, name, asked)

    return install


EVERY = [
    (moment, ranks)
    for moment in MOMENTS
    for ranks in ([[0]] if moment == "saving" else [[0], [1], [0, 1]])
]


def main(root: Path, cases: list[tuple[str, list[int]]]) -> list[dict[str, Any]]:
    root.mkdir(parents=True, exist_ok=True)
    stages = {moment: "couples" if moment == "pairs" else "teacher" for moment, _ in cases}
    for stage in dict.fromkeys(["teacher", *stages.values()]):
        wait(attempt(root / "undisturbed", 2, {}, [*WORDS, stage]))
    wanted, report = digests(root / "undisturbed"), []
    for moment, ranks in cases:
        folder, stage = root / f"{moment}-{'-'.join(map(str, ranks))}", stages[moment]
        if stage != "teacher":
            shutil.copytree(root / "undisturbed" / "teacher", folder / "teacher")
        begun = time.monotonic()
        strikes = {rank: ask(moment) for rank in ranks}
        codes = wait(attempt(folder, 2, strikes, [*WORDS, stage]))
        seconds = time.monotonic() - begun
        manifest = folder / stage / "checkpoints" / "manifest.json"
        kept = json.loads(manifest.read_text())[0]["batches_done"] if manifest.exists() else 0
        again = wait(attempt(folder, 2, {}, [*WORDS, stage]))
        report.append(
            {
                "moment": moment,
                "ranks": ranks,
                "codes": codes,
                "seconds": round(seconds, 1),
                "kept": kept,
                "again": again,
                "same": digests(folder)[stage] == wanted[stage],
            }
        )
    return report


if __name__ == "__main__":
    folder, *words = sys.argv[1:]
    chosen = [(m, [int(r) for r in ranks.split(",")]) for m, ranks in (w.split(":") for w in words)]
    print(json.dumps(main(Path(folder), chosen or EVERY)))
