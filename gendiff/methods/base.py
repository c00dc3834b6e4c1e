"""What every method shares: roles and averages, the training step, and sampling.

A method knows nothing of files, YAML or other stages. It says which networks it has (``roles``),
which of them learn, and what a role's loss is. It works in a plain ``Trainer().fit`` as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from gendiff import averages
from gendiff.denoiser import Condition, Denoiser, DenoiserLike, network_of
from gendiff.errors import UserError
from gendiff.guidance import guide
from gendiff.methods.reading import check_reading, reading_of
from gendiff.methods.update import update
from gendiff.optim import OptimConfig, make_optimizer
from gendiff.paths import Cosine, Path
from gendiff.predictions import Kind
from gendiff.samplers.steps import Noise
from gendiff.sampling import ANY_DENOISER, Sampling
from gendiff.seeding import Draws, key, reseed, sample_noise
from gendiff.training_times import check_even_times

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class MethodConfig:
    name: str
    prediction: Kind = "v"
    """What the student's output means."""
    sigma_data: float = 0.5
    """Standard deviation of the data, for edm prediction and weighting."""
    label_dropout: float = 0.0
    """Share of labels hidden in training, so that the student can be guided."""


class Method(LightningModule):
    """Base of all methods. Class attributes, the whole of what a simple method declares:

    - ``roles``: names of its networks; ``frozen``: those among them that never learn.
    - ``averages``: average -> role that it follows.
    - ``samplers``: names it can be sampled with, the default first; empty for an evaluator.
    - ``even_times``: trained at evenly spaced times, so these are its only grid and path.
    - ``speaker``: role (or average) that samples unless another is asked for.
    - ``companions``: role -> another whose weights its sampling needs.
    - ``trains_on``: a product of another stage whose rows are the batches, instead of the data.
    - ``products``: what it makes instead of training (see `produce`).
    - ``extracts``: an evaluator, with ``features(x) -> (features, logits)``.
    - ``version``: raised when a change here makes finished stages stale.

    Args:
        config: an instance of the class's ``Config``.
        networks: role -> network, for every role that learns (for sampling, some of them).
        path: the noise path of the student.
        frozen: role -> what `wrap` made of it, rebuilt from the stage it comes from.
        shape: of one sample, e.g. (1, 8, 8).
        classes: number of labels; 0 for unlabelled data.
        max_steps: global batches to train for; learning rates depend on it.
        seed, stage: key all randomness, together with the batch number.
        accumulate: parts that each batch is computed in.
    """

    Config: ClassVar[type[Any]] = MethodConfig
    roles: ClassVar[tuple[str, ...]] = ("student",)
    frozen: ClassVar[tuple[str, ...]] = ()
    averages: ClassVar[dict[str, str]] = {"ema": "student"}
    samplers: ClassVar[tuple[str, ...]] = ANY_DENOISER
    even_times: ClassVar[bool] = False
    speaker: ClassVar[str] = "ema"
    companions: ClassVar[dict[str, str]] = {}
    trains_on: ClassVar[str | None] = None
    products: ClassVar[tuple[str, ...]] = ()
    extracts: ClassVar[bool] = False
    version: ClassVar[int] = 1

    draw: Draws
    """Random numbers for the loss being computed: a pure function of (seed, stage, batch)."""
    skipped: Tensor
    """Updates skipped as gradients were not finite, (roles that learn, 2): in a row, in total."""

    def __init__(
        self,
        config: Any,
        networks: Mapping[str, nn.Module],
        path: Path | None = None,
        frozen: Mapping[str, Any] | None = None,
        optim: OptimConfig | None = None,
        *,
        shape: Sequence[int],
        classes: int = 0,
        max_steps: int = 1,
        seed: int = 0,
        stage: str = "",
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.path, self.optim = config, path or Cosine(), optim or OptimConfig()
        self.shape, self.classes = tuple(shape), classes
        self.max_steps, self.seed, self.stage = max_steps, seed, stage
        self.accumulate = accumulate
        self.batches_done = 0
        """Global batches trained on; with the state and optimizers, all there is to resume."""
        self.losses: dict[str, Tensor] = {}
        """Detached parts of the last losses, by ``role/part`` where there are several roles."""
        self.register_buffer("skipped", torch.zeros(len(self.learning), 2, dtype=torch.long))

        self.networks = nn.ModuleDict({r: n.requires_grad_(True) for r, n in networks.items()})
        kept = {a: networks[role] for a, role in self.averages.items() if role in networks}
        self.averaged = nn.ModuleDict({a: averages.average_of(n) for a, n in kept.items()})
        self.frozen_roles = dict(frozen or {})  # a plain dict: never in a checkpoint, nor in DDP
        for role, module in self.frozen_roles.items():
            network_of(module).requires_grad_(False).eval()
            object.__setattr__(self, role, module)
        for role, network in (*self.networks.items(), *self.averaged.items()):
            object.__setattr__(self, role, self.wrap(role, network, self.path, config))

    # ---- what methods override ---------------------------------------------------------------

    @classmethod
    def variant(cls, config: Any) -> type[Method]:
        """The class that trains a config: this one, or one with further networks."""
        return cls

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        """What a role's network becomes: a Denoiser, unless the method says otherwise."""
        return Denoiser(network, path, reading_of(config))

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        """Input and output channels of a role's network, for samples of this shape."""
        return shape[0], shape[0]

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        """Refuse impossible choices while the config loads; methods add their own.

        Raises:
            ValueError: the message begins with the key.
        """
        if not 0 <= getattr(config, "label_dropout", 0) <= 1:
            raise ValueError(f"label_dropout: {config.label_dropout} must be in [0, 1]")
        if hasattr(config, "prediction"):
            check_reading(config, path)
        if cls.even_times:
            check_even_times(config.name, path)

    @classmethod
    def sampling(cls, config: Any, path: Path, text: str | None, steps: int | None) -> Sampling:
        """The sampler asked for, or the default; checked for so many steps if they are given.

        Raises:
            ValueError: the method cannot be sampled so; the message says what it can.
        """
        if not cls.samplers:
            raise ValueError(f"{config.name} cannot be sampled")
        sampling = Sampling.parse(text or cls.samplers[0], cls.samplers)
        if steps is not None:
            sampling.check(path, steps, cls.even_times)
        return sampling

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        """Refuse network configs, by role, that the method cannot use; methods say which.

        Raises:
            ValueError: the message begins with the role and key.
        """

    @classmethod
    def settle(cls, config: Any, path: Path, rows: Callable[[], Any]) -> Any:
        """The config with what it leaves to the data, fields that are none, decided.

        Args:
            rows: opens the rows that are trained on; methods that leave nothing open never call it.

        Raises:
            UserError: the data allow no choice.
        """
        return config

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int] | None:
        """Fewest and most sampling steps that the training covers; None for any number."""
        return None

    def turns(self, batches_done: int) -> tuple[str, ...]:
        """Roles updated in this batch, in order."""
        return self.learning

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        """``{"loss": scalar, ...parts to log}`` of a role on a batch {x0, label, index}."""
        raise TypeError(f"{type(self).__name__} does not train")

    def after_update(self, role: str) -> None:
        """What a role's weights need after each of their updates."""

    def condition(self, batch: Batch) -> Batch:
        """The labels, a share of them hidden behind the null label; empty without labels."""
        if not self.classes:
            return {}
        hidden = self.draw.uniform() < self.config.label_dropout
        return {"label": batch["label"].masked_fill(hidden, self.classes)}

    def guided(self, denoiser: DenoiserLike, weight: float) -> DenoiserLike:
        """A denoiser to sample, with a guidance weight."""
        return guide(denoiser, weight)

    def produce(self, indices: Tensor) -> Batch:
        """Rows of the product at these indices, a pure function of (seed, index)."""
        raise TypeError(f"{type(self).__name__} makes no product")

    def start(self, n: int, cond: Condition, noise: Noise, role: str) -> tuple[Tensor, float]:
        """Where a role's sampling begins: x, (n, *shape), and its time."""
        t_max = torch.tensor(self.path.t_max)
        return self.path.sigma(t_max).to(self.device) * noise(-1), self.path.t_max

    @property
    def learning(self) -> tuple[str, ...]:
        """Roles that learn, in the order of their optimizers."""
        return tuple(role for role in self.roles if role not in self.frozen)

    def configure_optimizers(self) -> list[Optimizer]:
        return [make_optimizer(self.optim, self.networks[r].parameters()) for r in self.learning]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One global batch: each role whose turn it is, then the averages."""
        reseed(key(self.seed, self.stage, self.batches_done, self.global_rank), self.device)
        self.losses = {}
        for role in self.turns(self.batches_done):
            update(self, role, batch)
            self.after_update(role)
        decay = averages.decay_at(self.batches_done, self.optim.ema_decay)
        for name, role in self.averages.items():
            averages.update(self.averaged[name], self.networks[role], decay)
        self.batches_done += 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_done"] = self.batches_done

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_done = checkpoint["batches_done"]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        for module in self.frozen_roles.values():  # unregistered, but they move with the rest
            network_of(module)._apply(fn)
        return super()._apply(fn, recurse)

    # ---- sampling ----------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        n: int,
        steps: int,
        *,
        role: str | None = None,
        sampler: str | None = None,
        labels: Tensor | None = None,
        guidance: float = 0.0,
        seed: int = 0,
        first: int = 0,
    ) -> Tensor:
        """Draw n samples, (n, *shape) float32.

        Sample i depends on (seed, first + i) alone, so any split into batches draws the same.

        Args:
            sampler: a name, with settings, path and grid if need be (see `Sampling`).

        Raises:
            UserError: this method cannot be sampled so; the message says what it can.
        """
        covered = self.steps_range(self.config)
        if steps < 1 or (covered and not covered[0] <= steps <= covered[1]):
            what = f"{covered[0]} to {covered[1]}" if covered else "at least 1"
            raise UserError(f"steps: {steps}; this {self.config.name} model takes {what}.")
        try:
            sampling = self.sampling(self.config, self.path, sampler, steps)
        except ValueError as error:
            raise UserError(f"sampler: {error}") from None
        noise = sample_noise(seed, first, n, self.shape, self.device)
        role = role or self.speaker
        cond = {} if labels is None else {"label": labels.to(self.device)}
        x, start = self.start(n, cond, noise, role)
        if not start:  # nothing is left to denoise
            return x
        denoiser = self.guided(getattr(self, role), guidance)
        return sampling.run(denoiser, x, steps, cond, noise, start)
