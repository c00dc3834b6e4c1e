"""Gaussian paths from data to noise: ``x_t = alpha(t) x0 + sigma(t) eps``.

Time: t = 0 is data and t grows with noise, for every path. How papers run:

========================  =====================================================
rectified flow            t = 0 is noise, t = 1 data: their t is our 1 - t
DDPM, iDDPM, TDPM         integer t from 0, already one noising step: our t - 1
score SDEs, VE            their t in [0, 1]; our t is their sigma(t)
EDM, consistency models   as here: time is sigma
TrigFlow                  as here, from 0 to pi / 2
progressive distillation  as here; ``log_snr`` is the full log(alpha^2 / sigma^2)
DPM-Solver                lambda is *half* of our ``log_snr``
========================  =====================================================
"""

from gendiff.paths.base import MAX_LOG_SNR, Path, carry, expand
from gendiff.paths.continuous import (
    VP,
    Cosine,
    CosineConfig,
    Linear,
    LinearConfig,
    Trig,
    TrigConfig,
    VPConfig,
)
from gendiff.paths.discrete import (
    DiscreteCosine,
    DiscreteCosineConfig,
    DiscreteLinear,
    DiscreteLinearConfig,
    DiscreteVP,
    spaced,
)
from gendiff.paths.exploding import EDM, VE, EDMConfig, VEConfig

__all__ = [
    "EDM",
    "MAX_LOG_SNR",
    "VE",
    "VP",
    "Cosine",
    "CosineConfig",
    "DiscreteCosine",
    "DiscreteCosineConfig",
    "DiscreteLinear",
    "DiscreteLinearConfig",
    "DiscreteVP",
    "EDMConfig",
    "Linear",
    "LinearConfig",
    "Path",
    "Trig",
    "TrigConfig",
    "VEConfig",
    "VPConfig",
    "carry",
    "expand",
    "spaced",
]
