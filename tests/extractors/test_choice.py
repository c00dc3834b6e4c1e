"""Choosing an extractor: a mistake is one line that begins with its key; no file's code runs."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from gendiff.errors import UserError
from gendiff.extractors import check_extractor, make_extractor
from gendiff.extractors.base import to_uint8
from gendiff.extractors.points import Points
from gendiff.report.grid import save_grid


def refusal(function, name, weights):
    with pytest.raises(UserError) as caught:
        function(name, None if weights is None else str(weights))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("function", [check_extractor, make_extractor])
@pytest.mark.parametrize(
    ("name", "weights", "line"),
    [
        ("inceptoin", "w.pth", "evaluation.extractor: unknown extractor 'inceptoin'. Did you mean"),
        (
            "timm",
            "w.pth",
            "evaluation.extractor: unknown extractor 'timm'. Did you mean 'timm/NAME'?",
        ),
        ("clip", "w.pth", "evaluation.extractor: unknown extractor 'clip'. Allowed: dinov2, incep"),
        ("timm/test_vitt", "w.pth", "evaluation.extractor: timm has no model 'test_vitt'. Did you"),
        ("timm/test_vit.r161", "w.pth", "evaluation.extractor: timm has no model 'test_vit.r161'."),
        ("timm/hf-hub:a/b", "w.pth", "evaluation.extractor: timm has no model 'hf-hub:a/b'."),
        ("inception", None, "evaluation.weights: inception needs a file"),
        ("dinov2", None, "evaluation.weights: dinov2 needs a file"),
    ],
)
def test_a_wrong_choice_is_one_line(function, name, weights, line):
    assert refusal(function, name, weights).startswith(line)


@pytest.mark.parametrize("name", ["inception", "dinov2", "timm/test_vit"])
@pytest.mark.parametrize("weights", ["no/w.pth", "."])
def test_a_missing_file_is_told_when_it_is_to_be_read(name, weights):
    check_extractor(name, weights)
    line = refusal(make_extractor, name, weights)
    assert line == f"evaluation.weights: {weights}: no such file."


def test_an_unlike_name_does_not_list_all_of_timm():
    line = refusal(check_extractor, "timm/qqqqqq", "w.pth")
    assert line == "evaluation.extractor: timm has no model 'qqqqqq'."


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert refusal(check_extractor, "inception", "w.pth") == (
        "evaluation.extractor: inception needs torch-fidelity; pip install 'gendiff[inception]'."
    )


def test_a_right_choice_is_let_through(save):
    path = str(save({"a": torch.ones(1)}, "w.pth"))
    for name in ("inception", "dinov2", "timm/test_vit", "timm/test_vit.r160_in1k"):
        check_extractor(name, path)


class Hostile:
    """Unpickled, it leaves a file behind."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("name", ["inception", "timm/test_vit"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_files_code_never_runs(tmp_path, name, zipped):
    canary, path = tmp_path / "canary", tmp_path / "w.pth"
    content = {"a": torch.ones(1), "b": Hostile(canary)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    line = refusal(make_extractor, name, path)
    assert line.startswith(f"evaluation.weights: {path}: refused, it holds more than tensors")
    assert ".safetensors" in line
    assert not canary.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert canary.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_file(save, suffix, damage):
    path = save({"a": torch.ones(999)}, f"w.{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    line = refusal(make_extractor, "timm/test_vit", path)
    assert line.startswith(f"evaluation.weights: {path}: ")
    assert "damaged" in line or "refused" in line


@pytest.mark.parametrize("content", [torch.ones(3), {}, {"a": 1}, {0: torch.ones(1)}, ["a"]])
def test_a_file_of_something_else(save, content):
    line = refusal(make_extractor, "timm/test_vit", save(content, "w.pth"))
    assert "holds something else than tensors by name" in line


def test_images_become_what_pictures_hold(tmp_path):
    """Grid and extractor agree on every level, between levels, and beyond the range."""
    from PIL import Image

    x = torch.cat([torch.linspace(-1.2, 1.2, 1021), torch.tensor([float("nan"), 1e9, -1e9])])
    x = x.view(1, 1, 32, 32)
    save_grid(x, tmp_path / "x.png", columns=1)
    drawn = torch.tensor(list(Image.open(tmp_path / "x.png").tobytes())).view(32, 32)
    found = to_uint8(x)
    assert found.dtype == torch.uint8
    assert found.shape == (1, 3, 32, 32)
    assert (found == drawn).all()


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 2, 4, 4)])
def test_only_images_are_images(shape):
    with pytest.raises(ValueError, match=r"^expected images"):
        to_uint8(torch.zeros(shape))


def test_points_are_their_own_features():
    x = torch.randn(5, 2, 3)
    features, logits = Points().to("cpu")(x)
    assert torch.equal(features, x.view(5, 1, 6))
    assert logits is None
