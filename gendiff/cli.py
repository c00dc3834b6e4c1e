"""The command line: run, status, sample, evaluate, list. Heavy imports wait for their command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gendiff.errors import Interrupted, Lost, UserError, did_you_mean, printable
from gendiff.signals import Stop

KINDS = (
    *("methods", "networks", "paths", "samplers", "data", "extractors", "metrics"),
    *("configs", "stages"),
)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one line, with a near miss."""

    def error(self, message: str) -> Any:
        raise UserError(f"{message}. See {self.prog} --help.")


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="gendiff", description=__import__("gendiff").__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, call: Callable[[Any], int | None], text: str) -> Parser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(call=call, parser=command)
        return command

    run = add("run", run_command, "train every stage that is not up to date, and evaluate it")
    status = add("status", status_command, "stages, states and what changed; touches nothing")
    for command in (run, status):
        command.add_argument("target", metavar="STAGES|CONFIG", help="a shipped name or a path")
        command.add_argument("overrides", nargs="*", metavar="key=value", default=[])
        command.add_argument("--dir", type=Path, help="run folder (default: runs/<name>)")
    run.add_argument("--only", metavar="STAGE", help="run this one stage")
    run.add_argument("--rerun", metavar="STAGE", action="append", help="train it anew")
    run.add_argument("--accept", metavar="STAGE", action="append", help="keep stale weights")
    run.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    run.add_argument("--slurm", action="store_true", help="write a SLURM job a stage instead")
    run.add_argument("--submit", action="store_true", help="with --slurm: submit them, chained")

    sample = add("sample", sample_command, "draw samples from a finished stage")
    sample.add_argument("model", type=Path, metavar="MODEL", help="a stage folder")
    sample.add_argument("-n", type=count, default=64, help="samples (default 64)")
    sample.add_argument("--steps", type=count, help="sampling steps (default: as trained)")
    sample.add_argument("--sampler", help="default: the method's own")
    sample.add_argument("--label", type=int, help="one class (default: all, in rows)")
    sample.add_argument("--guidance", type=float, default=0.0, metavar="W")
    sample.add_argument("--role", help="whose weights sample (default: the average)")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument(
        "-o", "--output", type=Path, default=Path("grid.png"), help="grid.png|samples.npz|folder/"
    )

    evaluate = add("evaluate", evaluate_command, "quality against NFE of finished stages")
    evaluate.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="a stage folder")
    evaluate.add_argument("--steps", type=counts, help="e.g. 1,2,4,8")
    evaluate.add_argument("--sampler", action="append", help="may be given several times")
    evaluate.add_argument("--guidance", type=float, action="append", metavar="W", help="weight")
    evaluate.add_argument("--role", action="append", help="whose weights (default: the average)")
    evaluate.add_argument("--metric", action="append", help="one of them (default: all)")
    evaluate.add_argument("--samples", type=count, help="samples a draw (default: as held out)")
    evaluate.add_argument("--draws", type=count, help="sample sets a point")
    evaluate.add_argument(
        "-o", "--output", type=Path, help="x.json; the table and curves go beside it"
    )

    listing = add("list", list_command, "what is registered and shipped")
    listing.add_argument("kind", nargs="?", metavar="|".join(KINDS))
    return top


def parse(words: Sequence[str] | None) -> Any:
    """Arguments, overrides and models allowed before and after options."""
    args, rest = parser().parse_known_args(words)
    words_allowed = next((name for name in ("overrides", "models") if name in args), None)
    odd = next((word for word in rest if not words_allowed or word.startswith("-")), None)
    if odd:
        options = args.parser._option_string_actions if odd.startswith("-") else ()
        hint = did_you_mean(odd.split("=")[0], options)
        raise UserError(f"{odd}: no such option or argument of gendiff {args.command}.{hint}")
    if rest and words_allowed == "overrides":
        args.overrides = [*args.overrides, *rest]
    elif rest:
        args.models = [*args.models, *map(Path, rest)]
    return args


