"""One stage, from its init or its checkpoint to its weight files."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from gendiff import registry
from gendiff.build import (
    build_method,
    check_done,
    check_file,
    device_of,
    features_of,
    load_role,
)
from gendiff.checkpoint import Checkpoints, owner_of
from gendiff.config import to_yaml
from gendiff.data.base import DataModule
from gendiff.errors import Lost, UserError, other_rows
from gendiff.evaluation.guard import Guard
from gendiff.keeper import Keeper, seconds_of
from gendiff.methods.base import Method
from gendiff.products import make_product, open_product
from gendiff.progress import Reporter
from gendiff.provenance import cost_of, provenance
from gendiff.ranks import Ranks
from gendiff.sections import RunConfig
from gendiff.settle import settled
from gendiff.sharding import Sharded, gathered
from gendiff.signals import Stop
from gendiff.storage import sha256, write_json, write_text
from gendiff.tracking import Tracker, make_trackers
from gendiff.weights import load_weights, save_tensors, weight_file
from gendiff.yaml_files import one_line


@dataclass(frozen=True)
class Source:
    """Where a role comes from: a finished stage's folder, a role or product of it."""

    folder: Path
    role: str
    new: tuple[str, ...] = ()
    """Patterns of parameters that the source need not have."""

    @property
    def file(self) -> Path:
        """The role's weights, digest checked."""
        return check_file(self.folder, f"weights/{self.role}.safetensors", check_done(self.folder))


@dataclass(frozen=True)
class Job:
    """One stage to train: what, where, and from what."""

    run: RunConfig
    name: str
    folder: Path
    init: Mapping[str, Source]
    record: Mapping[str, Any]
    """What ``stage.json`` says of the stage: its fingerprint and parents."""
    also: tuple[Tracker, ...] = ()
    """Told of losses, besides what the run's ``logging`` asks for."""


def train_stage(job: Job, reporter: Reporter, stop: Stop, title: str, ranks: Ranks) -> None:
    """Train (or resume) a stage, on all ranks; write its weight files and ``done.json``.

    Raises:
        Interrupted: a signal asked to stop; a checkpoint holds everything.
        UserError: the loss is not finite, a file is damaged, the disk is full.
        Lost: a worker that reads the data was killed.
    """
    rows = partial(batches_from, job.run.method_class, job)
    begun = ranks.decide(lambda: (job.folder / "stage.json").is_file())
    found = settled(job.run, job.folder, begun, rows, reporter.say)
    job = replace(job, run=ranks.agree(found))
    run = job.run
    device = ranks.together(lambda: device_of(run, ranks.local))[ranks.rank]
    frozen = {r: load_role(job.init[r].folder, job.init[r].role) for r in run.method_class.frozen}
    frozen |= features_of(run)
    method, start = build_method(run, job.name, frozen), time.monotonic()
    if not sharded(run, ranks):  # their shares alone go there
        method.to(device)
    if method.products:
        ranks.decide(lambda: begin(job))
        digests = produce(method, job, reporter, title)
        seconds = None if begun else time.monotonic() - start
    else:
        seconds = fit(method, job, reporter, stop, title, ranks)
        digests = save_networks(method, job.folder, ranks)
    cost = cost_of(seconds, ranks, device)
    ranks.decide(lambda: finish(job, digests, cost))


def sharded(run: RunConfig, ranks: Ranks) -> bool:
    """Whether the networks of a run are shared out: one process alone holds them whole."""
    return run.hardware.strategy == "fsdp" and ranks.world > 1


def save_networks(method: Method, folder: Path, ranks: Ranks) -> dict[str, str]:
    """Write every role and average; returns the digests of their files."""
    digests = {}
    for role, network in (*method.networks.items(), *method.averaged.items()):
        state, path = gathered(network.state_dict(), keep=ranks.first), weight_file(folder, role)
        digests[f"weights/{path.name}"] = ranks.decide(partial(save_tensors, state, path))
    return digests


def finish(job: Job, digests: Mapping[str, str], cost: Mapping[str, Any]) -> None:
    """Write ``done.json``: the stage is finished."""
    config = sha256(job.folder / "config.yaml")  # it says what the weights mean
    write_json(
        job.folder / "done.json",
        {
            "fingerprint": job.record["fingerprint"],
            "steps": planned(job.run),
            **cost,
            "digests": {**digests, "config.yaml": config},
        },
    )


def planned(run: RunConfig) -> int:
    """Global batches that a run trains for, or rows that it makes."""
    return int(run.method.count if run.method_class.products else run.trainer.max_steps)


