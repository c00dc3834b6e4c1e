"""Stages that do not wait for each other, at the same time: each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from queue import Queue

import torch

from gendiff.errors import Interrupted, UserError
from gendiff.following import FOLLOW
from gendiff.pipeline.overview import write_report
from gendiff.pipeline.plan import make_plan
from gendiff.pipeline.quality import is_evaluated, write_summary
from gendiff.pipeline.runner import refuse_unfit
from gendiff.pipeline.stages import Pipeline
from gendiff.progress import Reporter

Start = Callable[[str, int], subprocess.Popen[str]]
"""Starts a stage by its name, in one of the places numbered from 0."""


def stage_command(words: Sequence[str], folder: Path, name: str) -> list[str]:
    """The command of one stage of a pipeline.

    Args:
        words: target and overrides, as given on the command line.
    """
    run = [sys.executable, "-m", "gendiff.cli", "run", *words]
    return [*run, "--dir", str(folder.absolute()), "--only", name]


def run_jobs(
    pipeline: Pipeline, folder: Path, words: Sequence[str], jobs: int, reporter: Reporter
) -> int:
    """Bring every stage up to date, ``jobs`` of them at a time, each after those it needs.

    A stage that fails keeps only those from running that need it.

    Returns:
        The exit code: 0, or that of the first stage that failed; 1 if it was killed.

    Raises:
        UserError: a stage is stale or damaged, or asks for several processes itself.
        Interrupted: a signal; the stages have been told, and have stopped.
    """
    waiting: dict[str, list[str]] = {}
    for step in make_plan(pipeline, folder):
        refuse_unfit(step)
        if step.stage.run.hardware.devices > 1:
            raise UserError(f"--jobs: {step.stage.name} has hardware.devices, which are for one.")
        if step.state != "done" or not is_evaluated(step.stage, folder):
            waiting[step.stage.name] = step.stage.needs

    def start(name: str, place: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            stage_command(words, folder, name),
            env=surroundings(place, jobs),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    code = schedule(waiting, start, jobs, reporter.say)
    write_summary(pipeline, folder, reporter)
    reporter.say(str(write_report(folder)))
    return code if code >= 0 else 1


def surroundings(place: int, jobs: int) -> dict[str, str]:
    """The environment of the stage in a place: its share of the cores, its GPU, its end."""
    words = {**os.environ, FOLLOW: str(os.getpid())}
    words.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    if count := torch.cuda.device_count():
        seen = words.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
        words["CUDA_VISIBLE_DEVICES"] = seen[place % count]
    return words


def schedule(
    needs: Mapping[str, Sequence[str]], start: Start, jobs: int, say: Callable[[str], None]
) -> int:
    """Run every name after those it needs (those not among the names are done already).

    Returns:
        0, or the exit code of the first that failed.

    Raises:
        Interrupted: a signal, when all that ran have ended.
    """
    order = TopologicalSorter({name: [n for n in needs[name] if n in needs] for name in needs})
    order.prepare()
    heard: Queue[tuple[str, str | None]] = Queue()
    running: dict[str, tuple[subprocess.Popen[str], int]] = {}
    ready: list[str] = []
    failed = 0

    def listen(name: str, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            heard.put((name, line.rstrip()))
        heard.put((name, None))

    def hear() -> int | None:
        """Pass a line on, or take an end: its exit code."""
        name, line = heard.get()
        if line is not None:
            say(f"{name} | {line}")
            return None
        process, _ = running.pop(name)
        code = process.wait()
        if not code:
            order.done(name)
        if code < 0:  # it could not say so itself
            say(f"{name} | was killed by {signal.Signals(-code).name}; run again to go on.")
        return code

    try:
        while True:
            ready += order.get_ready()
            free = [p for p in range(jobs) if p not in {place for _, place in running.values()}]
            for place, name in zip(free, [*ready], strict=False):
                ready.remove(name)
                process = start(name, place)
                running[name] = process, place
                threading.Thread(target=listen, args=(name, process), daemon=True).start()
            if not running:
                return failed
            code = hear()
            failed = failed or code or 0
    except Interrupted:
        for process, _ in running.values():
            process.terminate()
        while running:
            hear()
        raise
