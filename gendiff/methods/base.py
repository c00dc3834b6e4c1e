"""What every method shares: roles and averages, the training step, and sampling.

A method knows nothing of files, YAML or other stages. It says which networks it has (``roles``),
which of them learn, and what a role's loss is. It works in a plain ``Trainer().fit`` as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from gendiff import averages
from gendiff.denoiser import Condition, DenoiserLike, network_of
from gendiff.errors import UserError
from gendiff.guidance import guide
from gendiff.methods.declared import Declared
from gendiff.methods.update import update
from gendiff.optim import OptimConfig, make_optimizer
from gendiff.paths import Cosine, Path
from gendiff.predictions import Kind
from gendiff.samplers.steps import Noise
from gendiff.seeding import Draws, key, reseed, sample_noise

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


class Method(Declared, LightningModule):
    """Base of all methods; `Declared` says what a simple one declares, and what it may override.

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
        self.seen: list[tuple[Tensor, Tensor]] = []
        """Times and detached errors of the whole batch's samples, a pair for each loss computed on
        it, (B,) of its part, if the method leaves them: losses by noise level are made of these."""
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
        self.losses, self.seen = {}, []
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
