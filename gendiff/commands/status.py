"""Stages, states and what changed; touches nothing."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from gendiff.commands.words import open_pipeline, pipeline_words


def arguments(command: ArgumentParser) -> None:
    """The options."""
    pipeline_words(command)


def call(args: Any) -> None:
    """A line a stage."""
    pipeline, folder = open_pipeline(args)
    from gendiff.pipeline.plan import make_plan
    from gendiff.progress import Reporter
    from gendiff.storage import lock_of, locked
    from gendiff.train import planned

    reporter = Reporter()
    for step in make_plan(pipeline, folder):
        total, name = planned(step.stage.run), step.stage.name
        state = "running" if locked(lock_of(step.folder)) else step.state
        words = [f"{name:24} {state:10} {step.done}/{total}"]
        if step.waits_for and step.state != "done":
            words.append(f"waits for {', '.join(step.waits_for)}")
        reporter.say("  ".join(words + step.why))
