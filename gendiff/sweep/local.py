"""A sweep without a server: the trials that W&B's agent would run, one after another."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gendiff.errors import Interrupted, UserError, did_you_mean
from gendiff.following import AGENT, FOLLOW
from gendiff.pipeline.figures import history
from gendiff.pipeline.trial import RUN, SWEEP
from gendiff.progress import Reporter
from gendiff.storage import lock, make_folder
from gendiff.sweep.file import Sweep
from gendiff.sweep.propose import propose, trials_of
from gendiff.sweep.state import State, TrialState, open_state

POLL = 0.2
"""Seconds between two looks at a trial."""
KILL_DELAY = 30.0
"""Seconds from SIGTERM to SIGKILL, as of W&B's agent."""
IN_A_ROW = 3
"""Trials that fail one after another, none having succeeded, after which the sweep gives up."""

Start = Callable[[list[str], dict[str, str]], Any]


def start(words: list[str], env: dict[str, str]) -> Any:
    """A trial's process: in a group of its own and without input, as W&B's agent starts it."""
    try:
        return subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        raise UserError(f"command: {words[0]}: cannot be started ({error.strerror}).") from None


def run_local(
    sweep: Sweep,
    folder: Path,
    name: str,
    count: int | None,
    seed: int,
    reporter: Reporter,
    start: Start = start,
) -> State:
    """Run every trial that is not over; returns what came of all of them.

    Args:
        folder: of the sweep.
        name: the sweep's id.
        count: trials in all; None for as many as the file has.

    Raises:
        Interrupted: a trial was stopped by a signal; the same command goes on.
        UserError: no end of trials, or they fail in a row and none has succeeded.
    """
    limits = [n for n in (count, sweep.run_cap, trials_of(sweep)) if n is not None]
    if not limits:
        raise UserError(f"{sweep.path}: {sweep.method} has no end: give --count, or run_cap.")
    make_folder(folder)
    with lock(folder / ".locks" / "sweep"):
        state = open_state(sweep, folder, seed)
        for number in range(min(limits)):
            give_up(state)
            if number < len(state.trials):
                trial = state.trials[number]
            else:
                trial = state.add(*propose(sweep, number, seed, state.seen(sweep)))
            if trial.state == "begun":
                said = shlex.join(sweep.args(trial.values))
                reporter.say(f"trial {number + 1} of {min(limits)}: {trial.name}  {said}")
                run_trial(sweep, state, trial, name, reporter, start)
    return state


def run_trial(
    sweep: Sweep, state: State, trial: TrialState, name: str, reporter: Reporter, start: Start
) -> None:
    """Run or resume one trial, and keep what came of it."""
    env = {key: value for key, value in os.environ.items() if key != AGENT}
    env |= {SWEEP: name, RUN: trial.name, FOLLOW: ""}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
    process = start(sweep.line(trial.values), env)
    try:
        trial.bracket, trial.loss = watch(process, sweep, state, trial)
    except BaseException:
        end(process)
        raise
    code = process.wait()
    if trial.bracket is not None and code:  # it may have come to its end meanwhile
        trial.state = "stopped"
        reporter.say(f"{trial.name}: stopped after {trial.bracket} values: others are better")
    elif code == 0:
        trial.state, trial.bracket, trial.loss = "done", None, None
        tell(sweep, state, trial, reporter)
    elif code == 75:
        raise Interrupted(f"{trial.name} was stopped")
    elif code < 0:
        raise Interrupted(f"{trial.name} was killed by {signal.Signals(-code).name}")
    else:
        trial.state, trial.code = "failed", code
        reporter.warn(f"{trial.name}: failed with exit code {code}; the sweep goes on")
    state.save()


def watch(
    process: Any, sweep: Sweep, state: State, trial: TrialState
) -> tuple[int | None, float | None]:
    """Wait for a trial; returns the bracket at which it was told to stop, and its loss there."""
    others = list[list[float]]()
    if sweep.hyperband:  # once: no other trial of this sweep runs meanwhile
        others = [values_of(sweep, state, t) for t in state.trials if t is not trial]
    while process.poll() is None:
        time.sleep(POLL)
        if sweep.hyperband:
            mine = values_of(sweep, state, trial)
            bracket = sweep.hyperband.stops(mine, others)
            if bracket:
                end(process)
                return bracket, min(mine[:bracket])
    return None, None


def end(process: Any) -> None:
    """Stop a trial as W&B's agent does."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(KILL_DELAY)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def values_of(sweep: Sweep, state: State, trial: TrialState) -> list[float]:
    """What trials are compared by while they train, smaller is better.

    The metric where it is logged in training; else, as an evaluation comes once, at the end, the
    loss of its stage.
    """
    stage, _, figure = str(sweep.metric).partition("/")
    rows = history(state.path.parent / trial.name / stage)
    if figure in rows:
        return [sweep.sign * value for value in rows[figure]]
    return rows.get("loss", [])


def tell(sweep: Sweep, state: State, trial: TrialState, reporter: Reporter) -> None:
    """Say what a trial has reached.

    Raises:
        UserError: it has no such figure, nor has any before it.
    """
    value = state.objective(trial, sweep.metric)
    if not sweep.metric:
        reporter.say(f"{trial.name}: done")
    elif value is not None:
        reporter.say(f"{trial.name}: {sweep.metric} {value:.4g}")
    elif all(state.objective(t, sweep.metric) is None for t in state.trials):
        state.save()
        hint = did_you_mean(sweep.metric, state.figures(trial))
        raise UserError(f"{sweep.path}: metric.name: {trial.name} has no {sweep.metric}.{hint}")
    else:
        reporter.warn(f"{trial.name}: has no {sweep.metric}, or none that is finite")


def give_up(state: State) -> None:
    """
    Raises:
        UserError: no trial has succeeded, and the last ones have failed.
    """
    last = state.trials[-IN_A_ROW:]
    if len(last) < IN_A_ROW or any(trial.state != "failed" for trial in last):
        return
    if not state.succeeded:
        raise UserError(
            f"the last {IN_A_ROW} trials have failed and none has succeeded: mend the sweep file, "
            f"remove {state.path} and run again, or choose another --dir."
        )
