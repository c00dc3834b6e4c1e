"""What every method shares: roles and averages, the training step, and sampling.

A method is a LightningModule that knows nothing of files, YAML or other stages. It says which
networks it has (``roles``), which of them learn, and what a role's loss on a batch is; the rest
is here. It also works in a plain ``Trainer().fit(method, datamodule)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from gendiff import averages, registry
from gendiff.denoiser import Condition, Denoiser, DenoiserLike, Kind
from gendiff.errors import UserError
from gendiff.guidance import guide
from gendiff.optim import OptimConfig, lr_factor, make_optimizer, set_lr
from gendiff.paths import Cosine, Path
from gendiff.samplers.grid import Noise, time_grid
from gendiff.seeding import Draws, block_size, key, reseed

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class MethodConfig:
    name: str
    prediction: Kind = "v"
    """What the student's output means."""
    label_dropout: float = 0.0
    """Share of labels hidden in training, so that the student can be guided."""


class Method(LightningModule):
    """Base of all methods.

    Class attributes, the whole of what a simple method declares:

    - ``roles``: names of its networks; ``frozen``: those among them that never learn.
    - ``averages``: average -> role that it follows.
    - ``samplers``: names it can be sampled with, the default first; empty for an evaluator.
    - ``speaker``: role (or average) that samples unless another is asked for.
    - ``trains_on``: a product of another stage whose rows are the batches, instead of the data.
    - ``products``: what it makes instead of training (see `produce`).
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
    samplers: ClassVar[tuple[str, ...]] = ("ddim", "ancestral")
    speaker: ClassVar[str] = "ema"
    trains_on: ClassVar[str | None] = None
    products: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1

    draw: Draws
    """Random numbers for the loss being computed: a pure function of (seed, stage, batch)."""

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
        """Global batches trained on; with the weights and optimizers, all there is to resume."""
        self.losses: dict[str, Tensor] = {}
        """Detached parts of the last losses, by ``role/part`` where there are several roles."""

        self.networks = nn.ModuleDict({r: n.requires_grad_(True) for r, n in networks.items()})
        self.averaged = nn.ModuleDict(
            {
                average: averages.average_of(networks[role])
                for average, role in self.averages.items()
                if role in networks
            }
        )
        self.frozen_roles = dict(frozen or {})  # a plain dict: never in a checkpoint, nor in DDP
        for role, module in self.frozen_roles.items():
            network_of(module).requires_grad_(False).eval()
            object.__setattr__(self, role, module)
        for role, network in [*self.networks.items(), *self.averaged.items()]:
            object.__setattr__(self, role, self.wrap(role, network, self.path, config))

    # ---- what methods override ---------------------------------------------------------------

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        """What a role's network becomes: a Denoiser, unless the method says otherwise."""
        return Denoiser(network, path, config.prediction)

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        """Input and output channels of a role's network, for samples of this shape."""
        return shape[0], Denoiser.output_channels(shape[0])

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        """Refuse impossible choices while the config loads; methods add their own.

        Raises:
            ValueError: the message begins with the key.
        """
        if not 0 <= getattr(config, "label_dropout", 0) <= 1:
            raise ValueError(f"label_dropout: {config.label_dropout} must be in [0, 1]")
        # eps says nothing about x0 where alpha is 0
        last = torch.tensor(path.t_max)
        if getattr(config, "prediction", None) == "eps" and path.alpha(last) == 0:
            name = type(path).__name__
            raise ValueError(f"prediction: eps does not fit {name}, whose alpha ends at 0")

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        """Refuse network configs, by role, that the method cannot use; methods say which.

        Raises:
            ValueError: the message begins with the role and key.
        """

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

    def condition(self, batch: Batch) -> Batch:
        """The labels, a share of them hidden behind the null label; empty without labels."""
        if not self.classes:
            return {}
        hidden = self.draw.uniform() < self.config.label_dropout
        return {"label": batch["label"].masked_fill(hidden, self.classes)}

    def produce(self, indices: Tensor) -> Batch:
        """Rows of the product at these indices, a pure function of (seed, index)."""
        raise TypeError(f"{type(self).__name__} makes no product")

    def start(self, n: int, cond: Condition, noise: Noise) -> tuple[Tensor, float]:
        """Where sampling begins: x, (n, *shape), and its time."""
        t_max = torch.tensor(self.path.t_max)
        return self.path.sigma(t_max).to(self.device) * noise(-1), self.path.t_max

    # ---- training ----------------------------------------------------------------------------

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
            self._update(role, batch)
        decay = averages.decay_at(self.batches_done, self.optim.ema_decay)
        for average, role in self.averages.items():
            averages.update(self.averaged[average], self.networks[role], decay)
        self.batches_done += 1

    def _update(self, role: str, batch: Batch) -> None:
        optimizer: Any = self.optimizers()
        if isinstance(optimizer, list):
            optimizer = optimizer[self.learning.index(role)]
            for other in self.learning:  # no gradients for those whose turn it is not
                self.networks[other].requires_grad_(other == role)
        count = len(next(iter(batch.values())))
        part, world = count // self.accumulate, self.trainer.world_size
        block = block_size(count * world)
        parts: list[dict[str, Tensor]] = []
        for start in range(0, count, part):
            self.draw = Draws(
                (self.seed, self.stage, self.batches_done, role),
                self.global_rank * count + start,
                part,
                block,
                self.device,
            )
            losses = self.loss({k: v[start : start + part] for k, v in batch.items()}, role)
            self.manual_backward(losses["loss"] / self.accumulate)
            parts.append({name: value.detach() for name, value in losses.items()})
        if self.optim.clip_norm:
            nn.utils.clip_grad_norm_(self.networks[role].parameters(), self.optim.clip_norm)
        peak = self.optim.lr_by_role.get(role, self.optim.lr)
        set_lr(optimizer, peak * lr_factor(self.optim, self.batches_done, self.max_steps))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        prefix = f"{role}/" if len(self.learning) > 1 else ""
        for name in parts[0]:
            self.losses[prefix + name] = torch.stack([p[name] for p in parts]).mean()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_done"] = self.batches_done

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_done = checkpoint["batches_done"]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        for module in self.frozen_roles.values():  # unregistered, but they move with the rest
            network_of(module)._apply(fn)
        return super()._apply(fn, recurse)

    # ---- sampling ----------------------------------------------------------------------------

    def grid(self, sampler: str, steps: int, start: float) -> Tensor:
        """The times a sampler visits, (steps + 1,), noisy to clean."""
        times = time_grid(self.path, steps, device=self.device)
        return times * (start / self.path.t_max)

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

        Raises:
            UserError: this method cannot be sampled so; the message says what it can.
        """
        sampler = sampler or next(iter(self.samplers), "")
        if sampler not in self.samplers:
            can = f"can use {', '.join(self.samplers)}" if self.samplers else "cannot be sampled"
            raise UserError(f"sampler: {sampler!r} does not fit {self.config.name}, which {can}.")
        low, high = self.steps_range(self.config) or (1, max(1, steps))
        if not low <= steps <= high:
            what = f"{low} to {high}" if self.steps_range(self.config) else "at least 1"
            raise UserError(f"steps: {steps}; this {self.config.name} model takes {what}.")

        def noise(step: int, *shape: int) -> Tensor:
            draws = Draws([seed, "sample", step, *shape], first, n, 1, self.device)
            return draws.normal(*(shape or self.shape))

        cond = {} if labels is None else {"label": labels.to(self.device)}
        x, start = self.start(n, cond, noise)
        speaker: DenoiserLike = getattr(self, role or self.speaker)
        times = self.grid(sampler, steps, start)
        return registry.lookup("samplers", sampler)(guide(speaker, guidance), x, times, cond, noise)


def network_of(module: Any) -> nn.Module:
    """The network of a role, whether wrapped or not."""
    return getattr(module, "network", module)


def mean_square(error: Tensor) -> Tensor:
    """Per-sample mean, (B,)."""
    return error.square().flatten(1).mean(1)
