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
    from gendiff.citations import papers_of
    from gendiff.papers import Paper

    pipeline, _ = open_pipeline(args)
    users: dict[Paper, list[str]] = {}
    for name, stage in pipeline.stages.items():
        for paper in papers_of(stage.run):
            users.setdefault(paper, []).append(name)
    for paper, names in sorted(users.items(), key=lambda item: (item[0].year, item[0].key)):
        print(f"{paper.bibtex}\n" if args.bibtex else f"{paper.text}\n    {', '.join(names)}")
