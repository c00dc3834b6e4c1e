"""Evaluating a finished stage: what an entry says, resuming, ranks, and comparing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch

import gendiff
from gendiff.cli import main
from gendiff.errors import Interrupted
from gendiff.evaluation import stage as stage_module
from gendiff.methods.diffusion import Diffusion

TIMES = {"seal", "images_per_second", "peak_memory_mb", "seconds"}


def plain(value):
    """An entry without what differs between two runs."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in TIMES}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def test_an_entry_says_everything(evaluate, model, monkeypatch):
    monkeypatch.undo()  # with its picture
    entry = evaluate("--steps", "3", "--draws", "3")["ddim", 3]
    assert {
        **{"model": "small", "role": "ema", "nfe": 3, "guidance": 0.0, "samples": 101},
        **{"draws": 3, "steps": 3},
    }.items() <= entry.items()
    figures = {
        *("frechet_distance", "frechet_infinity", "precision", "recall", "density", "coverage"),
        *("kernel_distance", "wasserstein2", "sliced_wasserstein2", "energy_distance"),
        *("modes_covered", "high_quality", "mode_divergence", "nearest_ratio", "copying"),
        "straightness",
    }
    assert figures <= set(entry)
    assert {f"{name}_interval" for name in figures} <= set(entry)
    assert len({str(one["figures"]) for one in entry["each"]}) == 3
    assert entry["images_per_second"] > 0
    assert entry["peak_memory_mb"] > 0
    assert len(entry["weights"]) == 64
    assert len(list((model / "samples").glob("*.png"))) == 1
    mean = sum(one["figures"]["recall"] for one in entry["each"]) / 3
    assert entry["recall"] == pytest.approx(mean)


def test_nfe_is_counted_by_the_denoiser(evaluate):
    points = evaluate("--steps", "4", "--sampler", "heun", "--sampler", "ddim", "--draws", "2")
    assert points["ddim", 4]["nfe"] == 4
    assert points["heun", 4]["nfe"] == 7  # two calls a step, one in the last


def test_a_single_draw_has_intervals_too(evaluate):
    entry = evaluate("--steps", "3", "--draws", "1")["ddim", 3]
    assert entry["frechet_distance_interval"] > 0
    assert entry["recall_interval"] > 0


def test_raw_and_averaged_weights(model):
    words = ["--steps", "2", "--draws", "2", "--role", "ema", "--role", "student"]
    assert main(["evaluate", str(model), *words]) == 0
    ema, raw = json.loads((model / "evaluation.json").read_text())
    assert (ema["role"], raw["role"]) == ("ema", "student")
    assert ema["weights"] != raw["weights"]
    assert ema["frechet_distance"] != raw["frechet_distance"]


def test_more_draws_add_to_those_there_are(evaluate, monkeypatch):
    before = evaluate("--steps", "2", "--draws", "2")["ddim", 2]
    drawn = counting(monkeypatch)
    after = evaluate("--steps", "2", "--draws", "4")["ddim", 2]
    assert drawn == [2, 3]
    assert after["each"][:2] == before["each"]


def counting(monkeypatch, stop_after=None):
    """The numbers of the draws that are drawn from now on."""
    numbers, draw = [], stage_module.draw

    def counted(model, reference, point, number, *rest):
        if len(numbers) == stop_after:
            raise Interrupted("stopped")
        numbers.append(number)
        return draw(model, reference, point, number, *rest)

    monkeypatch.setattr(stage_module, "draw", counted)
    return numbers


@pytest.mark.parametrize("stop", [1, 3])
def test_interrupted_it_goes_on_where_it_was(model, evaluate, monkeypatch, stop):
    words = ["--steps", "1,2", "--draws", "3"]
    with monkeypatch.context() as patch:
        drawn = counting(patch, stop)
        assert main(["evaluate", str(model), *words]) == 75
        assert len(drawn) == stop
    drawn = counting(monkeypatch)
    resumed = evaluate(*words)
    assert len(drawn) == 6 - stop
    (model / "evaluation.json").unlink()
    assert plain(resumed) == plain(evaluate(*words))


