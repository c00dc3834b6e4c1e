"""A stages file as stages in an order that their inits imply, all of it checked."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gendiff.config import SECTIONS, compose
from gendiff.errors import UserError, did_you_mean
from gendiff.extractors import NAMES
from gendiff.pipeline.shipped import find
from gendiff.sections import RunConfig
from gendiff.yaml_files import merge, read_overrides, read_yaml

STAGE_KEYS = ("config", "init", "chain")
COMMON_KEYS = ("hardware", "logging")
"""Sections that a stages file may hold for all of its stages; a stage's own win."""
CHAIN_KEYS = ("key", "values", "carry")


@dataclass(frozen=True)
class Ref:
    """``stage.role``: a role, an average or a product of another stage.

    ``stage`` is a name in this pipeline or, with a ``/`` in it, the folder of a finished stage.
    """

    stage: str
    role: str
    new: tuple[str, ...] = ()

    @property
    def outside(self) -> bool:
        return "/" in self.stage

    def __str__(self) -> str:
        return f"{self.stage}.{self.role}"


@dataclass(frozen=True)
class Stage:
    """One run and where its roles come from."""

    name: str
    run: RunConfig
    init: dict[str, Ref] = field(default_factory=dict)

    @property
    def parents(self) -> list[str]:
        """Stages of this pipeline that must be done before."""
        return sorted({ref.stage for ref in self.init.values() if not ref.outside})

    @property
    def needs(self) -> list[str]:
        """The parents, and the evaluator that measures the stage."""
        evaluator = self.run.evaluation.stage
        return [*self.parents, *([evaluator] if evaluator else [])]


@dataclass(frozen=True)
class Pipeline:
    """Stages by name, each after its parents; evaluators first."""

    name: str
    stages: dict[str, Stage]


def load_pipeline(target: str, words: list[str]) -> Pipeline:
    """A stages file or a single config, with ``key=value`` overrides, composed and checked.

    Raises:
        UserError: anything wrong in any stage, before anything is built.
    """
    path, kind = find(target, ("stages", "configs"))
    overrides = read_overrides(words)
    raw = read_yaml(path)
    if kind == "configs":
        if path.stem.startswith(".") or ".old-" in path.stem:  # as hidden ones and those put aside
            raise UserError(f"{path}: {path.stem!r} cannot be the name of a stage.")
        raw = merge(raw, overrides)
        init = raw.pop("init", {})
        blocks = {path.stem: {"raw": raw, "init": init}}
        aliases: dict[str, str] = {}
    else:
        blocks, aliases = expand_blocks(path, overrides)
    stages = {name: make_stage(name, block, blocks, aliases) for name, block in blocks.items()}
    add_evaluators(stages, path)
    return Pipeline(path.stem, in_order(stages))


