"""Figures as they are saved, and measured points."""

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would be saved, in order; to paint them takes time."""
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: saved.append(figure))
    return saved


@pytest.fixture
def point() -> Callable[..., dict[str, Any]]:
    """Makes a point of a model at a step count, with a Fréchet distance."""

    def make(model: str, steps: int, distance: float, **more: Any) -> dict[str, Any]:
        base = {"model": model, "sampler": "ddim", "steps": steps, "nfe": steps}
        return {**base, "frechet_distance": distance, **more}

    return make