def test_two_processes_give_the_figures_of_one(model, evaluate, tmp_path, monkeypatch, capsys):
    """As torchrun starts them; this one is the first of them."""
    words = ["--steps", "2", "--sampler", "ancestral", "--draws", "2"]
    alone = evaluate(*words)["ancestral", 2]
    other = shutil.copytree(model.parent, tmp_path / "other") / model.name
    (other / "evaluation.json").unlink()
    for folder in other.parent.glob("reference-*"):
        shutil.rmtree(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [{**place, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    command = [sys.executable, "-m", "gendiff", "evaluate", str(other), *words]
    env = {**os.environ, **ranks[1]}
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        for name, value in ranks[0].items():
            patch.setenv(name, value)
        assert main(command[3:]) == 0
    assert "ancestral" in capsys.readouterr().out
    assert second.communicate(timeout=300)[0] == ""  # one rank speaks
    assert second.returncode == 0
    (shared,) = json.loads((other / "evaluation.json").read_text())
    assert shared["reference"] == alone["reference"]
    assert {one["processes"] for one in shared["each"]} == {2}
    for name, value in alone["each"][1]["figures"].items():
        assert shared["each"][1]["figures"][name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_other_data_are_another_reference_and_another_table(trained, tmp_path, capsys):
    other = tmp_path / "other"
    words = ["data.held_out=60", "--dir", str(other)]
    assert main(["run", str(trained.parent / "small.yaml"), *words]) == 0
    mine = shutil.copytree(trained, tmp_path / "run")
    models = [str(mine / "small"), str(other / "small")]
    out = tmp_path / "both.json"
    assert main(["evaluate", *models, "--steps", "2", "--draws", "2", "-o", str(out)]) == 0
    entries = json.loads(out.read_text())
    assert len({entry["reference"] for entry in entries}) == 2
    page = (tmp_path / "both.md").read_text()
    assert page.count("not comparable") >= 1
    assert len(list(tmp_path.glob("both-*.png"))) == len(list(tmp_path.glob("both-*.svg"))) == 2


def test_reference_figures_do_not_outlive_a_change_of_data(model, evaluate):
    before = evaluate("--steps", "2", "--draws", "2")["ddim", 2]
    after = evaluate("--steps", "2", "--draws", "2", "--samples", "50")["ddim", 2]
    assert (before["samples"], after["samples"]) == (101, 50)
    assert before["reference"] != after["reference"]
    assert len(json.loads((model / "evaluation.json").read_text())) == 2  # both are true


def test_batches_draw_what_a_whole_set_is(model):
    whole = gendiff.load(model)
    parts = gendiff.load(model)
    parts.batch = 7
    torch.testing.assert_close(whole.sample(20, 2), parts.sample(20, 2))
    (row,) = [x for _, x in parts.batches(11, 12, 2)]
    torch.testing.assert_close(row[0], whole.sample(20, 2)[11])


def test_figures_asked_for_later_do_not_cost_those_there_are(model, evaluate, monkeypatch):
    whole = evaluate("--steps", "2", "--draws", "2")["ddim", 2]
    drawn = counting(monkeypatch)
    assert evaluate("--steps", "2", "--draws", "2", "--metric", "modes")["ddim", 2] == whole
    assert drawn == []


def test_figures_that_were_not_asked_for_before_are_computed(evaluate):
    few = evaluate("--steps", "2", "--draws", "2", "--metric", "modes")["ddim", 2]
    assert "recall" not in few
    both = ("--metric", "modes", "--metric", "precision_recall")
    assert evaluate("--steps", "2", "--draws", "2", *both)["ddim", 2]["recall"] >= 0


@pytest.mark.parametrize("metric", ["precision_recall", "modes", "energy_distance"])
def test_figures_without_a_distance_make_a_table_alone(model, tmp_path, metric):
    out = tmp_path / "some.json"
    words = ["--steps", "2", "--draws", "2", "--metric", metric, "-o", str(out)]
    assert main(["evaluate", str(model), *words]) == 0
    assert (tmp_path / "some.md").is_file()
    assert not (tmp_path / "some.png").exists()


def test_a_single_draw_left_by_a_stopped_evaluation_gets_its_interval(model, evaluate, monkeypatch):
    with monkeypatch.context() as patch:
        counting(patch, 1)
        assert main(["evaluate", str(model), "--steps", "2"]) == 75
    assert evaluate("--steps", "2", "--draws", "1")["ddim", 2]["frechet_distance_interval"] > 0


def test_samples_that_are_not_finite_are_said(model, evaluate, monkeypatch, capsys, tmp_path):
    sample = Diffusion.sample

    def broken(self, n, *rest, **options):
        x = sample(self, n, *rest, **options)
        x[3] = float("nan")
        return x

    monkeypatch.setattr(Diffusion, "sample", broken)
    out = tmp_path / "x.json"
    entry = evaluate("--steps", "2", "--draws", "2", "-o", str(out))["ddim", 2]
    assert entry["broken"] == 2
    assert "frechet_distance" not in entry
    assert "not finite: no figures" in capsys.readouterr().err
    assert "not finite" in (tmp_path / "x.md").read_text()


@pytest.mark.parametrize(
    ("word", "precise"), [("held_out=3", False), ("held_out=6", True), ("samples=2", True)]
)
def test_tiny_data_have_the_figures_that_they_can(trained, tmp_path, word, precise):
    run = ["run", str(trained.parent / "small.yaml"), "--dir", str(tmp_path), f"data.{word}"]
    for draws in (1, 2):
        options = ["evaluation.steps=[2]", f"evaluation.draws={draws}"]
        assert main([*run, *options]) == 0
    (entry,) = json.loads((tmp_path / "small/evaluation.json").read_text())
    assert entry["energy_distance"] is not None
    assert ("precision" in entry) == precise


@pytest.mark.parametrize("change", [{"role": "gone"}, {"each": None}, {"weights": "0"}])
def test_an_entry_of_something_else_is_not_shown(model, evaluate, change):
    path = model / "evaluation.json"
    before = evaluate("--steps", "2", "--draws", "2")["ddim", 2]
    entry = {**before, **change}
    path.write_text(json.dumps([{k: v for k, v in entry.items() if v is not None}]))
    assert plain(evaluate("--steps", "2", "--draws", "2")["ddim", 2]) == plain(before)


def test_models_of_one_name_are_told_apart_and_may_follow_options(trained, tmp_path):
    folders = [shutil.copytree(trained, tmp_path / name) / "small" for name in "ab"]
    out = tmp_path / "c.d.json"
    words = [str(folders[0]), "--steps", "2", "--draws", "2", str(folders[1]), "-o", str(out)]
    assert main(["evaluate", *words, str(folders[1])]) == 0
    assert [entry["model"] for entry in json.loads(out.read_text())] == list(map(str, folders))
    assert (tmp_path / "c.d.md").is_file()
