"""What the comparisons share: tolerance classes, and the two mixtures with their names there."""

from __future__ import annotations

import pytest
import torch

TOLERANCES = {
    "X64": (1e-10, 1e-12),  # closed forms in float64
    "S64": (1e-7, 1e-8),  # loops in float64, other but equal algebra
    "O64": (1e-7, 1e-7),  # solutions of differential equations to a tolerance
    "S32": (2e-5, 2e-6),  # computed in float32
}
"""(relative, absolute)."""


@pytest.fixture(scope="session")
def same():
    """Compare ours with theirs, within a class of tolerances; types may differ."""

    def compare(ours, theirs, tolerance):
        rtol, atol = TOLERANCES[tolerance]
        ours, theirs = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, theirs))
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)

    return compare


@pytest.fixture(params=["gm1", "gm2"])
def mix(request):
    """What the keys of a mixture's numbers begin with."""
    return request.param


@pytest.fixture
def mixture(request, mix):
    return request.getfixturevalue(mix)
