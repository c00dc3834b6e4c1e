"""What is registered and shipped."""

from __future__ import annotations

from argparse import ArgumentParser
from itertools import takewhile
from typing import Any

from gendiff.errors import UserError, did_you_mean

KINDS = (
    *("methods", "networks", "paths", "samplers", "data", "extractors", "metrics"),
    *("configs", "stages"),
)


def arguments(command: ArgumentParser) -> None:
    """The options."""
    command.add_argument("kind", nargs="?", metavar="|".join(KINDS))


def call(args: Any) -> None:
    """Print the names of a kind, or of all."""
    from gendiff import registry
    from gendiff.pipeline.shipped import shipped_folder, shipped_names

    if args.kind and args.kind not in KINDS:
        raise UserError(f"{args.kind}: no such kind.{did_you_mean(args.kind, KINDS)}")
    for kind in [args.kind] if args.kind else KINDS:
        print(f"{kind}:")
        if kind in ("configs", "stages"):
            for name in shipped_names(kind):
                lines = (shipped_folder(kind) / f"{name}.yaml").read_text().split("\n")
                said = takewhile(lambda line: line.startswith("#"), lines)
                print(f"  {name:24} {' '.join(line.lstrip('# ') for line in said)}")
        else:
            for name in registry.names(kind):
                print(f"  {name:24} {registry.summary(kind, name)}")
