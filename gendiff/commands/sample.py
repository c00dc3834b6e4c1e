"""Draw samples from a finished stage."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from gendiff.commands.words import count


def arguments(command: ArgumentParser) -> None:
    """The options."""
    command.add_argument("model", type=Path, metavar="MODEL", help="a stage folder")
    command.add_argument("-n", type=count, default=64, help="samples (default 64)")
    command.add_argument("--steps", type=count, help="sampling steps (default: as trained)")
    command.add_argument("--sampler", help="default: the method's own")
    command.add_argument("--label", type=int, help="one class (default: all, in rows)")
    command.add_argument("--guidance", type=float, default=0.0, metavar="W")
    command.add_argument("--role", help="whose weights sample (default: the average)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "-o", "--output", type=Path, default=Path("grid.png"), help="grid.png|samples.npz|folder/"
    )


def call(args: Any) -> None:
    """Draw, write, and say where."""
    import torch

    from gendiff.build import device_of
    from gendiff.model import load
    from gendiff.report.save import check_output, save_samples

    check_output(args.output)
    model = load(args.model, args.role)
    model.to(device_of(model.run, needed=False))
    steps = args.steps if args.steps is not None else model.default_steps
    alike = args.label is not None
    labels = torch.full((args.n,), args.label) if alike else model.labels(args.n)
    x = model.sample(
        args.n,
        steps,
        sampler=args.sampler,
        labels=labels,
        guidance=args.guidance,
        seed=args.seed,
    )
    save_samples(x, args.output, 0 if alike else model.run.data.classes, labels)
    print(args.output)
