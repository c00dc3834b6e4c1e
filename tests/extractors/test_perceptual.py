"""Distances in features: closed forms, and students trained with them from the command line."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from gendiff.cli import main
from gendiff.extractors.perceptual import Perceptual
from gendiff.methods.base import Method, MethodConfig

NAME = "timm/test_vit"


@pytest.fixture
def weights(vit, save):
    return save(vit.state_dict(), "vit.safetensors")


def test_it_compares_directions_of_features(vit, weights):
    distance = Perceptual(NAME, str(weights), 160)
    made, goal = torch.rand(2, 3, 12, 12) * 2 - 1, torch.rand(2, 3, 12, 12) * 2 - 1
    made.requires_grad_()
    found = distance(made, goal)
    maps = []
    for x in (made, goal):
        pixels = F.interpolate((x + 1) / 2, (160, 160), mode="bicubic", antialias=True)
        seen = (pixels - 0.5) / 0.5
        maps.append(vit.forward_intermediates(seen, intermediates_only=True))
    angles = [F.cosine_similarity(a, b, dim=1) for a, b in zip(*maps, strict=True)]
    wanted = torch.stack([2 - 2 * a.flatten(1).mean(1) for a in angles]).mean(0)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    found.sum().backward()
    assert made.grad.abs().sum() > 0
    torch.testing.assert_close(distance(goal, goal), torch.zeros(2), atol=1e-6, rtol=0)


def test_grey_images_are_seen_as_colours(weights):
    distance = Perceptual(NAME, str(weights), 160)
    grey = torch.rand(2, 2, 1, 8, 8) * 2 - 1
    colour = grey.expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(distance(*grey), distance(*colour))


def test_all_of_it_moves_with_the_method(weights):
    method = Method(
        MethodConfig("any"),
        {},
        frozen={"perceptual": Perceptual(NAME, str(weights), 160)},
        shape=(3, 8, 8),
    )
    method.to(torch.float64)
    moved = method.frozen_roles["perceptual"]
    tensors = [*moved.parameters(), *moved.buffers()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float64}
    assert not any(parameter.requires_grad for parameter in moved.parameters())


CONFIG = """
data: {{name: digits, batch_size: 8}}
networks:
  student: {{name: unet, channels: 8, multipliers: [1], conditions: {{label: 10}}}}
  fake: {{name: unet, channels: 8, multipliers: [1], conditions: {{label: 10}}}}
method:
  name: distribution_matching
  fake_batches: 1
  perceptual: {{weight: 0.5, extractor: {extractor}, weights: {weights}, size: 160}}
trainer: {{max_steps: 2}}
logging: {{every_steps: 1}}
"""
STAGES = """
stages:
  teacher:
    config: {folder}/teacher.yaml
  student: {{config: {folder}/student.yaml, init: {{teacher: teacher.ema, student: teacher.ema}}}}
"""
TEACHER = """
data: {name: digits, batch_size: 8}
networks:
  student: {name: unet, channels: 8, multipliers: [1], conditions: {label: 10}}
method: {name: diffusion}
trainer: {max_steps: 1}
"""


@pytest.fixture
def stages(tmp_path):
    def write(extractor, weights):
        text = CONFIG.format(extractor=extractor, weights=weights)
        (tmp_path / "student.yaml").write_text(text)
        (tmp_path / "teacher.yaml").write_text(TEACHER)
        path = tmp_path / "stages.yaml"
        path.write_text(STAGES.format(folder=tmp_path))
        return path

    return write


def test_a_student_is_trained_with_it_and_then_read_without(stages, weights, tmp_path, capsys):
    path = stages(NAME, weights)
    assert main(["run", str(path), "--dir", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    folder = tmp_path / "run" / "student"
    assert "student/perceptual" in (folder / "metrics.csv").read_text().split("\n")[0]
    assert {p.stem for p in (folder / "weights").iterdir()} == {"student", "ema", "fake"}

    def told(*words):
        code = main([*words[:1], str(path), "--dir", str(tmp_path / "run"), *words[1:]])
        out, err = capsys.readouterr()
        return code, out + err

    # from now on its file is needed by nobody but another training
    capsys.readouterr()
    moved = weights.rename(tmp_path / "moved.safetensors")
    code, text = told("status")
    assert code == 0
    assert "student                  done" in text
    assert told("run")[0] == 0
    assert main(["sample", str(folder), "-n", "2", "-o", str(tmp_path / "x.npz")]) == 0
    capsys.readouterr()
    code, text = told("run", "--rerun", "student")
    assert code == 2
    assert f"student: method.perceptual.weights: {weights}: no such file" in text
    assert (folder / "done.json").is_file()
    # what it is, not where it lies
    elsewhere = f"stages.student.method.perceptual.weights={moved}"
    assert "student                  done" in told("status", elsewhere)[1]
    save_file({name: t + 1 for name, t in load_file(moved).items()}, moved)
    text = told("status", elsewhere)[1]
    assert "student                  stale" in text
    assert "method.perceptual.weights_digest: " in text


@pytest.mark.parametrize(
    ("extractor", "file", "message"),
    [
        (
            "resnet18",
            "vit.safetensors",
            "method.perceptual.extractor: 'resnet18' must be timm/NAME",
        ),
        ("timm/resnet1", "vit.safetensors", "method.perceptual.extractor: timm has no model"),
        (NAME, "other.pth", "method.perceptual.weights: "),
    ],
)
def test_what_it_lacks_is_said_before_anything_trains(
    stages, weights, extractor, file, message, tmp_path, capsys
):
    path = stages(extractor, weights.with_name(file))
    assert main(["run", str(path), "--dir", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "teacher").exists()
