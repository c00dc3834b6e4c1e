"""Shared fixtures: one thread, the paths, and mixtures whose truth is known."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start as well

import pytest
import torch

from gendiff.data.toy import GaussianMixture
from gendiff.paths import VE, VP, Cosine, Linear, Trig

torch.set_num_threads(1)
FIRST = {"test_kill.py", "test_sweep_agent.py", "test_interfaces.py", "test_combinations.py"}
"""The longest files, which no worker is to begin with last: a file is one worker's."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test draws the same inputs every time."""
    torch.manual_seed(0)


PATHS = [VP(), Cosine(), Linear(), Trig(0.7), VE()]


@pytest.fixture(params=PATHS, ids=lambda path: type(path).__name__)
def path(request):
    """Every kind of path that is continuous in time."""
    return request.param


@pytest.fixture(scope="session")
def gm1():
    """A mixture on the line, with a narrow component."""
    return GaussianMixture([0.3, 0.5, 0.2], [[-0.8], [0.1], [0.9]], [0.1, 0.25, 0.05])


@pytest.fixture(scope="session")
def gm2():
    """A mixture in the plane."""
    means = [[-0.7, -0.4], [0.6, -0.5], [0.1, 0.8]]
    return GaussianMixture([0.4, 0.35, 0.25], means, [0.15, 0.25, 0.10])


@pytest.fixture(scope="session")
def exact_flow(gm1):
    """The solution of gm1's probability flow: on a line it keeps every point's quantile."""

    def cdf(x, a, s):
        scale = ((a * gm1.stds) ** 2 + s**2).sqrt()
        z = (x[:, None] - a * gm1.means[:, 0]) / scale
        return (gm1.weights * torch.special.ndtr(z)).sum(1)

    def flow(path, x, t, s):
        """x, (B, 1) at time t -> its place at time s."""
        t, s = (torch.as_tensor(time, dtype=torch.float64) for time in (t, s))
        wanted = cdf(x[:, 0], path.alpha(t), path.sigma(t))
        low, high = torch.full_like(wanted, -9.0), torch.full_like(wanted, 9.0)
        for _ in range(55):
            middle = (low + high) / 2
            below = cdf(middle, path.alpha(s), path.sigma(s)) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return middle[:, None]

    return flow
