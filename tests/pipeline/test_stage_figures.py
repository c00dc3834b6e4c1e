"""The figures of a stage by full name: its last losses, and of its points those that count."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from gendiff.config import compose
from gendiff.evaluation.points import Point
from gendiff.pipeline import figures
from gendiff.pipeline.figures import figures_of, history
from gendiff.storage import sealed, write_json

ROWS = "step,loss,late\n5,0.5,\n10,nan,3\n15,0.25,\n"
EVALUATION = {"steps": [4, 1, 2], "samplers": ["ddim", "heun"], "guidance": [0.0, 2.0]}


@pytest.fixture
def folder(tmp_path):
    """That of a stage which is done."""
    (tmp_path / "metrics.csv").write_text(ROWS)
    (tmp_path / "done.json").touch()
    return tmp_path


def stage(method, network, **evaluation):
    raw = {"data": {"name": "digits"}, "networks": {"student": network}}
    run = compose({**raw, "method": {"name": method}, "evaluation": evaluation}, "x")
    return SimpleNamespace(name="stage", run=run)


def test_history_holds_what_is_finite(folder):
    assert history(folder) == {"loss": [0.5, 0.25], "late": [3.0]}
    assert history(folder / "elsewhere") == {}


def test_of_a_stage_its_last_losses_and_the_first_of_each_choice(folder, monkeypatch):
    """And without a number of steps the point with the fewest; as far as they are there."""

    def entry(point):
        each = {"steps": point.steps, "guidance": point.guidance, "samples": 9, "draws": 2}
        size = point.steps + 10 * point.guidance + 100 * (point.sampler == "heun")
        return {**each, "d": size, "d_interval": 0.5, "e": math.inf, "sampler": point.sampler}

    made = stage("diffusion", {"name": "unet", "conditions": {"label": 10}}, **EVALUATION)
    points = figures.points_of(made.run)
    points = [p for p in points if p != Point("ema", "ddim", 1, 0.0)]
    assert len(points) == 11
    monkeypatch.setattr(figures, "current_entries", lambda *_: {p: entry(p) for p in points})
    losses = {"stage/loss": 0.25, "stage/late": 3.0}
    assert figures_of(made, folder) == {**losses, "stage/d": 2, "stage/d@2": 2, "stage/d@4": 4}
    (folder / "done.json").unlink()
    assert figures_of(made, folder) == {}


def test_a_classifiers_are_those_of_its_held_out_data(folder):
    made = stage("classifier", {"name": "classifier"}, steps=[])
    write_json(folder / "evaluation.json", [sealed({"accuracy": 0.9, "samples": 50})])
    found = figures_of(made, folder)
    assert found == {"stage/loss": 0.25, "stage/late": 3.0, "stage/accuracy": 0.9}
