"""What looks like a run, a stage or a figure of this config, and is not: never taken for one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from torch.utils.data import Subset

from gendiff.cli import main
from gendiff.data.toy.sets import Mixture
from gendiff.storage import sha256


@pytest.fixture
def alone(files, tmp_path):
    """``alone(*words)``: runs the config alone, evaluated -> its figures."""
    asked = ["evaluation.steps=[1]", "evaluation.draws=2", "--dir", str(tmp_path)]

    def call(*words):
        assert main(["run", str(files / "small.yaml"), *asked, *words]) == 0
        return json.loads((tmp_path / "small/evaluation.json").read_text())

    return call


def test_accepted_figures_are_of_the_present_config(alone):
    """The same weights draw other samples along another path; another rate changes none of them."""
    old = alone()
    assert alone("optim.lr=0.5", "--accept", "small") == old
    (new,) = alone("optim.lr=0.5", "path.name=vp", "--accept", "small")
    assert new["weights"] == old[0]["weights"]
    assert new["frechet_distance"] != old[0]["frechet_distance"]


def test_a_copy_of_another_stage_is_not_taken(pair, done, capsys):
    """Its random numbers were others, though its config and so its fingerprint are the same."""
    twins = Path(pair).with_name("twins.yaml")
    twins.write_text("stages: {teacher: {config: small}, twin: {config: small}}")
    words = ["run", str(twins), "--dir", str(done)]
    shutil.copytree(done / "teacher", done / "twin")
    assert main(words) == 2
    assert "twin/stage.json is of stage 'teacher'" in capsys.readouterr().err
    assert main([*words, "--rerun", "twin"]) == 0
    first, second = (
        sha256(done / name / "weights/ema.safetensors") for name in ("teacher", "twin")
    )
    assert first != second


def test_a_stages_folder_is_no_runs(gendiff, done, snapshot):
    before = snapshot(done)
    for command in ("run", "status"):
        code, _, err = gendiff(command, done / "teacher")
        assert code == 2
        assert "teacher is a stage's folder" in err
    assert snapshot(done) == before


@pytest.mark.parametrize("name", ["far", "teacher"])
def test_a_stage_that_its_owner_has_moved_and_linked(gendiff, done, weights, tmp_path, name):
    """To another disk, say: it is none that trials share. A link to itself is told."""
    far = (tmp_path if name == "far" else done) / name
    shutil.move(done / "teacher", tmp_path / "far")
    (done / "teacher").symlink_to(far)
    for words in ([], ["--rerun", "teacher"]):
        code, _, err = gendiff("run", done, *words)
        assert (code, "cannot be written" in err) == ((0, False) if name == "far" else (2, True))
    if name == "far":
        assert weights(far) == weights(tmp_path / "far.old-1")


def test_what_only_would_not_train_is_not_moved_aside(gendiff, done, snapshot):
    before = snapshot(done)
    code, _, err = gendiff("run", done, "--only", "child", "--rerun", "teacher")
    assert (code, err) == (2, "gendiff: --rerun: teacher: --only child trains no other stage.\n")
    assert snapshot(done) == before


def test_other_data_than_before(gendiff, half, done, snapshot, monkeypatch):
    """As where files were added to a folder: what is held out would have been trained on."""
    asked = ["stages.teacher.evaluation.draws=2", "stages.teacher.evaluation.steps=[1]"]
    assert gendiff("run", done, *asked)[0] == 0
    before, whole = snapshot(done), Mixture.__init__

    def fewer(self, *args):
        whole(self, *args)
        self.train = Subset(self.train, range(150))

    monkeypatch.setattr(Mixture, "__init__", fewer)
    told = "200 rows to train on before, but 150 now; "
    code, _, err = gendiff("run", half)
    assert (code, f"teacher: data: {told}" in err) == (2, True)
    code, _, err = gendiff("run", done, asked[0], "stages.teacher.evaluation.steps=[2]")
    assert (code, told in err) == (2, True)
    assert snapshot(done) == before
