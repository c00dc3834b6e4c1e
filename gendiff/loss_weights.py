"""Errors as losses, and their weights by noise level, as papers state them: on the error of x0.

The network's own error is what is computed; `output_weight` turns a weight on x0 into one on it,
without ever dividing by a vanishing scale. ``simple`` weighs the network's own error with 1:
for eps and score that is ``snr``, for v on variance-preserving paths ``snr_plus_one``, for edm
``edm``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gendiff.paths import Path
from gendiff.predictions import Reading

Weight = Literal[
    "simple",
    "uniform",
    "snr",
    "snr_plus_one",
    "truncated_snr",
    "min_snr",
    "edm",
    "elbo",
    "velocity",
]
Loss = Literal["squared", "pseudo_huber"]
HUBER_C = 0.00054
"""c of the pseudo-Huber loss of flows, a dimension of the data (Lee et al. 2024)."""


def mean_square(error: Tensor) -> Tensor:
    """Per-sample mean, (B,)."""
    return error.square().flatten(1).mean(1)


def penalty(loss: Loss, error: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """The loss of each sample, (B,), of errors (B, ...), whose squares weigh ``weight``, (B,).

    - ``squared``: the mean over the d entries.
    - ``pseudo_huber``: (sqrt(|e|^2 + c^2) - c) / d on the whole vector, c = 0.00054 d (Lee et al.
      2024, Section 4.2 and code).
    """
    if loss == "squared":
        return mean_square(error) * weight
    d = error[0].numel()
    return pseudo_huber(error, HUBER_C * d, weight) / d


def pseudo_huber(error: Tensor, c: float, weight: Tensor | float = 1.0) -> Tensor:
    """sqrt(weight |error|^2 + c^2) - c on the whole vector, (B,); the norm itself at c = 0."""
    flat = error.flatten(1)
    if c == 0:  # its gradient at 0 is 0, the root's would not be a number
        return torch.linalg.vector_norm(flat, dim=1) * weight**0.5
    return (weight * flat.square().sum(1) + c * c).sqrt() - c


def x0_weight(
    weight: Weight, snr: Tensor, sigma_data: float = 0.5, min_snr_gamma: float = 5.0
) -> Tensor:
    """Weight of |x0 error|^2 at a signal-to-noise ratio alpha^2 / sigma^2, like ``snr``.

    ``snr``, ``snr_plus_one`` and ``truncated_snr``, max(SNR, 1), are Salimans & Ho 2022, Section
    4; ``min_snr``, min(SNR, gamma), Hang et al. 2023; ``edm``, (sigma^2 + sigma_data^2) / (sigma
    sigma_data)^2 = SNR + 1 / sigma_data^2, Karras et al. 2022, Table 1.
    """
    if weight == "uniform":
        return torch.ones_like(snr)
    if weight == "snr_plus_one":
        return snr + 1
    if weight == "truncated_snr":
        return snr.clamp(min=1)
    if weight == "min_snr":
        return snr.clamp(max=min_snr_gamma)
    if weight == "edm":
        return snr + 1 / sigma_data**2
    return snr


def output_weight(
    weight: Weight, reading: Reading, path: Path, t: Tensor, min_snr_gamma: float = 5.0
) -> Tensor:
    """Weight of the squared error of a network's own output at times t, (B,).

    ``elbo`` is the variational bound in continuous time for uniform times, in nats a dimension:
    |x0 error|^2 weighs -(dSNR/dt) / 2 times the range of t (Kingma et al. 2021, Section 5).
    ``velocity`` weighs the error of dx_t/dt with 1, whatever the network puts out.
    """
    if weight == "simple":
        return torch.ones_like(t)
    gain = reading.gain(path, t)
    if weight == "velocity":
        return (gain / Reading("velocity").gain(path, t)) ** 2
    if weight == "elbo":
        a, s = path.alpha(t), path.sigma(t)
        rate = 2 * (path.d_sigma(t) / s - path.d_alpha(t) / a)  # of -log SNR
        return path.t_max * rate / 2 * (a / s * gain) ** 2
    if weight == "snr":  # SNR and the gain may overflow and vanish where their product is plain
        return (path.alpha(t) / path.sigma(t) * gain) ** 2
    snr = path.log_snr(t).exp()
    return x0_weight(weight, snr, reading.sigma_data, min_snr_gamma) * gain**2


def check_weight(weight: Weight, times: str, path: Path) -> None:
    """Refuse weights that do not mean what they say.

    Raises:
        ValueError: the message begins with the key.
    """
    if weight == "velocity" and path.steps is not None:
        raise ValueError("weight: velocity needs a path continuous in time")
    if weight != "elbo":
        return
    if times not in ("uniform", "antithetic", "importance"):
        raise ValueError(f"weight: elbo is a bound for uniform times, not {times}")
    if path.steps is not None:
        raise ValueError("weight: elbo needs a path continuous in time")
    if path.alpha(torch.tensor(path.t_max)) == 0:
        # the bound has a prior term that grows without end there
        raise ValueError(f"weight: elbo does not fit {type(path).__name__}, whose alpha ends at 0")
