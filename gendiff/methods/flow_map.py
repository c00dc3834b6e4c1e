"""What methods that learn a flow map share: where the probability flow takes x_t from t to s < t.

The network puts out the mean velocity u(x_t, s, t) on the way, so that x_s = x_t - (t - s) u; as
the ends meet it is the velocity itself. Papers tell it t and the length t - s; here it is told
both ends, as noise levels, the second by the condition ``second_time``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gendiff.denoiser import Condition, Denoiser, X0At
from gendiff.methods.base import Batch
from gendiff.methods.student import Student
from gendiff.paths import Path, expand
from gendiff.predictions import Prediction
from gendiff.sampling import ANY_DENOISER, Sampling


class FlowMap(Denoiser):
    """A denoiser that knows the velocity at x_t and, told a second time, the mean one from there.

    Asked without ``second_time`` it is a denoiser like any other, for samplers and students.
    """

    def __init__(self, network: nn.Module, path: Path) -> None:
        super().__init__(network, path, "velocity")

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        """Predict at x_t, (B, ...), and t, (B,) or ()."""
        self.nfe += 1
        t = t.to(xt.device, torch.promote_types(xt.dtype, torch.float32)).expand(len(xt))
        told = {"second_time": self.path.noise_level(t), **(cond or {})}
        scale = self.path.input_scale(t)
        x = xt if scale is None else (expand(scale, xt) * xt).to(xt.dtype)
        output = self.network(x, self.path.noise_level(t), told)
        return Prediction(output.to(xt.dtype), self.reading, xt, t, self.path)

    def at(self, times: Tensor) -> X0At:
        """As a call at each time."""
        return X0At(self, times)

    def mean_velocity(self, xt: Tensor, t: Tensor, s: Tensor, cond: Condition) -> Tensor:
        """u(x_t, s, t), like x_t, for times (B,)."""
        return self(xt, t, {**cond, "second_time": self.path.noise_level(s)}).output


class FlowMapMethod(Student):
    """Base of methods whose student is a flow map; a loss leaves what it asked in ``place``."""

    samplers = ("flow_map", *ANY_DENOISER)
    student: FlowMap
    place: tuple[Tensor, Tensor, Batch, Tensor]
    """x_t, t, what the student was told, and the x0 of the batch."""
    made: tuple[Any, Any] = None, None
    """A place, and what is shown there."""

    @property
    def shown(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # made where a term asks
        """The student's x0 in one step from x_t, and the data's."""
        if self.made[0] is not self.place:  # two terms ask for the same
            xt, t, cond, x0 = self.place
            u = self.student.mean_velocity(xt, t, torch.zeros_like(t), cond)
            self.made = self.place, (xt - expand(t, xt) * u, x0)
        return self.made[1]

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> FlowMap:
        return FlowMap(network, path)

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        if config.prediction != "velocity":
            raise ValueError(f"prediction: {config.prediction}; a flow map predicts the velocity")
        super().check(config, path)

    @classmethod
    def tells(cls, role: str, config: Any) -> dict[str, int]:
        return {"second_time": 1}

    @classmethod
    def sampling(cls, config: Any, path: Path, text: str | None, steps: int | None) -> Sampling:
        sampling = super().sampling(config, path, text, steps)
        if sampling.name == "flow_map" and sampling.path not in (None, path):
            raise ValueError("'flow_map' runs on this model's own path alone")
        return sampling

    def chosen(self, share: float) -> Tensor:
        """Rows of this part of the batch, (n,): a share of the whole, evenly spread over it."""
        first, count = self.draw.first, self.draw.count
        places = torch.arange(first, first + count + 1, dtype=torch.float64)
        return (places * share).floor().diff().nonzero()[:, 0].to(self.draw.device)
