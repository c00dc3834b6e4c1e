"""Consistency distillation: neighbours on a teacher's trajectory are sent to the same x0.

Song, Dhariwal, Chen & Sutskever, "Consistency Models" (CM), ICML 2023, Algorithm 2. By default the
target is the student itself without an average, the distance pseudo-Huber and the curriculum
doubles, as Song & Dhariwal, "Improved Techniques for Training Consistency Models" (iCT), ICLR
2024, found best for consistency training.

The x0 read from any prediction but x0 is x itself at t = 0, so it meets the boundary condition
(CM, Eq. 5) without scalings of its own, and equals the teacher's x0 at the start; a student that
predicts x0 gets a skip there, too narrow to be seen elsewhere. CM's exact boundary is at sigma =
0.002 instead. Times are those of the path's own grid, or of CM's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from gendiff import averages
from gendiff.curricula import cm_scales, cm_target_ema, ict_pmf, ict_scales, ict_weights
from gendiff.denoiser import Denoiser, along
from gendiff.guidance import guide
from gendiff.loss_weights import mean_square
from gendiff.methods.base import Batch, Method, MethodConfig
from gendiff.paths import Path, expand
from gendiff.paths.base import SIGMA_MIN
from gendiff.predictions import Reading
from gendiff.samplers import time_grid
from gendiff.samplers.grid import GridKind
from gendiff.sampling import Sampling

DISTANCES = {"pseudo_huber": lambda error: pseudo_huber(error), "squared_l2": mean_square}


@dataclass(frozen=True)
class NeighboursConfig(MethodConfig):
    """What distillation and training of consistency models share."""

    intervals: int = 32
    """Intervals that time is cut into, at the end of training."""
    first_intervals: int = 8
    """Intervals at the start."""
    curriculum: Literal["ict", "cm"] = "ict"
    """How they grow: doubling in equal stages of training, or with a square that grows evenly."""
    grid: GridKind | None = None
    """How time is cut (see `time_grid`); none takes the path's own way. CM's is karras."""
    times: Literal["uniform", "log_normal"] = "uniform"
    """How intervals are drawn; log_normal (iCT) by ln(sigma / alpha)."""
    times_mean: float = -1.1
    """Of the normal behind log_normal."""
    times_std: float = 2.0
    """Of the normal behind log_normal."""
    weight: Literal["uniform", "inverse_step"] = "uniform"
    """Weight of an interval; inverse_step (iCT) is 1 over its length in sigma / alpha."""
    distance: Literal["pseudo_huber", "squared_l2"] = "pseudo_huber"
    """Of the two x0: on the whole vector, or the mean square over dimensions."""
    target_decay: float = 0.0
    """Share that the target keeps of its past a batch; 0: the target is the student itself. With
    the curriculum cm that of the start, which then tends to 1 (CM, Appendix C)."""


@dataclass(frozen=True)
class ConsistencyConfig(NeighboursConfig):
    name: str = "consistency"
    solver: Literal["ddim", "euler", "heun", "heun_x0"] = "ddim"
    """How the teacher takes a step; the last two cost two calls. euler and heun are the samplers of
    that name, in the path's own time, which on ve and edm is the papers' sigma; ddim is Euler in
    sigma / alpha, heun_x0 Heun in alpha / sigma: it averages x0."""
    guidance: float = 0.0
    """Guidance weight of the teacher."""


class Jumping(Method):
    """Base of consistency models: methods whose student jumps to the clean end from any time."""

    samplers = ("consistency",)
    student: Denoiser

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Denoiser:
        skip = SIGMA_MIN if config.prediction == "x0" else 0.0
        return Denoiser(network, path, Reading(config.prediction, config.sigma_data, skip))

    @classmethod
    def sampling(cls, config: Any, path: Path, text: str | None, steps: int | None) -> Sampling:
        sampling = Sampling.parse(text or cls.samplers[0], cls.samplers)
        own = None if sampling.path else getattr(config, "grid", None)
        # a last jump from t_min would be one of two steps for nothing
        sampling = replace(sampling, grid=sampling.grid or own, jump=False)
        if steps is not None:
            sampling.check(path, steps)
        return sampling

    @contextmanager
    def as_target(self) -> Iterator[None]:
        """No gradients, and the dropout of what follows (CM, iCT and ECT share it)."""
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(cuda):
            yield


class Consistency(Jumping):
    """Consistency distillation: any point of a trajectory jumps to its clean end."""

    Config: ClassVar[type[Any]] = ConsistencyConfig
    roles: ClassVar[tuple[str, ...]] = ("student", "teacher")
    frozen: ClassVar[tuple[str, ...]] = ("teacher",)
    version = 2
    teacher: Denoiser

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        if self.config.target_decay and "student" in self.networks:
            self.lagging = averages.average_of(self.networks["student"])

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        super().check(config, path)
        if not 1 <= config.first_intervals <= config.intervals:
            raise ValueError(
                f"first_intervals: {config.first_intervals} must be between 1 and "
                f"intervals ({config.intervals})"
            )
        if not 0 <= config.target_decay < 1:
            raise ValueError(f"target_decay: {config.target_decay} must be in [0, 1)")
        check_normal(config)
        try:
            times = time_grid(path, config.intervals, config.grid, jump=False)
        except ValueError as error:  # a chain of fewer steps
            raise ValueError(f"intervals: {error}") from None
        if config.weight == "inverse_step" and path.alpha(times[0]) == 0:
            raise ValueError(
                f"weight: inverse_step is 0 where {type(path).__name__} starts, whose alpha ends "
                "at 0; use grid: karras"
            )
        if getattr(config, "solver", "") in ("euler", "heun") and path.steps is not None:
            raise ValueError(f"solver: {config.solver} needs a path continuous in time; use ddim")

    def intervals_now(self) -> int:
        """Intervals of time at this point of training."""
        first, last = self.config.first_intervals, self.config.intervals
        if self.config.curriculum == "cm":
            return (
                cm_scales(min(self.batches_done, self.max_steps), self.max_steps, first, last) - 1
            )
        stages = math.ceil(math.log2(last / first)) + 1
        # up to a power of two, so that `last` is reached; in parts of a batch, so that no stage is
        # cut short by rounding
        done, steps = self.batches_done * stages, self.max_steps * stages
        return min(ict_scales(done, steps, first, first * 2 ** (stages - 1)) - 1, last)

    def draw_interval(self, sigmas: Tensor) -> Tensor:
        """Numbers of intervals, from 1 at the clean end, (B,), for ascending noise levels."""
        if self.config.times == "uniform":
            return self.draw.integers(1, len(sigmas))
        edges = ict_pmf(sigmas, self.config.times_mean, self.config.times_std).cumsum(0)
        u = self.draw.uniform(dtype=torch.float64)
        return 1 + torch.searchsorted(edges, u, right=True).clamp(max=len(edges) - 1)

    # ---- the target ------------------------------------------------------------------------------

    @property
    def target(self) -> Denoiser:
        """The student, or its lagging average."""
        if not self.config.target_decay:
            return self.student
        return self.wrap("target", self.lagging, self.path, self.config)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self.config.target_decay and not self.batches_done:  # from what the student starts from
            self.lagging.load_state_dict(self.networks["student"].state_dict())
        super().training_step(batch, batch_idx)

    def after_update(self, role: str) -> None:
        config, decay = self.config, self.config.target_decay
        if not decay:
            return
        if config.curriculum == "cm":
            decay = cm_target_ema(self.intervals_now() + 1, config.first_intervals, decay)
        averages.update(self.lagging, self.networks["student"], decay)

    # ---- the step --------------------------------------------------------------------------------

    @torch.no_grad()
    def follow(self, xt: Tensor, t: Tensor, s: Tensor, cond: Batch) -> Tensor:
        """One step of the teacher's probability flow from t to s."""
        path, solver, after = self.path, self.config.solver, s.clamp(min=1e-4)
        teacher = guide(along(self.teacher, path), self.config.guidance)
        here = teacher(xt, t, cond)
        if solver in ("ddim", "heun_x0"):
            xs = path.step(here.x0, xt, s, t)
            if solver == "ddim":
                return xs
            # DDIM's step is linear in x0, so average the two x0
            return path.step((here.x0 + teacher(xs, after, cond).x0) / 2, xt, s, t)
        dt, ends = expand(s - t, xt), expand(s == 0, xt)
        xs = torch.where(ends, here.x0, xt + dt * here.velocity)
        if solver == "euler":
            return xs
        slope = (here.velocity + teacher(xs, after, cond).velocity) / 2
        return torch.where(ends, xs, xt + dt * slope)

    def neighbour(
        self, xt: Tensor, t: Tensor, s: Tensor, x0: Tensor, eps: Tensor, cond: Batch
    ) -> Tensor:
        """x at the cleaner end s of an interval that begins at x_t."""
        return self.follow(xt, t, s, cond)

    def loss(self, batch: Batch, role: str) -> dict[str, Tensor]:
        path, config, n = self.path, self.config, self.intervals_now()
        x0, cond = batch["x0"], self.condition(batch)
        times = time_grid(path, n, config.grid, jump=False).flip(0).to(x0.device)
        sigmas = (-path.log_snr(times) / 2).exp()
        i = self.draw_interval(sigmas)
        t, s = times[i].to(x0), times[i - 1].to(x0)
        eps = self.draw.normal(*self.shape)
        xt = path.add_noise(x0, eps, t)
        xs = self.neighbour(xt, t, s, x0, eps, cond)
        with self.as_target():
            goal = torch.where(expand(i == 1, xs), xs, self.target(xs, s, cond).x0)
        distance = DISTANCES[config.distance](self.student(xt, t, cond).x0 - goal)
        if config.weight == "inverse_step":
            distance = distance * ict_weights(sigmas)[i - 1].to(distance)
        return {"loss": distance.mean(), "intervals": torch.tensor(float(n))}


def check_normal(config: Any) -> None:
    """Refuse a normal that times cannot be drawn by.

    Raises:
        ValueError: the message begins with the key.
    """
    if not math.isfinite(config.times_mean):
        raise ValueError(f"times_mean: {config.times_mean} must be finite")
    if not 0 < config.times_std < math.inf:
        raise ValueError(f"times_std: {config.times_std} must be positive and finite")


def pseudo_huber(error: Tensor, c: float | None = None) -> Tensor:
    """sqrt(|error|^2 + c^2) - c on the whole vector, (B,); the norm itself at c = 0.

    Args:
        error: (B, ...), of d dimensions.
        c: where it turns from a square to the norm; none for 0.00054 sqrt(d) (iCT).
    """
    flat = error.flatten(1)
    if c == 0:  # its gradient at 0 is 0, the root's would not be a number
        return torch.linalg.vector_norm(flat, dim=1)
    c = 0.00054 * math.sqrt(flat.shape[1]) if c is None else c
    return (flat.square().sum(1) + c * c).sqrt() - c
