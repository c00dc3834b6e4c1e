"""Samplers: functions ``(denoiser, x, times, cond, noise) -> x`` and their time grids.

``times`` runs from noisy to clean, steps + 1 values; ``noise(step)`` supplies what is random.
"""

from gendiff.samplers.ancestral import ancestral
from gendiff.samplers.consistency import consistency
from gendiff.samplers.ddim import ddim
from gendiff.samplers.grid import time_grid
from gendiff.samplers.posterior import posterior

__all__ = ["ancestral", "consistency", "ddim", "posterior", "time_grid"]
