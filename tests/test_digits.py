"""The main job in small: every stage, its evaluation, and what can be done with the folder."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

import gendiff
from gendiff.cli import main
from gendiff.pipeline.shipped import shipped_folder

SMALL = """
  digits_classifier:
    config: digits_classifier
    networks: {student: {members: 2, channels: 4}}
    trainer: {max_steps: 20}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The shipped pipeline with tiny networks and a few steps a stage."""
    folder = tmp_path_factory.mktemp("digits")
    text = (shipped_folder("stages") / "digits_fewstep.yaml").read_text()
    stages = folder / "small.yaml"
    stages.write_text(text.replace("stages:", f"stages:{SMALL}".rstrip(), 1))
    words = [str(stages), "--dir", str(folder / "run")]
    for stage in ("teacher", "halve", "consistency"):
        words += [f"stages.{stage}.networks.student.channels=16"]
        words += [f"stages.{stage}.trainer.max_steps=6", f"stages.{stage}.evaluation.draws=2"]
    words += ["stages.halve.chain.values=[2,1]", "stages.teacher.evaluation.steps=[1,2]"]
    assert main(["run", *words]) == 0
    return folder / "run", words


def test_the_folder_holds_what_the_readme_says(run):
    folder, _ = run
    assert (folder / "quality.md").read_text().count("| teacher | ddim |") == 4  # in two tables
    assert Image.open(folder / "quality.png").size[0] > 800
    assert (folder / "quality.svg").read_text().count("Pareto front") == 1
    for stage in ("teacher", "halve-2", "halve-1", "consistency"):
        names = {path.name for path in (folder / stage).iterdir()}
        assert names >= {"config.yaml", "stage.json", "done.json", "metrics.csv", "samples"}
        assert {p.stem for p in (folder / stage / "weights").iterdir()} == {"student", "ema"}
        assert list((folder / stage / "samples").glob("*.png"))
    entries = json.loads((folder / "halve-2" / "evaluation.json").read_text())
    assert {(e["steps"], e["nfe"], e["samples"], e["draws"]) for e in entries} == {
        (1, 1, 899, 2),
        (2, 2, 899, 2),
    }
    wanted = {"model", "role", "sampler", "guidance", "frechet_distance", "kernel_distance"}
    wanted |= {"frechet_distance_interval", "class_accuracy", "reference", "weights"}
    assert all(wanted <= set(entry) for entry in entries)


def test_the_teacher_is_recorded_in_its_student(run):
    folder, _ = run
    init = json.loads((folder / "halve-1" / "stage.json").read_text())["init"]
    digest = json.loads((folder / "halve-2" / "done.json").read_text())["digests"]
    for role in ("student", "teacher"):
        assert init[role]["from"] == "halve-2.ema"
        assert init[role]["digests"].items() <= digest.items()


def test_a_second_run_does_nothing(run, capsys):
    folder, words = run
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.json")}
    assert main(["run", *words]) == 0
    assert capsys.readouterr().out.count("up to date") == 5
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*.json")} == before


def test_sample_writes_a_grid_with_a_row_a_class(run, tmp_path):
    folder, _ = run
    model = str(folder / "consistency")
    assert main(["sample", model, "--steps", "1", "-n", "100", "-o", f"{tmp_path}/g.png"]) == 0
    width, height = Image.open(tmp_path / "g.png").size
    assert width == height >= 320
    assert main(["sample", model, "-n", "3", "--label", "7", "-o", f"{tmp_path}/seven/"]) == 0
    assert len(list((tmp_path / "seven").glob("*.png"))) == 3


def test_load_samples_alike_in_any_batches(run):
    folder, _ = run
    model = gendiff.load(folder / "teacher")
    x = model.sample(20, steps=2, seed=3)
    assert x.shape == (20, 1, 8, 8)
    assert x.dtype == torch.float32
    assert x.abs().max() <= 1
    model.batch = 7
    torch.testing.assert_close(model.sample(20, steps=2, seed=3), x)
    assert not torch.equal(model.sample(20, steps=2, seed=4), x)
    guided = model.sample(20, steps=2, seed=3, guidance=1.0)
    assert not torch.allclose(guided, x)
    before = model.nfe
    model.batch = 100
    model.sample(20, steps=3, guidance=1.0)
    assert model.nfe - before == 6  # guidance costs two calls a step


def test_evaluate_adds_points_and_redoes_none(run, tmp_path):
    folder, _ = run
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    path, out = copy / "teacher" / "evaluation.json", tmp_path / "metrics.json"
    old = json.loads(path.read_text())
    words = ["evaluate", str(copy / "teacher"), "--steps", "1,3", "--draws", "2", "-o", str(out)]
    assert main(words) == 0
    new = json.loads(path.read_text())
    assert new[: len(old)] == old
    assert [entry["steps"] for entry in new] == [1, 2, 3]
    assert [entry["steps"] for entry in json.loads(out.read_text())] == [1, 3]
    (copy / "digits_classifier" / "done.json").unlink()
    assert main(words) == 2