def expand_blocks(
    path: Path, overrides: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Stage name -> {raw run, init}, chains written out; and chain name -> its last link."""
    raw = merge(read_yaml(path), overrides)
    for key in raw:
        if key not in ("stages", *COMMON_KEYS):
            hint = did_you_mean(str(key), ["stages", *COMMON_KEYS])
            if key in SECTIONS:
                hint = f" Of one stage it is stages.NAME.{key}."
            raise UserError(f"{path}: {key}: unknown key.{hint}")
    stages, common = raw.get("stages"), {k: v for k, v in raw.items() if k != "stages"}
    if not isinstance(stages, dict) or not stages:
        raise UserError(f"{path}: stages: must map each stage's name to its config and init.")
    blocks: dict[str, dict[str, Any]] = {}
    aliases: dict[str, str] = {}
    for name, body in stages.items():
        where = f"stages.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", str(name)):
            raise UserError(f"{where}: a stage's name is made of letters, digits, - and _.")
        if not isinstance(body, dict) or "config" not in body:
            known = [n for n, its in stages.items() if isinstance(its, dict) and "config" in its]
            hint = did_you_mean(str(name), known)
            if "mean" in hint:
                raise UserError(f"{where}: no such stage, and a new one needs a config.{hint}")
            keys = f"{', '.join(STAGE_KEYS)}, and any key of a run"
            raise UserError(f"{where}: needs a config. Keys: {keys}.")
        config, _ = find(str(body["config"]), ("configs",), path)
        rest = {key: value for key, value in body.items() if key not in STAGE_KEYS}
        run = merge(merge(read_yaml(config), common), rest)
        init = body.get("init") or {}
        if "chain" not in body:
            blocks[str(name)] = {"raw": run, "init": init}
            continue
        links = chain_links(str(name), run, init, body["chain"])
        clash = next((link for link in links if link in blocks or link in stages), None)
        if clash:
            raise UserError(f"{where}: its link {clash!r} is the name of another stage.")
        blocks |= links
        aliases[str(name)] = list(links)[-1]
    return blocks, aliases


def chain_links(name: str, raw: dict[str, Any], init: Any, chain: Any) -> dict[str, dict[str, Any]]:
    """One block a value: the first seeded by ``init``, each next also by the one before."""
    where = f"stages.{name}.chain"
    if not isinstance(chain, dict) or set(chain) != set(CHAIN_KEYS):
        raise UserError(f"{where}: has the keys {', '.join(CHAIN_KEYS)}, all of them.")
    values, carry = chain["values"], chain["carry"]
    if not isinstance(values, list) or not values or len(set(map(str, values))) < len(values):
        raise UserError(f"{where}.values: must be a list of different values.")
    if not isinstance(carry, dict):
        raise UserError(f"{where}.carry: must map my role to the role of the link before.")
    if not isinstance(init, dict):
        raise UserError(f"stages.{name}.init: must map my role to stage.role.")
    links: dict[str, dict[str, Any]] = {}
    before = None
    for value in values:
        run = OmegaConf.create(copy.deepcopy(raw))
        try:
            OmegaConf.update(run, str(chain["key"]), value)
        except (OmegaConfBaseException, TypeError, AttributeError, ValueError, IndexError):
            raise UserError(f"{where}.key: {chain['key']!r} is no key of this run.") from None
        carried: dict[str, str] = {}
        if before:
            carried = {role: f"{before}.{theirs}" for role, theirs in carry.items()}
        link = f"{name}-{value}"
        if not re.fullmatch(r"[\w.-]+", link):
            raise UserError(f"{where}.values: {value!r} cannot be part of a stage's name.")
        links[link] = {
            "raw": OmegaConf.to_container(run, resolve=False),
            "init": {**init, **carried},
        }
        before = link
    return links


def make_stage(
    name: str, block: dict[str, Any], blocks: Mapping[str, Any], aliases: Mapping[str, str]
) -> Stage:
    """Compose a stage's run and read its init."""
    run = compose(block["raw"], name)
    cls, where = run.method_class, f"{name}: init"
    if not isinstance(block["init"], dict):
        raise UserError(f"{where}: must map my role to stage.role.")
    init = {}
    allowed = [*cls.roles, *([cls.trains_on] if cls.trains_on else [])]
    for role, value in block["init"].items():
        if role not in allowed:
            raise UserError(
                f"{where}.{role}: {run.method.name} has no such role.{did_you_mean(role, allowed)}"
            )
        init[role] = read_ref(value, f"{where}.{role}", blocks, aliases)
    for role in (*cls.frozen, *([cls.trains_on] if cls.trains_on else [])):
        if role not in init:
            raise UserError(f"{where}.{role}: missing; {run.method.name} takes it from a stage.")
    return Stage(name, run, init)


def read_ref(value: Any, where: str, blocks: Mapping[str, Any], aliases: Mapping[str, str]) -> Ref:
    """``stage.role``, or ``{from: stage.role, new: [patterns]}``."""
    new: tuple[str, ...] = ()
    if isinstance(value, dict):
        if not {"from"} <= set(value) <= {"from", "new"} or not isinstance(
            value.get("new", []), list
        ):
            raise UserError(f"{where}: takes the keys from (stage.role) and new (a list).")
        value, new = value["from"], tuple(map(str, value.get("new", [])))
    stage, dot, role = str(value).rpartition(".")
    if not dot or not stage or not role:
        raise UserError(f"{where}: {value!r} must be stage.role, e.g. teacher.ema.")
    if "/" not in stage:
        stage = aliases.get(stage, stage)
        if stage not in blocks:
            hint = did_you_mean(stage, [*blocks, *aliases])
            raise UserError(f"{where}: no stage {stage!r}.{hint}")
    return Ref(stage, role, new)


def add_evaluators(stages: dict[str, Stage], near: Path) -> None:
    """The evaluators that stages are measured by become stages, trained on the same data and
    machines.

    Raises:
        UserError: no such evaluator, or other data than those of a stage it measures.
    """
    for stage in list(stages.values()):
        extractor = stage.run.evaluation.stage
        if not extractor:
            continue
        where = f"{stage.name}: evaluation.extractor"
        if extractor not in stages:
            try:
                raw = read_yaml(find(extractor, ("configs",), near)[0])
            except UserError as error:
                hint = did_you_mean(extractor, NAMES)
                raise UserError(f"{where}: {hint.strip() if 'mean' in hint else error}") from None
            mine: dict[str, Any] = {
                "data": {k: v for k, v in asdict(stage.run.data).items() if k != "batch_size"},
                "hardware": {**asdict(stage.run.hardware), "accumulate": 1, "strategy": "ddp"},
                "logging": asdict(stage.run.logging),
            }
            stages[extractor] = Stage(extractor, compose(merge(raw, mine), extractor))
        evaluator = stages[extractor].run
        if not evaluator.method_class.extracts:
            raise UserError(f"{where}: {extractor} is no evaluator.")
        if evaluator.data != replace(stage.run.data, batch_size=evaluator.data.batch_size):
            raise UserError(f"{where}: {extractor} is trained on other data than {stage.name}.")


def in_order(stages: dict[str, Stage]) -> dict[str, Stage]:
    """Parents before children, evaluators before all, else as written.

    Raises:
        UserError: a cycle, named.
    """
    try:
        TopologicalSorter({name: stage.parents for name, stage in stages.items()}).prepare()
    except CycleError as error:
        raise UserError(f"init: the stages form a cycle: {' -> '.join(error.args[1])}.") from None
    measuring = {stage.run.evaluation.stage for stage in stages.values()}
    waiting = sorted(stages, key=lambda name: name not in measuring)
    ordered: dict[str, Stage] = {}
    while waiting:
        name = next(n for n in waiting if set(stages[n].parents) <= set(ordered))
        ordered[name] = stages[name]
        waiting.remove(name)
    return ordered
