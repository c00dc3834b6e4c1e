"""Toy data sets: what they hold, and that each can be trained on from the command line."""

from __future__ import annotations

import json

import pytest
import torch
from sklearn.datasets import make_moons, make_swiss_roll

from gendiff import registry
from gendiff.cli import main
from gendiff.metrics import energy_distance

BOUNDS = {"gaussians25": 1.1, "moons": 1.8, "swiss_roll": 1.2, "checkerboard": 1.0}
"""Largest coordinate of each set, noise included."""
CLASSES = {"gaussians25": 25, "moons": 2, "swiss_roll": 0, "checkerboard": 0}


def build(name, **values):
    cls = registry.lookup("data", name)
    config = cls.Config(**values)
    config.check()
    return cls(config)


@pytest.mark.parametrize("name", BOUNDS)
def test_set_holds_what_its_config_says(name):
    data, config = build(name, samples=3000, held_out=1000), registry.lookup("data", name).Config()
    assert (len(data.train), len(data.held_out), config.shape) == (3000, 1000, (2,))
    x0, label = (
        torch.cat([data.train.columns[column], data.held_out.columns[column]])
        for column in ("x0", "label")
    )
    assert (x0.dtype, label.dtype, x0.shape) == (torch.float32, torch.int64, (4000, 2))
    assert 0.7 * BOUNDS[name] < x0.abs().max() <= BOUNDS[name]
    assert x0.mean(0).abs().max() < 0.15  # the spiral's own is 0.13
    assert label.unique().tolist() == [*range(max(1, CLASSES[name]))]
    assert config.classes == CLASSES[name]
    # no point is in both halves
    assert len(x0.unique(dim=0)) == 4000


@pytest.mark.parametrize("name", BOUNDS)
def test_set_is_the_same_for_every_run(name):
    first = build(name, samples=100).train.columns
    torch.manual_seed(1)
    again = build(name, samples=100, batch_size=7).train.columns
    assert first["x0"].equal(again["x0"])
    assert first["label"].equal(again["label"])


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_gaussians25_is_the_papers_grid(scale):
    data = build("gaussians25", scale=scale)
    x0, label = data.train.columns["x0"] / scale, data.train.columns["label"]
    place = torch.stack([2 * (label // 5) - 4, 2 * (label % 5) - 4], 1)
    z = (x0 - place) / 0.05
    torch.testing.assert_close(z.T.cov(), torch.eye(2), rtol=0, atol=0.05)
    assert torch.bincount(label).tolist() == pytest.approx([400] * 25, abs=80)
    wanted = torch.tensor([-4.0, 2.0]).double() * scale
    torch.testing.assert_close(data.mixture.means[3], wanted)
    torch.testing.assert_close(data.mixture.stds, torch.full((25,), 0.05 * scale).double())


def sklearn_points(name):
    if name == "moons":
        points = make_moons(4000, noise=0.05, random_state=0)[0] - [0.5, 0.25]
    else:
        points = make_swiss_roll(4000, noise=0.5, random_state=0)[0][:, [0, 2]] / 14.137
    return torch.tensor(points)


@pytest.mark.parametrize("name", ["moons", "swiss_roll"])
def test_set_is_that_of_scikit_learn(name):
    distance = energy_distance(build(name, samples=4000).train.columns["x0"], sklearn_points(name))
    assert abs(distance) < 5e-4


def test_moons_labels_are_the_half_circles():
    data = build("moons", noise=0.0).train.columns
    centre = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])[data["label"]]
    offset = data["x0"] - centre
    torch.testing.assert_close(offset.norm(dim=1), torch.ones(len(offset)))
    assert (offset[:, 1] * (1 - 2 * data["label"]) > -1e-6).all()


def test_checkerboard_fills_its_dark_squares():
    x0 = build("checkerboard", samples=8000).train.columns["x0"]
    square = ((x0 + 1) * 2).floor().long().clamp(0, 3)
    assert (square.sum(1) % 2 == 0).all()
    counts = torch.bincount(4 * square[:, 0] + square[:, 1], minlength=16)
    assert counts[counts > 0].tolist() == pytest.approx([1000] * 8, abs=120)
    inside = ((x0 + 1) * 2) % 1
    torch.testing.assert_close(inside.mean(0), torch.full((2,), 0.5), rtol=0, atol=0.02)
    torch.testing.assert_close(inside.var(0), torch.full((2,), 1 / 12), rtol=0, atol=0.005)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("checkerboard", "samples", 0),
        ("moons", "held_out", -1),
        ("moons", "noise", -0.1),
        ("swiss_roll", "noise", float("nan")),
        ("gaussians25", "scale", 0.0),
        ("gaussians25", "samples", 0),
        ("mixture", "held_out", 0),
    ],
)
def test_impossible_sets_are_refused(name, key, value):
    with pytest.raises(ValueError, match=f"^{key}: "):
        build(name, **{key: value})


RUN = """
data: {{name: {name}, batch_size: 32, samples: 200, held_out: 60}}
networks: {{student: {{name: mlp, width: 8, depth: 1}}}}
method: {{name: diffusion}}
trainer: {{max_steps: 4}}
evaluation: {{steps: [2], draws: 2}}
"""


@pytest.mark.parametrize("name", BOUNDS)
def test_set_is_trained_on_and_evaluated(tmp_path, name):
    config = tmp_path / "toy.yaml"
    config.write_text(RUN.format(name=name))
    assert main(["run", str(config), "--dir", str(tmp_path / "run")]) == 0
    (entry,) = json.loads((tmp_path / "run" / "toy" / "evaluation.json").read_text())
    table = (tmp_path / "run" / "quality.md").read_text()
    assert entry["wasserstein2"] > 0
    assert "| energy distance |" in table
    known = name == "gaussians25"
    assert ("modes_covered" in entry) == ("| modes |" in table) == known
    assert ("high_quality" in entry) == ("| high quality, % |" in table) == known
