"""Four unlike roads through the same interfaces, on data whose truth is known: all must learn.

Diffusion; a denoising GAN (two optimizers, a latent, its own sampler); stored pairs and the reflow
that reads them; a chain of two progressive links.
"""

from __future__ import annotations

import json

import pytest

from gendiff.cli import main


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """2-Wasserstein distance to true samples by (stage, steps), after short runs."""
    folder = tmp_path_factory.mktemp("roads")
    words = ["run", "mixture_interfaces", "--dir", str(folder)]
    steps = {"teacher": 400, "gan": 450, "reflow": 300, "halve": 100}
    words += [f"stages.{name}.trainer.max_steps={count}" for name, count in steps.items()]
    for name in steps:
        words += [f"stages.{name}.data.batch_size=256", f"stages.{name}.data.held_out=1000"]
        words += [f"stages.{name}.evaluation.metrics=[wasserstein2]"]
        words += [f"stages.{name}.evaluation.watch_times=0"]
        words += [f"stages.{name}.evaluation.draws=2"]  # one would be cut into ten for its interval
    words += ["stages.teacher.evaluation.steps=[1,4,32]", "stages.couples.method.count=3000"]
    words += ["stages.gan.method.penalty_every=4"]
    assert main(words) == 0
    entries = []
    for path in folder.glob("*/evaluation.json"):
        entries += json.loads(path.read_text())
    return {(entry["model"], entry["steps"]): entry["wasserstein2"] for entry in entries}


# two sets of 1,000 true samples are 0.1 apart, the data have a spread of 0.8
@pytest.mark.parametrize(
    ("stage", "steps", "most"),
    [
        ("teacher", 32, 0.25),
        ("gan", 4, 0.6),  # GANs differ much between seeds and machines
        ("reflow", 1, 0.25),
        ("halve-8", 8, 0.25),
        ("halve-4", 4, 0.25),
    ],
)
def test_every_road_reaches_the_data(figures, stage, steps, most):
    assert figures[stage, steps] < most


def test_few_step_students_beat_their_teacher_at_few_steps(figures):
    assert figures["reflow", 1] < 0.5 * figures["teacher", 1]
    assert figures["halve-4", 4] < figures["teacher", 4]
