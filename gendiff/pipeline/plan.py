"""The state of every stage on disk, read before anything is trained and touching nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gendiff.build import check_done, check_file, owner, read_run
from gendiff.checkpoint import Checkpoints
from gendiff.errors import UserError
from gendiff.pipeline.fingerprint import changes, digest, identity
from gendiff.pipeline.stages import Pipeline, Ref, Stage
from gendiff.storage import read_json
from gendiff.train import Source
from gendiff.weights import weight_file

State = Literal["missing", "resumable", "done", "stale", "damaged"]


@dataclass(frozen=True)
class Step:
    """A stage, what it is (``record``), and how far its folder is."""

    stage: Stage
    folder: Path
    record: dict[str, Any]
    """As written to ``stage.json``: fingerprint, identity and parents."""
    state: State
    done: int = 0
    """Global batches done."""
    why: list[str] = field(default_factory=list)
    """What changed or is damaged."""
    waits_for: list[str] = field(default_factory=list)

    @property
    def sources(self) -> dict[str, Source]:
        """Where the stage's roles come from."""
        return {
            role: Source(source_folder(self.folder.parent, ref), ref.role, ref.new)
            for role, ref in self.stage.init.items()
        }


def source_folder(run_folder: Path, ref: Ref) -> Path:
    return Path(ref.stage) if ref.outside else run_folder / ref.stage


def make_plan(pipeline: Pipeline, run_folder: Path) -> list[Step]:
    """Every stage with its state, parents first.

    Raises:
        UserError: an init that cannot fit: unknown role, other shapes or other prediction.
    """
    plan: dict[str, Step] = {}
    for stage in pipeline.stages.values():
        check_init(stage, pipeline)
        plan[stage.name] = inspect(stage, run_folder / stage.name, plan)
    return list(plan.values())


def check_init(stage: Stage, pipeline: Pipeline) -> None:
    """Whether what the stage takes exists, has the right shapes, and means the same.

    Networks are compared on the meta device: nothing is allocated.
    """
    import torch

    from gendiff.build import build_network
    from gendiff.errors import did_you_mean
    from gendiff.weights import differences, explain

    cls = stage.run.method_class
    for role, ref in stage.init.items():
        where = f"{stage.name}: init.{role}"
        if ref.outside:
            check_done(Path(ref.stage))
        parent = read_run(Path(ref.stage)) if ref.outside else pipeline.stages[ref.stage].run
        theirs = parent.method_class
        if role == cls.trains_on:
            if ref.role not in theirs.products:
                hint = did_you_mean(ref.role, theirs.products)
                raise UserError(f"{where}: {ref.stage} makes no {ref.role!r}.{hint}")
            continue
        known = [*parent.networks, *(a for a, r in theirs.averages.items() if r in parent.networks)]
        if ref.role not in known:
            raise UserError(
                f"{where}: {ref.stage} has no role {ref.role!r}.{did_you_mean(ref.role, known)}"
            )
        if parent.data.shape != stage.run.data.shape:
            raise UserError(
                f"{where}: {ref.stage} was trained on {parent.data.shape}, "
                f"this stage's data are {stage.run.data.shape}."
            )
        if role in cls.frozen:
            continue
        meanings = [getattr(r.method, "prediction", None) for r in (parent, stage.run)]
        if None not in meanings and meanings[0] != meanings[1]:
            raise UserError(
                f"{where}: {ref.stage} predicts {meanings[0]}, but method.prediction is "
                f"{meanings[1]}."
            )
        with torch.device("meta"):
            given = build_network(parent, owner(theirs, ref.role)).state_dict()
            wanted = build_network(stage.run, role).state_dict()
        lines = differences(wanted, given, ref.new)
        if lines:
            raise UserError(f"{where}: {ref} does not fit: {explain(lines)}.")


def make_record(stage: Stage, run_folder: Path, plan: dict[str, Step]) -> dict[str, Any]:
    """Fingerprint, identity, and each parent's fingerprint and weight digest."""
    init: dict[str, Any] = {}
    for role, ref in stage.init.items():
        folder = source_folder(run_folder, ref)
        if ref.outside:
            fingerprint = check_done(folder)["fingerprint"]
        else:
            fingerprint = plan[ref.stage].record["fingerprint"]
        init[role] = {"from": str(ref), "new": list(ref.new), "fingerprint": fingerprint}
    what = identity(stage.run)
    what["method"]["version"] = stage.run.method_class.version
    return {
        "stage": stage.name,
        "fingerprint": digest({"run": what, "init": init}),
        "identity": what,
        "init": init,
    }


