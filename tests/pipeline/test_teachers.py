"""Who may teach: a role that denoises at every time; others are refused while planning."""

from __future__ import annotations

import pytest

from gendiff.errors import UserError
from gendiff.pipeline.plan import make_plan
from gendiff.pipeline.stages import load_pipeline

STUDENTS = [
    "mixture_progressive",
    "mixture_consistency",
    "mixture_continuous_consistency",
    "mixture_online_reflow",
    "mixture_pairs",
    "mixture_score_identity",
]
NO_TEACHERS = [
    ("mixture_consistency_training", "ema"),
    ("mixture_easy_consistency", "student"),
    ("mixture_continuous_consistency_training", "ema"),
    ("mixture_denoising_gan", "generator_ema"),
    ("mixture_denoising_gan", "critic"),
    ("mixture_truncated", "ema"),
    ("mixture_truncated_plus", "ema"),
    ("mixture_truncated_plus", "generator_ema"),
    ("mixture_mean_flow", "ema"),
    ("mixture_shortcut", "ema"),
    ("digits_classifier", "ema"),
]
CRITIC = "networks: {critic: {name: mlp}}, method: {adversarial_weight: 0.1}"


def plan(folder, stages):
    path = folder / "given.yaml"
    path.write_text(f"stages: {{{stages}}}")
    return make_plan(load_pipeline(str(path), []), folder)


def refusal(folder, stages):
    with pytest.raises(UserError) as error:
        plan(folder, stages)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("config", "role"), NO_TEACHERS)
def test_a_role_that_cannot_teach(tmp_path, config, role):
    student = f"{{config: mixture_consistency, init: {{teacher: t.{role}}}}}"
    stages = f"t: {{config: {config}}}, s: {student}"
    name = config.partition("_")[2]
    assert refusal(tmp_path, stages).startswith(f"s: init.teacher: t.{role}, of {name}, has not ")


@pytest.mark.parametrize("student", STUDENTS)
def test_no_student_takes_a_consistency_model(tmp_path, student):
    student = f"{{config: {student}, init: {{teacher: t.ema}}}}"
    stages = f"t: {{config: mixture_easy_consistency}}, s: {student}"
    assert "t.ema, of easy_consistency, has not learned" in refusal(tmp_path, stages)


@pytest.mark.parametrize("student", ["score_identity", "distribution_matching", "consistency"])
def test_distilled_students_teach_nobody(tmp_path, student):
    stages = (
        "t: {config: mixture_diffusion},"
        f" a: {{config: mixture_{student}, init: {{teacher: t.ema}}}},"
        " b: {config: mixture_progressive, init: {teacher: a.ema}}"
    )
    assert f"b: init.teacher: a.ema, of {student}, has" in refusal(tmp_path, stages)


@pytest.mark.parametrize("role", ["ema", "student", "critic"])
def test_halving_students_teach(tmp_path, role):
    stages = (
        "t: {config: mixture_diffusion},"
        f" a: {{config: mixture_progressive, {CRITIC}, init: {{teacher: t.ema}}}},"
        f" b: {{config: mixture_consistency, init: {{teacher: a.{role}}}}}"
    )
    if role == "critic":
        assert "b: init.teacher: a.critic, of progressive" in refusal(tmp_path, stages)
    else:
        assert len(plan(tmp_path, stages)) == 3


@pytest.mark.parametrize("teacher", ["diffusion.ema", "diffusion.student", "flow.ema"])
@pytest.mark.parametrize("student", STUDENTS)
def test_diffusion_and_flow_teach(tmp_path, teacher, student):
    name, _, role = teacher.partition(".")
    stages = f"t: {{config: mixture_{name}}}, s: {{config: {student}, init: {{teacher: t.{role}}}}}"
    assert len(plan(tmp_path, stages)) == 2


@pytest.mark.parametrize(
    "stages",
    [
        (
            "t: {config: mixture_diffusion}",
            "a: {config: mixture_consistency, init: {student: t.ema, teacher: t.ema}}",
            "b: {config: mixture_easy_consistency, init: {student: a.ema}}",
        ),
        (
            "t: {config: mixture_flow}",
            "p: {config: mixture_pairs, init: {teacher: t.ema}}",
            "r: {config: mixture_reflow, init: {pairs: p.pairs}}",
            "o: {config: mixture_online_reflow, init: {teacher: r.ema}}",
            "s: {config: mixture_progressive, init: {teacher: o.ema}}",
        ),
    ],
    ids=["a-student-begins-as-another-kind", "reflowed-models-teach"],
)
def test_what_fits(tmp_path, stages):
    assert len(plan(tmp_path, ", ".join(stages))) == len(stages)
