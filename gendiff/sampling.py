"""A sampler as users write it: a name, and if need be its settings, its path and its grid.

    NAME[(setting=value, ...)][@[PATH.]GRID or @PATH]

``heun``, ``ddim(eta=0.5)``, ``dpm_solver(order=3)@log_snr``, ``heun(churn=40)@edm``: the last runs
on the EDM path with that path's own grid, whatever path the model was trained on.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from gendiff import registry
from gendiff.denoiser import Condition, DenoiserLike, along
from gendiff.errors import did_you_mean
from gendiff.paths import Path, carry
from gendiff.predictions import Prediction
from gendiff.samplers.grid import GRIDS, SPACING, time_grid
from gendiff.samplers.steps import needs_continuous_time

ANY_DENOISER = (
    "ddim",
    "ancestral",
    "euler",
    "heun",
    "midpoint",
    "dpm_solver",
    "dpmpp_2s",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "predictor_corrector",
    "langevin",
    "rk45",
)
"""Samplers for denoisers trained at every noise level, the default first."""

MOST_CALLS = 1000
"""Of a setting that is a whole number: they multiply the steps."""

SHARED = {"denoiser", "x", "times", "cond", "noise"}
FORM = re.compile(r"(?P<name>\w+)(\((?P<settings>[^()]*)\))?(@(?P<where>[\w.,]+))?")


@dataclass(frozen=True)
class Sampling:
    """A sampler with its settings.

    Attributes:
        name: of the sampler.
        function: the sampler.
        settings: its keyword arguments.
        path: to run along; None for the denoiser's own.
        grid: kind of the time grid; None for the path's own.
        jump: whether grids that never reach t = 0 end with a jump to it (see `time_grid`).
    """

    name: str
    function: Callable[..., Tensor]
    settings: dict[str, Any]
    path: Path | None
    grid: str | None
    jump: bool = True

    @classmethod
    def parse(cls, text: str, allowed: Sequence[str]) -> Sampling:
        """Read what a user wrote.

        Raises:
            ValueError: no such sampler, setting, path or grid, or one that is not allowed.
        """
        form = FORM.fullmatch(text.replace(" ", ""))
        if not form:
            raise ValueError(f"{text!r} is not NAME, NAME(setting=value) or NAME@PATH.GRID")
        name = form["name"]
        if name not in registry.names("samplers"):
            raise ValueError(f"no sampler {name!r}.{did_you_mean(name, allowed)}")
        if name not in allowed:
            raise ValueError(f"{name!r} does not fit this model.{did_you_mean(name, allowed)}")
        function = registry.lookup("samplers", name)
        settings = _settings(form["settings"] or "", name, function)
        path, grid = None, None
        for word in (form["where"] or "").split(".") if form["where"] else []:
            if grid is None and (word in GRIDS or SPACING.fullmatch(word)):
                grid = word
            elif word in registry.names("paths") and path is None and grid is None:
                path = registry.lookup("paths", word)()
            elif word in registry.names("paths"):
                raise ValueError(f"{text!r}: one path, then one grid: NAME@PATH.GRID")
            else:
                known = [*GRIDS, *registry.names("paths")]
                raise ValueError(
                    f"{text!r}: {word!r} is no grid or path.{did_you_mean(word, known)}"
                )
        return cls(name, function, settings, path, grid)

    def check(self, own: Path, steps: int, own_grid: bool = False) -> None:
        """Refuse what cannot be sampled in so many steps along a model's path.

        Args:
            own_grid: the model knows only the times of its own path's grid.

        Raises:
            ValueError: a sampler that needs continuous time on a discrete chain, more steps than
                the chain has, or a setting out of range.
        """
        if own_grid and (self.grid or self.path):
            raise ValueError(f"{self.name!r} runs on this model's own path and grid alone")
        path = self.path or own
        if (
            path.steps is not None
            and needs_continuous_time(self.function)
            and not self.settings.get("multi")
        ):
            raise ValueError(
                f"{self.name!r} needs a path continuous in time; {type(path).__name__} is a chain. "
                f"Run it along another path, e.g. {self.name}@vp"
            )
        if path.steps is not None and steps > path.steps:
            raise ValueError(f"{steps} steps are more than the {path.steps} of the chain")
        if not self.run(Rehearsal(own), torch.zeros(1, 1), steps).isfinite().all():
            raise ValueError(f"{self.name!r} with these settings gives no finite samples")

    def run(
        self,
        denoiser: DenoiserLike,
        x: Tensor,
        steps: int,
        cond: Condition | None = None,
        noise: Any = None,
        t_start: float | None = None,
    ) -> Tensor:
        """Sample in so many steps from x at ``t_start``, a time of the denoiser's own path."""
        if self.path and self.path != denoiser.path:
            start = torch.tensor(denoiser.path.t_max if t_start is None else t_start)
            there, scale = carry(start.double(), denoiser.path, self.path)
            denoiser, x, t_start = along(denoiser, self.path), x * float(scale), float(there)
        times = time_grid(denoiser.path, steps, self.grid, t_start=t_start, jump=self.jump)
        return self.function(denoiser, x, times, cond, noise, **self.settings)


class Rehearsal:
    """A denoiser of nothing, to see whether a sampler runs at all."""

    latent, direct = 1, False

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, xt: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        return Prediction(torch.zeros_like(xt), "x0", xt, t.to(xt).expand(len(xt)), self.path)


def _settings(text: str, name: str, function: Callable[..., Tensor]) -> dict[str, Any]:
    known = {k: p for k, p in inspect.signature(function).parameters.items() if k not in SHARED}
    hints = get_type_hints(function)
    settings: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, word = part.partition("=")
        if key not in known:
            raise ValueError(f"{name} has no setting {key!r}.{did_you_mean(key, list(known))}")
        if not equals or key in settings:
            raise ValueError(f"{name}({part}): write each setting once, as {key}=value")
        settings[key] = _value(f"{name}({part})", word, known[key].default, hints[key])
    return settings


def _value(where: str, word: str, default: Any, hint: Any) -> Any:
    """A word as the type of a setting's default."""
    if isinstance(default, bool):
        if word.lower() not in ("true", "false"):
            raise ValueError(f"{where} must be true or false")
        return word.lower() == "true"
    if isinstance(default, str):
        if word not in get_args(hint):
            raise ValueError(f"{where} must be one of {', '.join(get_args(hint))}")
        return word
    try:
        number: float = type(default)(word)
    except ValueError:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ValueError(f"{where} must be {kind}") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"{where} must be at least 0 and finite")
    if isinstance(default, int) and number > MOST_CALLS:
        raise ValueError(f"{where} must be at most {MOST_CALLS}")
    return number
