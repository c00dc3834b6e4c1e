"""One training run as a frozen dataclass, and the sections of it that are the same for all."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from gendiff import registry
from gendiff.extractors import is_pretrained
from gendiff.optim import OptimConfig

OUTSIDE = {"identity": False}
"""Metadata of a field that does not change what is trained, and so not the fingerprint."""

BOUNDS = {
    "data.batch_size": (1, 10**6),
    "trainer.max_steps": (1, math.inf),
    "trainer.checkpoint_steps": (1, math.inf),
    "trainer.skip_limit": (0, math.inf),
    "trainer.checkpoint_minutes": (0.01, 10**6),
    "hardware.devices": (1, 1000),
    "hardware.nodes": (1, 10**5),
    "hardware.timeout_minutes": (0.01, 10**5),
    "hardware.accumulate": (1, math.inf),
    "hardware.workers": (0, 1000),
    "logging.every_steps": (1, math.inf),
    "evaluation.steps": (1, math.inf),
    "evaluation.samples": (2, math.inf),
    "evaluation.draws": (1, 10**4),
    "evaluation.batch_size": (1, math.inf),
    "evaluation.watch_times": (0, 1000),
}
"""Least and most of numbers that may be too small, or so large that a run would never begin."""


@dataclass(frozen=True)
class TrainerConfig:
    max_steps: int = 1000
    """Global batches, whatever the number of optimizers."""
    checkpoint_steps: int = field(default=500, metadata=OUTSIDE)
    """Global batches between checkpoints."""
    checkpoint_minutes: float = field(default=15.0, metadata=OUTSIDE)
    """Most minutes between checkpoints."""
    skip_limit: int = field(default=20, metadata=OUTSIDE)
    """Updates of a role skipped in a row, as gradients were not finite, that end the training (in
    short ones, half of them do); 0 for never. Looked at when losses are logged."""


@dataclass(frozen=True)
class EvaluationConfig:
    extractor: str | None = None
    """Whose features are compared: an evaluator's config, trained first; or inception, dinov2 or
    timm/NAME, with weights. None compares the data themselves."""
    weights: str | None = None
    """File of a pretrained extractor's weights."""
    metrics: list[str] = field(default_factory=list)
    """Figures to compute; none takes all that apply."""
    steps: list[int] = field(default_factory=list)
    """Sampling steps to evaluate at; none evaluates nothing."""
    samplers: list[str] = field(default_factory=list)
    """Samplers to evaluate; none takes the method's default."""
    guidance: list[float] = field(default_factory=lambda: [0.0])
    """Guidance weights to evaluate."""
    roles: list[str] = field(default_factory=list)
    """Whose weights are evaluated; none takes the averaged ones."""
    samples: int | None = None
    """Samples a draw, and real ones they are compared with; none takes all that are held out."""
    draws: int = 5
    """Independent sample sets a point; a single one takes its interval from its tenths."""
    batch_size: int = 512
    """Samples drawn at a time."""
    watch_times: int = 3
    """Times in training that samples are watched for collapse and copies; 0 never."""

    @property
    def stage(self) -> str | None:
        """The stage that trains the extractor, if one does."""
        pretrained = self.extractor is not None and is_pretrained(self.extractor)
        return None if pretrained else self.extractor


@dataclass(frozen=True)
class HardwareConfig:
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    """Processes on this node; all stages of a run have as many as the one that asks for most.
    torchrun and srun say themselves how many there are."""
    nodes: int = 1
    """Machines of a SLURM job (``--slurm``)."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """fsdp shares weights, averages, moments and teachers out over the processes, for networks that
    one GPU cannot hold; each holds all of them with ddp. A run may change it half-way."""
    timeout_minutes: float = 60.0
    """That a process waits for another before it gives up, and says for which."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes in mixed precision; weights and averages stay float32."""
    accumulate: int = 1
    """Parts a global batch is computed in."""
    workers: int = 0
    """Processes that read and decode the data ahead; 0 for the main one."""


@dataclass(frozen=True)
class LoggingConfig:
    every_steps: int = 50
    """Global batches between logged losses."""
    tensorboard: bool = False
    wandb: Literal["online", "offline", "off"] = "off"
    project: str = "gendiff"
    """W&B project."""


@dataclass(frozen=True)
class RunConfig:
    """All that one training run is; ``networks`` maps role -> network config."""

    data: Any
    networks: dict[str, Any]
    path: Any
    method: Any
    optim: OptimConfig
    trainer: TrainerConfig
    seed: int
    evaluation: EvaluationConfig = field(metadata=OUTSIDE)
    hardware: HardwareConfig = field(metadata=OUTSIDE)
    logging: LoggingConfig = field(metadata=OUTSIDE)

    @property
    def method_class(self) -> Any:
        return registry.lookup("methods", self.method.name).variant(self.method)

    @property
    def conditional(self) -> bool:
        """Whether the network that samples takes labels."""
        cls = self.method_class
        network = self.networks.get(cls.averages.get(cls.speaker, cls.speaker))
        return "label" in getattr(network, "conditions", {})

    def make_path(self) -> Any:
        """The noise path of the student."""
        values = {k: v for k, v in dataclasses.asdict(self.path).items() if k != "name"}
        return registry.lookup("paths", self.path.name)(**values)

    def network_shape(self, role: str) -> tuple[tuple[int, ...], int]:
        """Input shape and output channels of a role's network."""
        shape = self.data.shape
        channels, out = self.method_class.channels(role, shape, self.method)
        return (channels, *shape[1:]), out
