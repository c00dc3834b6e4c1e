"""What a network's output means: read as x0, and from there as anything else.

Every kind is a line ``x0 = p x_t + q output`` whose two coefficients depend on the time alone;
the regression target is a line in x0 and eps. So a kind is two rows: in `TO_X0` and in `TARGET`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gendiff.paths import Path, carry, expand

Kind = Literal["x0", "eps", "v", "velocity", "score", "edm"]


class Scales(NamedTuple):
    """A network's path at some times, and the constants of EDM's preconditioning."""

    a: Tensor
    """alpha."""
    s: Tensor
    """sigma."""
    da: Callable[[], Tensor]
    ds: Callable[[], Tensor]
    sd: float
    """Standard deviation of the data."""
    e: float
    """sigma_min of the `Reading`."""
    k: Tensor
    """Factor that takes x_t of the path it is read along to that of the network."""

    @property
    def n(self) -> Tensor:
        return (self.a**2 + self.s**2).sqrt()

    @property
    def r(self) -> Tensor:
        """Standard deviation of x_t."""
        return (self.s**2 + (self.a * self.sd) ** 2).sqrt()


Pair = tuple[Tensor, Tensor]


def _x0(c: Scales) -> Pair:
    if not c.e:
        return torch.zeros_like(c.a), torch.ones_like(c.a)
    size = c.s**2 + (c.a * c.e) ** 2  # c_skip of EDM for data of standard deviation e
    return c.a * c.e**2 / size, c.s**2 / size


def _v(c: Scales) -> Pair:
    n = c.n
    return c.a / n**2, -c.s / n


def _velocity(c: Scales) -> Pair:
    da, ds = c.da(), c.ds()
    determinant = c.s * da - c.a * ds
    steep = ds.isinf()  # VP at t = 0, where x0 is x
    p = torch.where(steep, 1 / c.a, -ds / determinant)
    return p, torch.where(steep, 0, c.s / determinant)


def _edm(c: Scales) -> Pair:
    # with e = 0 Karras et al. 2022, Table 1; else Song et al. 2023, Appendix C; times sigma / alpha
    rest = c.s - c.a * c.e
    return c.a * c.sd**2 / (rest**2 + (c.a * c.sd) ** 2), rest * c.sd / c.r


def _edm_target(c: Scales) -> Pair:
    # what _edm takes back to x0
    rest = c.s - c.a * c.e
    share = c.r / (rest**2 + (c.a * c.sd) ** 2)
    return share * rest / c.sd, -share * c.a * c.sd * (c.s / rest if c.e else 1)


TO_X0: dict[Kind, Callable[[Scales], Pair]] = {
    "x0": _x0,
    "eps": lambda c: (1 / c.a, -c.s / c.a),
    "v": _v,
    "velocity": _velocity,
    "score": lambda c: (1 / c.a, c.s / c.a),
    "edm": _edm,
}
"""(p, q) of ``x0 = p x_t + q output``."""

TARGET: dict[Kind, Callable[[Scales], Pair]] = {
    "x0": lambda c: (torch.ones_like(c.a), torch.zeros_like(c.a)),
    "eps": lambda c: (torch.zeros_like(c.a), torch.ones_like(c.a)),
    "v": lambda c: (-c.s / c.n, c.a / c.n),
    "velocity": lambda c: (c.da(), c.ds()),
    "score": lambda c: (torch.zeros_like(c.a), -torch.ones_like(c.a)),
    "edm": _edm_target,
}
"""(u, w) of ``target = u x0 + w eps``."""


@dataclass(frozen=True)
class Reading:
    """How a network's output is read.

    - ``x0``: the clean data.
    - ``eps``: the noise.
    - ``v``: the rotation (alpha eps - sigma x0) / sqrt(alpha^2 + sigma^2) (Salimans & Ho 2022,
      on paths of any size).
    - ``velocity``: dx_t/dt at fixed x0 and eps.
    - ``score``: sigma times the score, so that the network's output keeps unit size (Song et
      al. 2021, code: they divide the output by sigma).
    - ``edm``: F of D = c_skip x + c_out F(c_in x) (Karras et al. 2022, Table 1), for x = x_t /
      alpha and their sigma = sigma / alpha.

    Attributes:
        sigma_data: standard deviation of the data, for ``edm``.
        sigma_min: sigma / alpha at which D is x itself, for ``edm``; EDM's is 0, consistency
            models' 0.002 (Song et al. 2023, Appendix C). For ``x0``, above 0: sigma / alpha at
            which half of it is x_t / alpha; all is at t = 0, so that consistency models may
            predict x0. The target is x0 all the same.
        home: the path that the network knows, if it is another than it is read along: it is given
            x_t as of there, at equal signal-to-noise ratio, and its velocity is that of there. So
            weights of one path are the same function on any other.
    """

    kind: Kind
    sigma_data: float = 0.5
    sigma_min: float = 0.0
    home: Path | None = None

    def at_home(self, path: Path) -> bool:
        """Whether the path is the network's own."""
        return self.home is None or self.home == path

    def _scales(self, path: Path, t: Tensor) -> Scales:
        home, there, k = path, t, torch.ones_like(t)
        if self.home is not None and not self.at_home(path):
            home, (there, k) = self.home, carry(t, path, self.home)
        return Scales(
            path.alpha(t) * k,  # not home.alpha(there): exact where it is 0
            path.sigma(t) * k,
            lambda: home.d_alpha(there),
            lambda: home.d_sigma(there),
            self.sigma_data,
            self.sigma_min,
            k,
        )

    def to_x0(self, path: Path, t: Tensor) -> Pair:
        """(p, q) of ``x0 = p x_t + q output``, each like t."""
        scales = self._scales(path, t)
        p, q = TO_X0[self.kind](scales)
        return p * scales.k, q

    def target(self, x0: Tensor, eps: Tensor, t: Tensor, path: Path) -> Tensor:
        """What the network should put out when x0 and eps, (B, ...), are known."""
        if self.kind in ("x0", "eps"):  # nothing to compute
            return x0 if self.kind == "x0" else eps
        u, w = TARGET[self.kind](self._scales(path, t))
        return expand(u, x0) * x0 + expand(w, x0) * eps

    def gain(self, path: Path, t: Tensor) -> Tensor:
        """How much an error of the output moves x0: |q|."""
        return self.to_x0(path, t)[1].abs()

    def input_scale(self, path: Path, t: Tensor) -> Tensor | None:
        """Factor on x_t before the network sees it; None for 1."""
        if self.home is not None and not self.at_home(path):
            there, k = carry(t, path, self.home)
            own = Reading(self.kind, self.sigma_data, self.sigma_min).input_scale(self.home, there)
            return k if own is None else k * own
        if self.kind == "edm":
            return 1 / self._scales(path, t).r
        return path.input_scale(t)


