"""Numbers of the authors' own code, and how closely ours must agree with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

ORACLES = Path(__file__).parents[1] / "oracles"
# (relative, absolute)
TOLERANCES = {
    "X64": (1e-10, 1e-12),  # closed forms in double precision
    "S32": (2e-5, 2e-6),  # their numbers are single precision
    "far": (1e-4, 2e-6),  # single precision, where sigma / alpha is in the thousands
}


@pytest.fixture(scope="module")
def theirs(request):
    """The arrays of tests/oracles/NAME.npz, for test_NAME.py."""
    arrays = np.load(ORACLES / f"{request.path.stem.removeprefix('test_')}.npz")
    return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture(scope="session")
def agree():
    """Compare ours with theirs, both tensors."""

    def check(ours, expected, tolerance="X64"):
        rtol, atol = TOLERANCES[tolerance]
        torch.testing.assert_close(ours.double(), expected.double(), rtol=rtol, atol=atol)

    return check
