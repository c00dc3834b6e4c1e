"""Numbers so large that nothing would ever begin are refused while a config loads, and at once."""

from __future__ import annotations

import pytest

from gendiff.config import compose
from gendiff.errors import UserError
from gendiff.pipeline.shipped import shipped_folder
from gendiff.samplers.grid import MOST_STEPS
from gendiff.yaml_files import merge, read_overrides, read_yaml

HUGE = 2**40
COUNTS = [
    ("consistency", "method.intervals"),
    ("consistency_training", "method.intervals"),
    ("progressive", "method.student_steps"),
    ("score_identity", "method.student_steps"),
    ("distribution_matching", "method.student_steps"),
    ("denoising_gan", "method.steps"),
    ("denoising_gan", "method.latent"),
    ("truncated_plus", "method.latent"),
    ("shortcut", "method.finest"),
    ("pairs", "method.count"),
    ("pairs", "method.solver_steps"),
    ("online_reflow", "method.solver_steps"),
    ("consistency", "method.perceptual.size"),
    ("diffusion", "networks.student.depth"),
    ("diffusion", "data.batch_size"),
    ("diffusion", "data.samples"),
    ("diffusion", "data.held_out"),
    ("diffusion", "hardware.workers"),
    ("diffusion", "evaluation.draws"),
    ("diffusion", "evaluation.watch_times"),
]


def given(name, *words):
    raw = read_yaml(shipped_folder("configs") / f"mixture_{name}.yaml")
    return compose(merge(raw, read_overrides(list(words))), "x")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        *((name, key, HUGE) for name, key in COUNTS),
        ("diffusion", "evaluation.steps", f"[{HUGE}]"),
        ("diffusion", "evaluation.samplers", f"['langevin(walks={HUGE})']"),
        ("diffusion", "evaluation.samplers", f"['predictor_corrector(corrections={HUGE})']"),
        ("progressive", "method.student_steps", MOST_STEPS // 2 + 1),  # its teacher takes twice
    ],
)
def test_an_absurd_count_is_refused(name, key, value):
    with pytest.raises(UserError, match=rf"^x: {key}: .*({HUGE}|{MOST_STEPS})") as error:
        given(name, f"{key}={value}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "key"), [("online_reflow", "solver_steps"), ("pairs", "solver_steps")]
)
def test_the_most_steps_are_let_through(name, key):
    assert getattr(given(name, f"method.{key}={MOST_STEPS}").method, key) == MOST_STEPS


def test_halving_may_begin_where_its_authors_did():
    run = given("progressive", "method.student_steps=8192", "evaluation.steps=[]")
    assert run.method.student_steps == 8192