def seed_roles(method: Method, init: Mapping[str, Source]) -> None:
    """Give the roles that learn, and their averages, the weights they are to start from."""
    for role in method.learning:
        if role in init:
            load_weights(method.networks[role], init[role].file, init[role].new)
            for average, followed in method.averages.items():
                if followed == role:
                    method.averaged[average].load_state_dict(method.networks[role].state_dict())


def begin(job: Job) -> None:
    """Write ``config.yaml`` and, last, ``stage.json``: the stage has begun."""
    write_text(job.folder / "config.yaml", to_yaml(job.run))
    if not (job.folder / "stage.json").is_file():
        settled = {"settled": asdict(job.run.method)}
        record = {**job.record, **settled, "provenance": provenance()}
        write_json(job.folder / "stage.json", record)


def produce(method: Method, job: Job, reporter: Reporter, title: str) -> dict[str, str]:
    """Make a product stage's rows; returns the digests of its files."""
    teachers = {role: sha256(job.init[role].file) for role in method.frozen}
    with reporter.task(title, job.run.method.count, done=None, verb="row") as task:
        return make_product(method.eval(), job.run, job.folder, teachers, task.update)


def check_rows(name: str, state: Mapping[str, Any] | None, now: int) -> None:
    """
    Raises:
        UserError: a stage that is half done began with other data.
    """
    was = state.get("rows", now) if state else now
    if was != now:
        raise other_rows(f"{name}: data", was, now)


def batches_from(method: Method | type[Method], job: Job) -> Any:
    """The rows to train on: the data's training half, or another stage's product."""
    if not method.trains_on:
        return registry.lookup("data", job.run.data.name)(job.run.data).train
    source = job.init[method.trains_on]
    return open_product(source.folder, source.role, job.run)


def fit(
    method: Method, job: Job, reporter: Reporter, stop: Stop, title: str, ranks: Ranks
) -> float | None:
    """Run Lightning's loop over the batches that are not done yet; returns what all have taken, s,
    if it is known.
    """
    run, checkpoints = job.run, Checkpoints(job.folder, owner_of(job.record))
    state = checkpoints.load(reporter.warn, ranks)
    if state is None:
        seed_roles(method, job.init)
        fresh = {"batches_done": 0, "seconds": 0.0, "state": method.state_dict(), "optimizers": []}
        # begun only once something can be resumed: a kill before this line loses nothing
        ranks.decide(lambda: checkpoints.save(fresh, 0))
    else:
        try:
            method.load_state_dict({"skipped": method.skipped, **state["state"]})
        except (KeyError, TypeError, RuntimeError) as error:
            what = f"its newest checkpoint is not this stage's ({one_line(error)})"
            raise UserError(f"{checkpoints.folder}: {what}.") from None
        method.batches_done = state["batches_done"]
    ranks.decide(lambda: begin(job))
    if method.batches_done == method.max_steps:
        return seconds_of(state) if state else None
    dataset = batches_from(method, job)
    ranks.decide(lambda: check_rows(job.name, state, len(dataset)))
    device, say = device_of(run, ranks.local), reporter.say
    trackers: list[Tracker] = []
    hush()
    # deterministic kernels come with this, against code that reads what it never wrote: 2 % of time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by its module's class
    with reporter.task(title, method.max_steps, method.batches_done) as task:
        guard = Guard(run, job.folder, method, device, ranks, say)

        def open_logs() -> None:
            trackers.extend(make_trackers(job.folder, run, method.batches_done, say))
            trackers.extend(job.also)

        ranks.decide(open_logs)
        keeper = Keeper(run, checkpoints, state, trackers, task, stop, guard, ranks)
        alone = ranks.world == 1
        strategy = Sharded() if sharded(run, ranks) else DDPStrategy(broadcast_buffers=False)
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=ranks.world // ranks.nodes,
            num_nodes=ranks.nodes,
            strategy="auto" if alone else strategy,
            # ours to say: Lightning would ask SLURM's variables even of a single process
            plugins=[LightningEnvironment() if alone else TorchElasticEnvironment()],
            precision="bf16-mixed" if run.hardware.precision == "bf16" else "32-true",
            max_epochs=1,
            deterministic="warn",
            callbacks=[keeper],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        # Lightning's answer to SIGTERM leaves with code 0, or waits in a message for other ranks
        connector: Any = trainer._signal_connector
        connector.register_signal_handlers = lambda: None
        try:
            trainer.fit(method, DataModule(dataset, run.data.batch_size, run.hardware.workers))
        except RuntimeError as error:  # raised wherever this process is when its worker dies
            if not str(error).startswith("DataLoader worker"):
                raise
            raise Lost(f"{job.name}: {one_line(error)}") from None
        finally:
            stop.patient = False
            for tracker in trackers:
                tracker.close()
        return keeper.seconds()


def hush() -> None:
    """Lightning's advertisements and hints are not for our users."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated.*")  # by torch
