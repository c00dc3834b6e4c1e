"""What consistency models share: students that jump to the clean end, from neighbouring times.

The x0 read from any prediction but x0 is x itself at t = 0, so it meets the boundary condition
(Song et al. 2023, "Consistency Models" (CM), Eq. 5) without scalings of its own, and equals the
teacher's x0 at the start; a student that predicts x0 gets a skip there, too narrow to be seen
elsewhere. CM's exact boundary is at sigma = 0.002 instead. Times are those of the path's own grid,
or of CM's.
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
from gendiff.denoiser import Denoiser
from gendiff.loss_weights import mean_square, pseudo_huber
from gendiff.methods.base import Batch
from gendiff.methods.student import Student, StudentConfig
from gendiff.paths import Path, expand
from gendiff.paths.base import SIGMA_MIN
from gendiff.predictions import Reading
from gendiff.samplers import time_grid
from gendiff.samplers.grid import GridKind
from gendiff.sampling import Sampling

HUBER_C = 0.00054
"""c of iCT's pseudo-Huber distance, times sqrt(d) of data of d dimensions."""


def ict_distance(error: Tensor) -> Tensor:
    """iCT's pseudo-Huber distance, (B,), of errors (B, ...)."""
    return pseudo_huber(error, HUBER_C * math.sqrt(error[0].numel()))


DISTANCES = {"pseudo_huber": ict_distance, "squared_l2": mean_square}


@dataclass(frozen=True)
class NeighboursConfig(StudentConfig):
    """What distillation and training of consistency models share."""

    intervals: int = 32
    """Intervals that time is cut into, at the end of training."""
    first_intervals: int = 8
    """Intervals at the start; with the curriculum cm, CM's s0: one more than intervals."""
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


class Jumping(Student):
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


class Neighbours(Jumping):
    """Base of methods that send both ends of an interval of time to the same x0."""

    Config: ClassVar[type[Any]] = NeighboursConfig

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
        super().after_update(role)
        config, decay = self.config, self.config.target_decay
        if not decay or role != "student":
            return
        if config.curriculum == "cm":
            decay = cm_target_ema(self.intervals_now() + 1, config.first_intervals, decay)
        averages.update(self.lagging, self.networks["student"], decay)

    # ---- the step --------------------------------------------------------------------------------

    def neighbour(
        self, xt: Tensor, t: Tensor, s: Tensor, x0: Tensor, eps: Tensor, cond: Batch
    ) -> Tensor:
        """x at the cleaner end s of an interval that begins at x_t."""
        raise NotImplementedError  # of a teacher's flow or of the data: what sets methods apart

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
        self.shown = self.student(xt, t, cond).x0, goal
        distance = DISTANCES[config.distance](self.shown[0] - goal)
        if config.weight == "inverse_step":
            distance = distance * ict_weights(sigmas)[i - 1].to(distance)
        self.seen.append((t, distance.detach()))
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
