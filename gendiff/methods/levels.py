"""Losses by noise level, of methods that leave each sample's time and error in ``seen``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

LEVELS = 5
"""Equal parts of `Path.noise_level`, which is in [0, 1]: on every path the same signal-to-noise
ratios. level-1 has the least noise."""


def level_sums(method: Any) -> dict[str, float]:
    """Sum and number of this process's errors at each level; nothing where none were left.

    All levels are there, those without a sample as well, so that processes can add theirs up.
    """
    if not method.seen:
        return {}
    t, errors = (torch.cat(parts) for parts in zip(*method.seen, strict=True))
    level = (method.path.noise_level(t) * LEVELS).long().clamp(0, LEVELS - 1).cpu()
    sums = torch.zeros(2, LEVELS, dtype=torch.float64)
    sums[0].index_add_(0, level, errors.cpu().double())
    sums[1] = torch.bincount(level, minlength=LEVELS)
    return {
        f"{what}-{k}": float(x)
        for what, row in zip("sn", sums, strict=True)
        for k, x in enumerate(row, 1)
    }


def level_means(sums: Mapping[str, float]) -> dict[str, float]:
    """``level-<k>``: the mean error, of the levels that have samples, all of them finite."""
    if not sums:
        return {}
    means = {
        f"level-{k}": sums[f"s-{k}"] / sums[f"n-{k}"]
        for k in range(1, LEVELS + 1)
        if sums[f"n-{k}"]
    }
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