def count(text: str) -> int:
    """A word as a number of things."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; at least 1")
    return number


def counts(text: str) -> list[int]:
    """Such numbers with commas between."""
    return [count(word) for word in text.split(",")]


def run_command(args: Any) -> int:
    pipeline, folder = open_pipeline(args)
    if args.slurm:
        if args.only or args.rerun or args.accept or args.dry_run:
            raise UserError("--slurm: goes with --submit alone; it runs nothing itself.")
        from gendiff.pipeline.slurm import slurm_jobs
        from gendiff.progress import Reporter

        words = [args.target, *args.overrides]
        slurm_jobs(pipeline, folder, words, Reporter(), args.submit)
        return 0
    if args.submit:
        raise UserError("--submit: goes with --slurm.")
    from gendiff.launch import follow, launch, launched
    from gendiff.sections import HardwareConfig

    stages = pipeline.stages.values()
    hardware = [s.run.hardware for s in stages if args.only in (None, s.name)] or [HardwareConfig()]
    processes = max(asked.devices for asked in hardware)
    if processes > 1 and not launched() and not args.dry_run:
        print(f"starting {processes} processes", flush=True)
        return launch(args.words, processes)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        follow()
    from gendiff.pipeline.runner import run_pipeline
    from gendiff.progress import Reporter
    from gendiff.ranks import joined

    stop = Stop()
    with stop.listening(), joined(max(asked.timeout_minutes for asked in hardware)) as ranks:
        run_pipeline(
            pipeline,
            folder,
            Reporter(quiet=not ranks.first),
            stop,
            ranks,
            only=args.only,
            rerun=args.rerun,
            accepted=args.accept,
            dry_run=args.dry_run,
        )
    return 0


def status_command(args: Any) -> None:
    pipeline, folder = open_pipeline(args)
    from gendiff.pipeline.plan import make_plan
    from gendiff.progress import Reporter
    from gendiff.storage import locked
    from gendiff.train import planned

    reporter = Reporter()
    for step in make_plan(pipeline, folder):
        total, name = planned(step.stage.run), step.stage.name
        state = "running" if locked(folder / ".locks" / name) else step.state
        words = [f"{name:24} {state:10} {step.done}/{total}"]
        if step.waits_for and step.state != "done":
            words.append(f"waits for {', '.join(step.waits_for)}")
        reporter.say("  ".join(words + step.why))


def open_pipeline(args: Any) -> tuple[Any, Path]:
    """The pipeline of ``run`` and ``status``, and its run folder."""
    from gendiff.pipeline.stages import load_pipeline

    pipeline = load_pipeline(args.target, args.overrides)
    return pipeline, args.dir or Path("runs") / pipeline.name


def sample_command(args: Any) -> None:
    import torch

    from gendiff.model import load
    from gendiff.report.save import check_output, save_samples

    check_output(args.output)
    model = load(args.model, args.role)
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


def evaluate_command(args: Any) -> None:
    from gendiff.pipeline.quality import evaluate_models, write_quality
    from gendiff.progress import Reporter
    from gendiff.ranks import joined
    from gendiff.report.table import show_table
    from gendiff.storage import write_json

    if args.output and args.output.suffix != ".json":
        raise UserError(f"-o: {args.output}: points are written as .json.")
    asked = {
        "steps": args.steps,
        "samplers": args.sampler,
        "guidance": args.guidance,
        "roles": args.role,
        "metrics": args.metric,
        "samples": args.samples,
        "draws": args.draws,
    }
    with Stop().listening(), joined() as ranks:
        reporter = Reporter(quiet=not ranks.first)
        entries, floors = evaluate_models(args.models, asked, reporter, ranks)
        if ranks.first:
            show_table(entries, floors, reporter.console)
        if ranks.first and args.output:
            write_json(args.output, entries)
            write_quality(args.output.with_suffix(""), args.output.stem, entries, floors)


def list_command(args: Any) -> None:
    from gendiff import registry
    from gendiff.pipeline.shipped import shipped_folder, shipped_names

    if args.kind and args.kind not in KINDS:
        raise UserError(f"{args.kind}: no such kind.{did_you_mean(args.kind, KINDS)}")
    for kind in [args.kind] if args.kind else KINDS:
        print(f"{kind}:")
        if kind in ("configs", "stages"):
            for name in shipped_names(kind):
                first = (shipped_folder(kind) / f"{name}.yaml").read_text().split("\n")[0]
                print(f"  {name:24} {first.lstrip('# ')}")
        else:
            for name in registry.names(kind):
                print(f"  {name:24} {registry.summary(kind, name)}")


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 2 the user's mistake, 75 stopped, run again."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # we say ourselves who is gone
    try:
        args = parse(words)
        args.words = sys.argv[1:] if words is None else words
        return args.call(args) or 0
    except UserError as error:
        tell(str(error), all_know=error.shared)
        return 2
    except (Interrupted, KeyboardInterrupt) as error:
        all_know = getattr(error, "shared", False)
        tell(f"{str(error) or 'interrupted'}; run again to go on.", all_know)
        return 75
    except Lost as error:
        tell(str(error))
        return 1
    except BrokenPipeError:  # the reader, e.g. head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def tell(text: str, all_know: bool = False) -> None:
    """A line on standard error; what all ranks know is told by the first alone."""
    if not all_know or os.environ.get("RANK", "0") == "0":
        print(f"gendiff: {printable(text)}", file=sys.stderr)


def entry() -> None:
    """The ``gendiff`` command; a signal during long imports ends it as it would later."""
    with Stop().listening():
        sys.exit(main())


if __name__ == "__main__":
    entry()
