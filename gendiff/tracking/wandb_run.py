"""A stage's run at W&B: begun and resumed under the stage's own id, finished on errors too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gendiff.build import run_folder_of
from gendiff.config import to_plain
from gendiff.errors import Interrupted, UserError
from gendiff.lineage import Node, as_plain, outside_of, read_node, role_digest
from gendiff.report.save import training_picture
from gendiff.sections import LoggingConfig, RunConfig
from gendiff.storage import make_folder
from gendiff.tracking.csv_file import Row, numbers
from gendiff.tracking.guarded import Guarded, cut
from gendiff.tracking.names import alias_of, artifact_name, stable_id
from gendiff.tracking.sweep import outside_sweep
from gendiff.wandb_files import STEP

FLUSH = 1.0
"""Seconds of rows that a kill can keep from W&B's file; they are in ``metrics.csv``."""
PICTURE = "samples/training"
"""Key of the pictures that the guard draws as a stage trains."""
INIT = 60.0
"""Seconds that W&B's server has to answer; then the run is logged offline."""
WAIT = 20.0
"""Seconds that the end of a training waits for its losses to be uploaded: a signal leaves about
half a minute."""


class WandbTracker(Guarded):
    """One W&B run a stage, all stages of a run folder in one group.

    W&B holds no row twice and lacks none. What a killed process had logged beyond its checkpoint
    its successor computes again, to the same figures, and does not log: how far W&B has come its
    server knows, and offline the files that lie in the stage's folder. What W&B lacks of the rows
    before the checkpoint comes from ``metrics.csv``. So rows need not wait for a checkpoint.

    W&B, or the way to it, failing ends no training: it is said in a line.

    Args:
        folder: of the stage.
        rows: of ``metrics.csv``, up to the step that is resumed from.
        say: prints a line.
        wait: most seconds that `close` takes online.
    """

    unreachable = False
    """Whether W&B's server has failed this process, which then waits for it no more."""

    def __init__(
        self,
        folder: Path,
        run: RunConfig,
        rows: Iterable[Row],
        say: Callable[[str], None],
        wait: float = WAIT,
    ) -> None:
        super().__init__(None, say)
        self.folder, self.node = folder, read_node(folder, folder.name)
        asked = "offline" if self.unreachable else wandb_mode(run.logging)
        self.run = self._begun(folder, run, asked, wait)
        self.held = self.held_of(folder / "wandb")
        if self.run is None:
            return
        if self.mode == "online":
            self._use_parents(folder)
        for row in rows:
            self.log(numbers(row), int(row[STEP]))

    def _begun(self, folder: Path, run: RunConfig, mode: str, wait: float) -> Any:
        """The run, offline if W&B's server fails; None if that fails too."""
        self.mode = mode
        try:
            return begin(folder, run, self.node, mode, wait)
        except UserError as error:  # the stage's own files, no fault of the server's
            self.say(f"  W&B: {error} The stage is not logged there.")
            return None
        except Exception as error:  # W&B's and its libraries', of any kind
            forget_failed()
            if mode != "online":
                self.say(f"  W&B {mode}: {cut(error)}: not logged")
                return None
            self.say(f"  W&B online: {cut(error)}: logging offline from here on")
            WandbTracker.unreachable = True
            return self._begun(folder, run, "offline", wait)

    def log(self, metrics: dict[str, float], step: int) -> None:
        if step > self.held:
            # W&B's step is ours: its server drops a row whose step is not above the last one's
            self.send(lambda run: run.log(self._row(metrics, step), step=step, commit=True))

    def _row(self, metrics: dict[str, float], step: int) -> dict[str, Any]:
        """What W&B is given of a step, with the picture of samples if one was drawn there."""
        import wandb

        path, row = training_picture(self.folder, step), {STEP: step, **metrics}
        return {**row, PICTURE: wandb.Image(str(path))} if path.is_file() else row

    def close(self) -> None:
        """Finish the run: as failed on an error, as preempted when a signal asked to stop."""
        error = sys.exception()
        stopped = isinstance(error, Interrupted)
        if stopped and self.mode == "online":
            self.send(lambda run: run.mark_preempting())
        code = 75 if stopped else 1 if error else 0
        self.send(lambda run: run.finish(exit_code=code))
        self.run = None

    def _use_parents(self, folder: Path) -> None:
        """Tell W&B's server what the stage was made of, which draws its lineage graph."""
        for role, ref in self.node.init.items():
            stage, _, theirs = ref.rpartition(".")
            source = Path(stage) if "/" in stage else run_folder_of(folder) / stage
            alias = alias_of(theirs, role_digest(self.node.used[role], theirs))
            name = f"{artifact_name(source)}:{alias}"
            try:
                self.run.use_artifact(name)
            except Exception as error:  # of any kind: it was logged elsewhere, or nowhere
                self.say(f"  W&B: init.{role}: no {name} there ({cut(error)})")


def begin(folder: Path, run: RunConfig, node: Node, mode: Any, wait: float) -> Any:
    """The stage's W&B run, new or resumed; parents are in its config whatever its mode."""
    import wandb

    make_folder(folder / "wandb")  # W&B writes to the folder itself where this is missing
    outside = outside_of({node.name: node})
    lineage = {**as_plain(node), "outside": [as_plain(other) for other in outside.values()]}
    with outside_sweep():
        begun = wandb.init(
            project=run.logging.project,
            group=run_folder_of(folder).name,
            name=folder.name,
            job_type=run.method.name,
            id=stable_id(folder),
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            mode=mode,
            dir=folder,
            config={**to_plain(run), "lineage": lineage},
            settings=wandb.Settings(**settings(wait)),
        )
    begun.define_metric(STEP, hidden=True)
    begun.define_metric("*", step_metric=STEP, step_sync=False)
    return begun


def settings(wait: float) -> dict[str, Any]:
    """W&B's settings of any run of gendiff's; ``wait`` is the most seconds that its end takes."""
    return {
        "silent": True,
        "console": "off",
        "disable_git": True,  # a remote's address can hold a token, a patch anything
        "init_timeout": INIT,
        "finish_timeout": wait,
        "x_transaction_log_flush_interval": FLUSH,
    }


def forget_failed() -> None:
    """Let go of the id of a run that could not begin, which W&B holds until its process ends.

    A sweep's trial would end with it: while there is one, the stage is not logged.
    """
    import wandb

    if wandb.setup().most_recent_active_run is None:
        wandb.teardown()


def wandb_mode(logging: LoggingConfig) -> str:
    """``online`` becomes ``offline`` where W&B has no key to use."""
    if logging.wandb != "online" or os.environ.get("WANDB_API_KEY"):
        return logging.wandb
    with suppress(OSError):  # there is none, or none that can be read
        if "wandb" in (Path.home() / ".netrc").read_text(errors="replace"):
            return "online"
    return "offline"
