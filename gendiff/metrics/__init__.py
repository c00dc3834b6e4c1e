"""Figures of generated samples against real ones, on features, class probabilities or points.

These modules know nothing of models, samplers or evaluators: they take tensors, so that any
feature extractor can be used with them. All are torchmetrics: ``m.update(x, real=True | False)``,
then ``m.compute()``, a tensor or a dict by figure.
"""

from gendiff.metrics.class_accuracy import ClassAccuracy
from gendiff.metrics.class_modes import ClassModes
from gendiff.metrics.copying import Copying
from gendiff.metrics.density_coverage import DensityCoverage
from gendiff.metrics.energy import EnergyDistance, energy_distance
from gendiff.metrics.frechet import FrechetDistance, frechet_distance
from gendiff.metrics.inception_score import InceptionScore
from gendiff.metrics.infinity import FrechetInfinity
from gendiff.metrics.kernel import KernelDistance
from gendiff.metrics.modes import ModeCoverage, ModeHistogram, nearest_mode
from gendiff.metrics.precision_recall import PrecisionRecall
from gendiff.metrics.sliced import SlicedWasserstein
from gendiff.metrics.straightness import Straightness
from gendiff.metrics.wasserstein import Wasserstein2, wasserstein2

__all__ = [
    "ClassAccuracy",
    "ClassModes",
    "Copying",
    "DensityCoverage",
    "EnergyDistance",
    "FrechetDistance",
    "FrechetInfinity",
    "InceptionScore",
    "KernelDistance",
    "ModeCoverage",
    "ModeHistogram",
    "PrecisionRecall",
    "SlicedWasserstein",
    "Straightness",
    "Wasserstein2",
    "energy_distance",
    "frechet_distance",
    "nearest_mode",
    "wasserstein2",
]
