"""How straight a model's probability flow runs from noise to data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendiff.denoiser import along
from gendiff.evaluation.points import SEED
from gendiff.evaluation.sight import alone
from gendiff.guidance import guide
from gendiff.metrics import Straightness
from gendiff.model import Model
from gendiff.paths import Linear
from gendiff.seeding import sample_noise

SAMPLES, STEPS = 256, 32
"""What it is measured on: enough for a few per cent."""


@torch.no_grad()
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
    path, n = Linear(), len(labels)
    denoiser = guide(along(getattr(method, model.role), path), guidance)
    x = start = sample_noise(SEED, 0, n, method.shape, method.device)(-1)
    velocities = []
    for step in range(STEPS):
        t = torch.tensor(1 - step / STEPS)
        velocity = denoiser(x, t, cond).velocity
        velocities.append(velocity)
        x = x - velocity / STEPS
    metric = Straightness().to(method.device)
    metric.distributed_available_fn = alone
    metric.update(start, x, -torch.stack(velocities))
    figures = {name: float(value) for name, value in metric.compute().items()}
    return figures if all(map(math.isfinite, figures.values())) else {}
