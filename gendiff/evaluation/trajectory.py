"""The straightness of a finished model's flow, as evaluation reports it."""

from __future__ import annotations

import math

from torch import Tensor

from gendiff import straightness as trajectories
from gendiff.evaluation.points import SEED
from gendiff.guidance import guide
from gendiff.model import Model
from gendiff.seeding import sample_noise

SAMPLES, STEPS = 256, 32
"""What it is measured on: enough for a few per cent."""


def straightness(model: Model, labels: Tensor, guidance: float) -> dict[str, float]:
    """Straightness of the flow along the straight path, with its interval.

    Liu, Gong & Liu 2023, Section 2.2: 0 where one Euler step is exact. Any denoiser is read along
    the straight path; one that knows only its own few times has no flow, and no figure.

    Args:
        labels: to condition on, (n,).
        guidance: weight.
    """
    method = model.method
    if "euler" not in method.samplers or method.even_times or method.path.steps:
        return {}
    labels = labels[:SAMPLES].to(method.device)
    cond = {"label": labels} if model.conditional else {}
    noise = sample_noise(SEED, 0, len(labels), method.shape, method.device)(-1)
    denoiser = guide(getattr(method, model.role), guidance)
    figures = trajectories.straightness(denoiser, noise, cond, STEPS)
    return figures if all(map(math.isfinite, figures.values())) else {}
