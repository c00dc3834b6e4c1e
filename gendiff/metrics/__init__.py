"""Distances between generated and reference samples, on features or on points.

These modules know nothing of models, samplers or evaluators: they take tensors of features, so
that any feature extractor can be used with them.
"""

from gendiff.metrics.energy import energy_distance
from gendiff.metrics.frechet import FrechetDistance, frechet_distance
from gendiff.metrics.kernel import KernelDistance
from gendiff.metrics.modes import Modes, modes_covered
from gendiff.metrics.wasserstein import wasserstein2

__all__ = [
    "FrechetDistance",
    "KernelDistance",
    "Modes",
    "energy_distance",
    "frechet_distance",
    "modes_covered",
    "wasserstein2",
]
