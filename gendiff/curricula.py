"""Curricula of consistency training: how finely time is cut, and which pairs of times are drawn.

Sources, by the prefix of a name:

- ``cm_``: Song, Dhariwal, Chen & Sutskever, "Consistency Models", ICML 2023, Appendix C, in the
  form of their code (``create_ema_and_scales_fn``). Its fixed modes are constants: none here.
- ``ict_``: Song & Dhariwal, "Improved Techniques for Training Consistency Models", ICLR 2024,
  Table 1.
- ``ect_``: Geng, Pokle, Luo, Lin & Kolter, "Consistency Models Made Easy", 2024, the mapping
  functions, in the form of their code (``ECMLoss.t_to_r``).

N *scales* are N noise levels, those of `time_grid(EDM(), N, "karras")` without its 0, so N - 1
intervals. Noise levels are those of x = x0 + sigma eps;
their index 0 is sigma_min, as in the papers (which count from 1) but not in the code of ``cm_``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _check(step: int, steps: int, first: int, last: int) -> None:
    if not 0 <= step <= steps or steps < 1:
        raise ValueError(f"step: {step} must be between 0 and steps ({steps}), which is at least 1")
    if not 1 <= first <= last:
        raise ValueError(f"first: {first} must be between 1 and last ({last})")


def cm_scales(step: int, steps: int, first: int, last: int) -> int:
    """Scales N(k), whose square grows linearly over training (the ``progressive`` mode).

    N = ceil(sqrt(k / K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1.

    Args:
        step: k, training steps done, in [0, steps].
        steps: K, training steps in all.
        first: s0, scales at the start, at least 1 (their value: 2).
        last: s1, at least ``first`` (theirs: 150 or 200).

    Returns:
        N, at least 2; ``last`` + 1 at the end.

    Raises:
        ValueError: an argument is out of range.
    """
    _check(step, steps, first, last)
    square = (step / steps) * ((last + 1) ** 2 - first**2) + first**2
    return max(math.ceil(math.sqrt(square) - 1), 1) + 1


def cm_target_ema(scales: int, first: int, decay: float) -> float:
    """Decay mu of the target's average at N scales (the ``adaptive`` mode).

    mu = exp(s0 log mu0 / (N - 1)): the paper prints N here, the authors' code divides by N - 1.

    Args:
        scales: N, at least 2, as `cm_scales` gives it.
        first: s0, at least 1.
        decay: mu0, in (0, 1]; reached where N - 1 = s0.

    Returns:
        mu, in (0, 1], a share kept per step.

    Raises:
        ValueError: an argument is out of range.
    """
    if scales < 2 or first < 1 or not 0 < decay <= 1:
        raise ValueError(
            f"scales: {scales} must be at least 2, first: {first} at least 1 "
            f"and decay: {decay} in (0, 1]"
        )
    return math.exp(first * math.log(decay) / (scales - 1))


def cm_halved_scales(step: int, every: int, first: int) -> int:
    """Scales of progressive distillation (the ``progdist`` mode, whose target decay is always 1).

    Halved every ``every`` steps down to 2; those two last twice as long, then 1 for good.

    Args:
        step: k, training steps done, at least 0.
        every: steps between halvings, at least 1 (theirs: 50 000).
        first: scales at the start, a power of two, at least 2 (theirs: 4096).

    Returns:
        Scales, a power of two in [1, first].

    Raises:
        ValueError: an argument is out of range.
    """
    if step < 0 or every < 1 or first < 2 or first & (first - 1):
        raise ValueError(
            f"step: {step} must be at least 0, every: {every} at least 1 "
            f"and first: {first} a power of two from 2 on"
        )
    twos_from = every * (first.bit_length() - 2)
    if step < twos_from:
        return first >> step // every
    return 2 if step < twos_from + 2 * every else 1


def ict_scales(step: int, steps: int, first: int, last: int) -> int:
    """Scales N(k), whose intervals double in equal stages of training.

    N = min(s0 2^floor(k / K'), s1) + 1, K' = floor(K / (log2 floor(s1 / s0) + 1)). Where s1 / s0 is
    no power of two the last stage may be short, or s1 never reached, as where s1 / s0 < 2.

    Args:
        step: k, training steps done, in [0, steps].
        steps: K, training steps in all; K' is at least 1 even where these are few.
        first: s0, intervals at the start, at least 1 (their value: 10).
        last: s1, most intervals, at least ``first`` (theirs: 1280).

    Returns:
        N, from ``first`` + 1 to ``last`` + 1.

    Raises:
        ValueError: an argument is out of range.
    """
    _check(step, steps, first, last)
    length = max(math.floor(steps / (math.log2(last // first) + 1)), 1)
    return min(first * 2 ** (step // length), last) + 1


def ict_pmf(sigmas: Tensor, mean: float = -1.1, std: float = 2.0) -> Tensor:
    """How likely each interval is drawn: a log-normal cut at the noise levels.

    p(sigma_i) is proportional to erf((ln sigma_{i+1} - mean) / (sqrt2 std)) less the same at
    sigma_i.

    Args:
        sigmas: (N,), ascending, from 0 to infinity; float64, for the differences are small.
        mean: of ln sigma.
        std: of ln sigma, above 0.

    Returns:
        (N - 1,), of sum 1; entry i is the interval from sigma_i to sigma_{i+1}.

    Raises:
        ValueError: ``std`` is not above 0.
    """
    if std <= 0:
        raise ValueError(f"std: {std} must be above 0")
    mass = torch.erf((sigmas.log() - mean) / (math.sqrt(2) * std)).diff()
    return mass / mass.sum()


def ict_weights(sigmas: Tensor) -> Tensor:
    """Weights of the loss, 1 / (sigma_{i+1} - sigma_i), (N - 1,), for ascending sigmas, (N,)."""
    return 1 / sigmas.diff()


def ect_ratio(stage: int, q: float = 2.0) -> float:
    """The ratio r / t that a stage tends to at large t, 1 - q^-(stage + 1), in (0, 1].

    Args:
        stage: from 0 on; the paper's exponent a is stage + 1, as in the authors' code.
        q: above 1; how much closer r comes to t with each stage (theirs: 2, or 256).

    Raises:
        ValueError: an argument is out of range.
    """
    if stage < 0 or q <= 1:
        raise ValueError(f"stage: {stage} must be at least 0 and q: {q} above 1")
    return 1 - q ** -(stage + 1)


def ect_earlier(t: Tensor, stage: int, q: float = 2.0, k: float = 8.0, b: float = 1.0) -> Tensor:
    """The earlier time r that the student's target is taken at.

    r = max(0, t (1 - n(t) / q^(stage + 1))), n(t) = 1 + k sigmoid(-b t). The defaults are the
    authors' ``sigmoid`` mapping; k = 0 is their ``const``, r = t `ect_ratio`.

    Args:
        t: noise levels, above 0, any shape.
        stage: as for `ect_ratio`.
        q: as for `ect_ratio`.
        k: how much farther r is at small t, at least 0.
        b: how fast that fades as t grows, at least 0.

    Returns:
        r, in [0, t], of the shape of t.

    Raises:
        ValueError: an argument is out of range.
    """
    if k < 0 or b < 0:
        raise ValueError(f"k: {k} and b: {b} must be at least 0")
    gap = 1 - ect_ratio(stage, q)
    return (t * (1 - gap * (1 + k * torch.sigmoid(-b * t)))).clamp(min=0)
