"""Toy data whose truth is known: closed forms to test methods, samplers and metrics against."""

from gendiff.data.toy.ideal import IdealDenoiser
from gendiff.data.toy.mixture import ExactDenoiser, GaussianMixture
from gendiff.data.toy.sets import (
    Checkerboard,
    CheckerboardConfig,
    Gaussians25,
    Gaussians25Config,
    Mixture,
    MixtureConfig,
    Moons,
    MoonsConfig,
    SwissRoll,
    SwissRollConfig,
)

__all__ = [
    "Checkerboard",
    "CheckerboardConfig",
    "ExactDenoiser",
    "GaussianMixture",
    "Gaussians25",
    "Gaussians25Config",
    "IdealDenoiser",
    "Mixture",
    "MixtureConfig",
    "Moons",
    "MoonsConfig",
    "SwissRoll",
    "SwissRollConfig",
]
