"""The papers that a run uses, as a list or as BibTeX."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from gendiff.commands.words import open_pipeline, pipeline_words


def arguments(command: ArgumentParser) -> None:
    """The options."""
    pipeline_words(command)
    command.add_argument("--bibtex", action="store_true", help="entries for a .bib file")


def call(args: Any) -> None:
    """Print each paper once, with the stages that use it."""
    from gendiff.citations import users_of

    pipeline, _ = open_pipeline(args)
    for paper, names in users_of({name: stage.run for name, stage in pipeline.stages.items()}):
        print(f"{paper.bibtex}\n" if args.bibtex else f"{paper.text}\n    {', '.join(names)}")