def check_prediction(kind: Kind, sigma_data: float, path: Path) -> None:
    """Refuse a kind that a path cannot be read with.

    Raises:
        ValueError: the message begins with the key.
    """
    name, last = type(path).__name__, torch.tensor(path.t_max)
    if kind in ("eps", "score") and path.alpha(last) == 0:  # they say nothing about x0 there
        raise ValueError(f"prediction: {kind} does not fit {name}, whose alpha ends at 0")
    if kind == "velocity" and path.steps is not None:
        raise ValueError(f"prediction: velocity does not fit {name}, which has no derivative")
    if not 0 < sigma_data < math.inf:
        raise ValueError(f"sigma_data: {sigma_data} must be positive and finite")


class Prediction:
    """A network's output at (x_t, t), read as any of x0, eps, v, velocity and score.

    With a = alpha(t) and s = sigma(t): ``x_t = a x0 + s eps``, ``v = (a eps - s x0) / sqrt(a^2 +
    s^2)``, ``velocity = a' x0 + s' eps`` and ``score = -eps / s``. All have the shape of x_t; t
    is (B,).

    Args:
        output: what the network put out, like ``xt``.
        reading: how it is read, or the name of its kind.
    """

    def __init__(
        self, output: Tensor, reading: Reading | Kind, xt: Tensor, t: Tensor, path: Path
    ) -> None:
        self.reading = Reading(reading) if isinstance(reading, str) else reading
        self.output, self.xt, self.t, self.path = output, xt, t, path

    @property
    def kind(self) -> Kind:
        return self.reading.kind

    @cached_property
    def _scales(self) -> tuple[Tensor, Tensor]:
        return expand(self.path.alpha(self.t), self.xt), expand(self.path.sigma(self.t), self.xt)

    @cached_property
    def x0(self) -> Tensor:
        """The clean data."""
        if self.kind == "x0" and not self.reading.sigma_min:
            return self.output
        p, q = self.reading.to_x0(self.path, self.t)
        return expand(p, self.xt) * self.xt + expand(q, self.xt) * self.output

    @cached_property
    def eps(self) -> Tensor:
        """The noise."""
        if self.kind in ("eps", "score"):
            return self.output if self.kind == "eps" else -self.output
        a, s = self._scales
        return (self.xt - a * self.x0) / s

    @cached_property
    def v(self) -> Tensor:
        """The rotation of (x0, eps) that v prediction learns."""
        if self.kind == "v":
            return self.output
        a, s = self._scales
        n = (a * a + s * s).sqrt()
        return (a * self.xt - n * n * self.x0) / (s * n)

    @cached_property
    def velocity(self) -> Tensor:
        """dx_t/dt of the probability flow."""
        if self.kind == "velocity" and self.reading.at_home(self.path):
            return self.output
        da, ds = self.path.d_alpha(self.t), self.path.d_sigma(self.t)
        return expand(da, self.xt) * self.x0 + expand(ds, self.xt) * self.eps

    @cached_property
    def score(self) -> Tensor:
        """Gradient of the log-density of x_t."""
        return -self.eps / self._scales[1]
