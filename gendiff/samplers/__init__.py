"""Samplers: functions ``(denoiser, x, times, cond, noise) -> x`` and their time grids.

``times`` runs from noisy to clean, steps + 1 values; ``noise(step)`` supplies what is random.
"""

from gendiff.samplers.adaptive import rk45
from gendiff.samplers.ancestral import ancestral
from gendiff.samplers.consistency import consistency
from gendiff.samplers.ddim import ddim
from gendiff.samplers.dpm import dpm_solver, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s
from gendiff.samplers.flow import euler, heun, midpoint
from gendiff.samplers.flow_map import flow_map
from gendiff.samplers.grid import MOST_STEPS, time_grid
from gendiff.samplers.langevin import langevin, predictor_corrector
from gendiff.samplers.posterior import posterior

__all__ = [
    "MOST_STEPS",
    "ancestral",
    "consistency",
    "ddim",
    "dpm_solver",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2s",
    "euler",
    "flow_map",
    "heun",
    "langevin",
    "midpoint",
    "posterior",
    "predictor_corrector",
    "rk45",
    "time_grid",
]