def with_digests(step: Step) -> dict[str, Any]:
    """The record with the digests of the weights its roles come from, which now exist."""
    init = {}
    for role, source in step.sources.items():
        digests = check_done(source.folder)["digests"]
        mine = {n: d for n, d in digests.items() if belongs(n, source.role)}
        init[role] = {**step.record["init"][role], "digests": mine}
    return {**step.record, "init": init}


def belongs(name: str, role: str) -> bool:
    """Whether a file of ``done.json`` is the role's weights or the product's."""
    return name == f"weights/{role}.safetensors" or name.startswith(f"products/{role}/")


def inspect(stage: Stage, folder: Path, plan: dict[str, Step]) -> Step:
    """The state of one stage's folder."""
    record = make_record(stage, folder.parent, plan)
    waits = [name for name in stage.parents if plan[name].state != "done"]

    def step(state: State, done: int = 0, why: list[str] | None = None) -> Step:
        return Step(stage, folder, record, state, done, why or [], waits)

    try:
        begun = (folder / "stage.json").is_file()
        saved = Checkpoints(folder).listed()
        if not begun:
            # the first checkpoint is written before stage.json: at 0 nothing is lost
            if (folder / "done.json").exists() or any(e["batches_done"] for e in saved):
                return step("damaged", why=[f"{folder / 'stage.json'} is missing"])
            return step("missing")
        old = read_json(folder / "stage.json")
        if old["fingerprint"] != record["fingerprint"]:
            return step("stale", why=changes(_compared(old), _compared(record)))
        moved = [role for role, was in old["init"].items() if _moved(stage, folder, role, was)]
        if moved:
            why = [f"init.{r}: the weights of {old['init'][r]['from']} changed" for r in moved]
            return step("stale", why=why)
        if (folder / "done.json").exists():
            done = check_done(folder)
            for name in done["digests"]:
                check_file(folder, name, done)
            return step("done", done["steps"])
        if stage.run.method_class.products:
            return step("resumable")
        newest = Checkpoints(folder).newest()
        if newest is None:
            return step("damaged", why=[f"{folder / 'checkpoints'} holds no whole checkpoint"])
        return step("resumable", newest)
    except UserError as error:
        return step("damaged", why=[str(error)])
    except (KeyError, TypeError):
        return step("damaged", why=[f"{folder / 'stage.json'} is not what gendiff wrote"])


def _compared(record: dict[str, Any]) -> dict[str, Any]:
    init = {
        role: {key: value for key, value in entry.items() if key != "digests"}
        for role, entry in record["init"].items()
    }
    return {**record["identity"], "init": init}


def _moved(stage: Stage, folder: Path, role: str, was: dict[str, Any]) -> bool:
    """Whether a parent that is done now holds other weights than the stage was seeded with."""
    ref = stage.init[role]
    source = source_folder(folder.parent, ref)
    if not (source / "done.json").is_file():
        return False
    now = {n: d for n, d in check_done(source)["digests"].items() if belongs(n, ref.role)}
    return now != was["digests"]


def ways_out(step: Step) -> str:
    """What a stale or damaged stage's owner can do."""
    name = step.stage.name
    ways = [f"--rerun {name} moves the old folder aside and trains it again"]
    if step.state == "stale":
        ways.append(f"--accept {name} keeps its weights under the present config")
    return "; ".join([*ways, "or choose another --dir"]) + "."


def accept(step: Step) -> None:
    """Record the present config as the folder's own, if its weights still fit.

    Raises:
        UserError: the stage is not finished, or its shapes differ.
    """
    import torch
    from omegaconf import OmegaConf

    from gendiff.build import build_network
    from gendiff.config import to_plain
    from gendiff.storage import write_json, write_text
    from gendiff.weights import differences, explain, read_tensors

    name, run = step.stage.name, step.stage.run
    done = check_done(step.folder)
    for role in run.networks:
        path = weight_file(step.folder, role)
        with torch.device("meta"):
            wanted = build_network(run, role).state_dict()
        lines = differences(wanted, read_tensors(path))
        if lines:
            raise UserError(f"--accept {name}: the weights do not fit: {explain(lines)}.")
    old = read_json(step.folder / "stage.json")
    write_text(step.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(to_plain(run))))
    write_json(step.folder / "done.json", {**done, "fingerprint": step.record["fingerprint"]})
    write_json(
        step.folder / "stage.json",
        {**with_digests(step), "provenance": old.get("provenance"), "accepted": True},
    )
