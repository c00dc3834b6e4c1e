"""The state of every stage on disk, read before anything is trained and touching nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gendiff.build import check_done, check_file
from gendiff.checkpoint import Checkpoints, owner_of
from gendiff.errors import UserError
from gendiff.pipeline.fingerprint import changes, digest, identity
from gendiff.pipeline.inits import check_init
from gendiff.pipeline.stages import Pipeline, Ref, Stage
from gendiff.storage import known_sha256, read_json, sha256
from gendiff.train import Source

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
        UserError: an init that cannot fit: unknown role, other shapes or other prediction; or the
            folder is a stage's.
    """
    if (run_folder / "stage.json").exists():
        raise UserError(f"--dir: {run_folder} is a stage's folder; a run has one of its own.")
    plan: dict[str, Step] = {}
    for stage in pipeline.stages.values():
        check_init(stage, pipeline)
        plan[stage.name] = inspect(stage, run_folder / stage.name, plan)
    return list(plan.values())


def make_record(stage: Stage, run_folder: Path, plan: dict[str, Step]) -> dict[str, Any]:
    """Fingerprint, identity, each parent's fingerprint and weight digest, place in the pipeline."""
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
    term = getattr(stage.run.method, "perceptual", None)
    if term and term.weight:
        folder = run_folder / stage.name
        what["method"]["perceptual"]["weights_digest"] = weights_digest(term.weights, folder)
    return {
        "stage": stage.name,
        "place": [*plan, stage.name].index(stage.name),
        "fingerprint": digest({"run": what, "init": init}),
        "identity": what,
        "init": init,
    }


def weights_digest(weights: str, folder: Path) -> str | None:
    """SHA-256 of the file that a perceptual term reads; as recorded where it is there no more."""
    if Path(weights).is_file():
        return sha256(Path(weights))
    try:
        old = read_json(folder / "stage.json")["identity"]["method"]["perceptual"]
        return str(old["weights_digest"])
    except (UserError, KeyError, TypeError):  # not begun, or damaged, which `inspect` tells
        return None


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
    waits = [name for name in stage.needs if plan[name].state != "done"]

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
        if old["stage"] != stage.name:  # whose random numbers are others, with any fingerprint
            whose = f"{folder / 'stage.json'} is of stage {old['stage']!r}"
            return step("damaged", why=[whose])
        if old["fingerprint"] != record["fingerprint"]:
            return step("stale", why=changes(_compared(old), _compared(record)))
        moved = [role for role, was in old["init"].items() if _moved(stage, folder, role, was)]
        if moved:
            why = [f"init.{r}: the weights of {old['init'][r]['from']} changed" for r in moved]
            return step("stale", why=why)
        if (folder / "done.json").exists():
            done = check_done(folder)
            if done.get("fingerprint") != old["fingerprint"] or type(done.get("steps")) is not int:
                return step("damaged", why=[f"{folder / 'done.json'} is of another run"])
            for name in done["digests"]:
                check_file(folder, name, done, known_sha256)
            return step("done", done["steps"])
        if stage.run.method_class.products:
            return step("resumable")
        checkpoints = Checkpoints(folder, owner_of(old))
        if (newest := checkpoints.newest()) is None:
            what = "lists no whole checkpoint of this stage" if saved else "is missing"
            return step("damaged", why=[f"{checkpoints.manifest} {what}"])
        return step("resumable", newest)
    except UserError as error:
        return step("damaged", why=[str(error)])
    except (KeyError, TypeError, AttributeError):
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
