"""Send SIGTERM to some processes of a run at a chosen moment, and print how all of them end.

    python tests/kill/stopserver.py FOLDER PROCESSES

Prints one JSON list: for each moment and choice of ranks their exit codes, the seconds until all
had ended, the steps that the newest checkpoint held and the step that was done, and the weights
after the same command has run again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forkserver import attempt, digests, wait

from gendiff import checkpoint, keeper, train
from gendiff.evaluation import stage as evaluation
from gendiff.pipeline import runner

STEP = 8
EVALUATED = ["stages.teacher.evaluation.steps=[2]", "stages.teacher.evaluation.samples=60"]
MOMENTS = {
    "set-up": (train, "build_method"),
    "training": (keeper.Vote, "__call__"),
    "saving": (checkpoint, "write_atomic"),  # by the first rank alone
    "evaluation": (evaluation, "draw"),
    "between": (runner, "evaluate_after"),
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


def main(root: Path, world: int) -> list[dict[str, Any]]:
    root.mkdir(parents=True, exist_ok=True)
    wait(attempt(root / "undisturbed", world, {}, EVALUATED))
    wanted, report = digests(root / "undisturbed"), []
    for moment in MOMENTS:
        for ranks in [[0], [1], [0, 1]] if world == 2 and moment != "saving" else [[0]]:
            folder = root / f"{moment}-{'-'.join(map(str, ranks))}"
            begun = time.monotonic()
            codes = wait(attempt(folder, world, {rank: ask(moment) for rank in ranks}, EVALUATED))
            seconds = time.monotonic() - begun
            manifest = folder / "teacher" / "checkpoints" / "manifest.json"
            kept = json.loads(manifest.read_text())[0]["batches_done"] if manifest.exists() else 0
            again = wait(attempt(folder, world, {}, EVALUATED))
            report.append(
                {
                    "moment": moment,
                    "ranks": ranks,
                    "codes": codes,
                    "seconds": round(seconds, 1),
                    "kept": kept,
                    "again": again,
                    "same": digests(folder) == wanted,
                }
            )
    return report


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
