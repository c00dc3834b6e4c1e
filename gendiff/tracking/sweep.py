"""A sweep's trial and the runs of its stages, side by side in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

HIDDEN = ("sweep_id", "run_id", "sweep_param_path")
"""What W&B's agent says, by the variables WANDB_SWEEP_ID, WANDB_RUN_ID, WANDB_SWEEP_PARAM_PATH."""


@contextmanager
def outside_sweep() -> Iterator[None]:
    """A block in which ``wandb.init`` begins a run of its own id, project and config.

    In a sweep it would otherwise take the trial's for every run of the process. W&B reads the
    variables once, with its first run: they are hidden in what it has read, so that a trial can
    be begun before the block or after it.
    """
    import wandb

    session = wandb.setup()
    settings = session.settings
    told, config = {name: getattr(settings, name) for name in HIDDEN}, session._sweep_config
    for name in HIDDEN:
        setattr(settings, name, None)
    session._sweep_config = None
    try:
        yield
    finally:
        for name, value in told.items():
            setattr(settings, name, value)
        session._sweep_config = config
