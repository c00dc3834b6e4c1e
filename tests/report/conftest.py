"""Figures as they are saved, and measured points."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from gendiff.config import to_yaml
from gendiff.pipeline.fingerprint import identity
from gendiff.pipeline.stages import load_pipeline
from gendiff.storage import read_json, sha256, write_json, write_text


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


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Path]:
    """Writes a finished stage into ``tmp_path / "run"``, as gendiff would, without training it."""
    run_folder = tmp_path / "run"

    def make(name: str, init: dict[str, str] | None = None, words: list[str] | None = None) -> Path:
        run = load_pipeline("mixture_diffusion", words or []).stages["mixture_diffusion"].run
        folder = run_folder / name
        write_text(folder / "config.yaml", to_yaml(run))
        digests = {"weights/ema.safetensors": write_text(folder / "weights/ema.safetensors", name)}
        origin = {}
        for role, ref in (init or {}).items():
            theirs = run_folder / ref.rpartition(".")[0] / "done.json"
            used = {"weights/ema.safetensors": "0" * 64}
            if theirs.is_file():
                given = read_json(theirs)["digests"]
                used = {key: given[key] for key in used}
            origin[role] = {"from": ref, "new": [], "fingerprint": "f" * 64, "digests": used}
        fingerprint = sha256(folder / "config.yaml")
        told = {"host": "here", "versions": {"torch": "2"}}
        what = {"stage": name, "fingerprint": fingerprint, "identity": identity(run)}
        write_json(folder / "stage.json", {**what, "init": origin, "provenance": told})
        digests["config.yaml"] = fingerprint
        cost = {"seconds": 20.0, "processes": 2, "device": "cpu"}
        done = {"fingerprint": fingerprint, "steps": run.trainer.max_steps, **cost}
        write_json(folder / "done.json", {**done, "digests": digests})
        return folder

    return make
