"""What networks are told: conditions that no method gives are refused while configs load."""

from __future__ import annotations

import pytest

from gendiff.config import compose
from gendiff.errors import UserError

LINEAR = {"name": "linear"}
Z, TIME, WEIGHT, LABEL = {"z": 4}, {"second_time": 1}, {"guidance": 1}, {"label": 3}


def load(method, data="mixture", /, **conditions):
    """A config of points whose networks have these conditions, by role."""
    config = {"name": method} if isinstance(method, str) else method
    path = LINEAR if config["name"] in ("mean_flow", "shortcut") else {"name": "cosine"}
    networks = {
        role: {"name": "mlp", "width": 8, "depth": 1, "conditions": told}
        for role, told in conditions.items()
    }
    return compose(
        {"data": {"name": data}, "networks": networks, "path": path, "method": config}, "x"
    )


GAN = {"name": "denoising_gan", "latent": 4}
TOLD = {"name": "consistency", "guidance_max": 2.0}
STEPS = {"name": "distribution_matching", "student_steps": 2}
JUDGED = {**TOLD, "adversarial_weight": 0.1}


@pytest.mark.parametrize(
    ("method", "networks", "refused", "told"),
    [
        ("diffusion", {"student": TIME}, "student.conditions.second_time: 1", "label: 3"),
        ("diffusion", {"student": {**LABEL, **Z}}, "student.conditions.z: 4", "label: 3"),
        ("flow", {"student": WEIGHT}, "student.conditions.guidance: 1", "label: 3"),
        ("diffusion", {"student": {"label": 4}}, "student.conditions.label: 4", "label: 3"),
        ("easy_consistency", {"student": WEIGHT}, "student.conditions.guidance: 1", "label: 3"),
        ("mean_flow", {"student": LABEL}, "student.conditions.second_time: missing",
         "label: 3, second_time: 1"),
        ("shortcut", {"student": {**TIME, **Z}}, "student.conditions.z: 4",
         "label: 3, second_time: 1"),
        ("consistency", {"student": WEIGHT}, "student.conditions.guidance: 1", "label: 3"),
        (TOLD, {"student": LABEL}, "student.conditions.guidance: missing",
         "label: 3, guidance: 1"),
        (JUDGED, {"student": {**LABEL, **WEIGHT}, "critic": WEIGHT},
         "critic.conditions.guidance: 1", "label: 3"),
        ({**STEPS, "student_steps": 1}, {"student": {}, "fake": TIME},
         "fake.conditions.second_time: 1", "label: 3"),
        (STEPS, {"student": {}, "fake": {}}, "fake.conditions.second_time: missing",
         "label: 3, second_time: 1"),
        (STEPS, {"student": TIME, "fake": TIME}, "student.conditions.second_time: 1", "label: 3"),
        ({**STEPS, "guidance_max": 1.0},
         {"student": {**LABEL, **WEIGHT}, "fake": {**LABEL, **TIME}},
         "fake.conditions.guidance: missing", "label: 3, guidance: 1, second_time: 1"),
        (GAN, {"generator": {"z": 5}, "critic": {}}, "generator.conditions.z: 5", "label: 3, z: 4"),
        (GAN, {"generator": {}, "critic": {}}, "generator.conditions.z: missing", "label: 3, z: 4"),
        ({**GAN, "latent": 0}, {"generator": Z, "critic": {}}, "generator.conditions.z: 4",
         "label: 3"),
        (GAN, {"generator": Z, "critic": Z}, "critic.conditions.z: 4", "label: 3"),
        ("truncated", {"student": Z, "critic": {}}, "student.conditions.z: 4", "label: 3"),
        ({"name": "truncated_plus", "latent": 4}, {"student": Z, "generator": Z, "critic": {}},
         "student.conditions.z: 4", "label: 3"),
        ("truncated_plus", {"student": {}, "generator": Z, "critic": {}},
         "generator.conditions.z: 4", "label: 3"),
    ],
)  # fmt: skip
def test_a_condition_that_is_not_told_is_refused(method, networks, refused, told):
    name, role = (method if isinstance(method, str) else method["name"]), refused.split(".")[0]
    with pytest.raises(UserError) as error:
        load(method, **networks)
    assert str(error.value) == f"x: networks.{refused}; {name} tells its {role} {told}."


def test_nothing_is_told_of_data_without_labels():
    with pytest.raises(UserError, match="label: 3; diffusion tells its student nothing"):
        load("diffusion", "checkerboard", student=LABEL)


@pytest.mark.parametrize(
    ("method", "networks"),
    [
        ("mean_flow", {"student": TIME}),
        (JUDGED, {"student": {**LABEL, **WEIGHT}, "critic": LABEL}),
        (STEPS, {"student": LABEL, "fake": {**LABEL, **TIME}}),
        (GAN, {"generator": {**LABEL, **Z}, "critic": {}}),
        ({"name": "truncated_plus", "latent": 4}, {"student": {}, "generator": Z, "critic": LABEL}),
    ],
)
def test_what_is_told_may_be_taken(method, networks):
    assert {role: n.conditions for role, n in load(method, **networks).networks.items()} == networks
