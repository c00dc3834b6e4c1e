"""States on disk, what makes a stage stale, and what a second run does and leaves alone."""

from __future__ import annotations

import json
import shutil

import pytest

from gendiff.pipeline.plan import make_plan
from gendiff.pipeline.stages import load_pipeline

TEACHER = "stages.teacher."


def records(target, folder, *words):
    plan = make_plan(load_pipeline(target, list(words)), folder)
    return {step.stage.name: step.record["fingerprint"] for step in plan}


@pytest.mark.parametrize(
    "word",
    [
        "hardware.accelerator=cpu",
        "hardware.accumulate=2",
        "hardware.precision=bf16",
        "logging.every_steps=3",
        "logging.tensorboard=true",
        "evaluation.steps=[4]",
        "evaluation.draws=2",
        "trainer.checkpoint_steps=2",
        "method.prediction=v",
        "optim.betas=[0.9,0.999]",
        "path.name=cosine",
        "optim.name=adamw",
        "seed=0",
    ],
)
def test_fingerprint_ignores_what_trains_nothing_else(pair, tmp_path, word):
    assert records(pair, tmp_path, TEACHER + word) == records(pair, tmp_path)


@pytest.mark.parametrize(
    "word",
    [
        "optim.lr=0.02",
        "seed=1",
        "trainer.max_steps=13",
        "data.samples=201",
        "data.batch_size=16",
        "networks.student.depth=2",
        "path.name=vp",
        "method.label_dropout=0.5",
    ],
)
def test_fingerprint_follows_what_is_trained(files, tmp_path, word):
    target = str(files / "small.yaml")
    assert records(target, tmp_path, word) != records(target, tmp_path)


def test_fingerprint_of_a_child_follows_its_parent(pair, tmp_path):
    old, new = records(pair, tmp_path), records(pair, tmp_path, f"{TEACHER}seed=1")
    assert old["child"] != new["child"]


def test_fingerprint_of_a_parent_does_not_follow_its_child(pair, tmp_path):
    old, new = records(pair, tmp_path), records(pair, tmp_path, "stages.child.optim.lr=0.02")
    assert old["teacher"] == new["teacher"]
    assert old["child"] != new["child"]


def test_version_of_a_method_is_part_of_the_fingerprint(pair, tmp_path, monkeypatch):
    from gendiff.methods.diffusion import Diffusion

    old = records(pair, tmp_path)
    monkeypatch.setattr(Diffusion, "version", Diffusion.version + 1)
    assert old["teacher"] != records(pair, tmp_path)["teacher"]


def states(out):
    return {line.split()[0]: line.split()[1] for line in out.strip().split("\n")}


def test_status_of_a_new_folder(gendiff, tmp_path):
    code, out, _ = gendiff("status", tmp_path / "new")
    assert code == 0
    assert states(out) == {"teacher": "missing", "child": "missing"}
    assert "waits for teacher" in out
    assert not (tmp_path / "new").exists()


def test_status_of_a_stopped_run(gendiff, half):
    _, out, _ = gendiff("status", half)
    assert states(out) == {"teacher": "resumable", "child": "missing"}
    assert "8/12" in out


def test_status_of_what_changed(gendiff, done):
    _, out, _ = gendiff("status", done, f"{TEACHER}optim.lr=0.5")
    assert states(out) == {"teacher": "stale", "child": "stale"}
    assert "optim.lr: 0.01 -> 0.5" in out


@pytest.mark.parametrize("words", [["status"], ["run", "--dry-run"]])
@pytest.mark.parametrize("change", [[], [f"{TEACHER}seed=4"]])
def test_status_and_dry_run_touch_nothing(gendiff, done, snapshot, words, change):
    before = snapshot(done)
    gendiff(words[0], done, *words[1:], *change)
    assert snapshot(done) == before


def test_dry_run_begins_nothing(gendiff, tmp_path):
    code, out, _ = gendiff("run", tmp_path / "new", "--dry-run")
    assert code == 0
    assert "[1/2] teacher: to do" in out
    assert not (tmp_path / "new").exists()


def test_one_stage_counts_as_of_all(gendiff, done):
    assert "[2/2] child: up to date" in gendiff("run", done, "--only", "child")[1]


def test_one_stage_waits_for_no_other(gendiff, half, monkeypatch):
    """Batches that come after it are of other runs."""
    seen = []

    def note(step, latest, title, reporter, *_):
        seen.append((title, reporter.ahead))

    monkeypatch.setattr("gendiff.pipeline.runner.run_step", note)
    for words in (["--only", "teacher"], []):
        gendiff("run", half, *words)
    assert seen == [("[1/2] teacher", 0), ("[1/2] teacher", 12), ("[2/2] child", 0)]


def test_second_run_is_up_to_date(gendiff, done, snapshot):
    before = snapshot(done)
    code, out, _ = gendiff("run", done)
    assert code == 0
    assert out.count("up to date") == 2
    assert snapshot(done) == before


def test_stopped_run_ends_as_an_undisturbed_one(gendiff, half, finished, weights):
    code, out, _ = gendiff("run", half)
    assert code == 0
    assert "resumes at step 8 of 12" in out
    assert weights(half) == weights(finished)


def test_stale_stage_stops_the_run_before_anything_is_trained(gendiff, done, snapshot):
    before = snapshot(done)
    code, out, err = gendiff("run", done, "stages.child.optim.lr=0.5")
    assert code == 2
    assert "child: stale: optim.lr: 0.01 -> 0.5" in err
    assert "--rerun child" in err
    assert "--accept child" in err
    assert "teacher" not in out
    assert snapshot(done) == before


def test_parent_with_other_weights_makes_the_child_stale(gendiff, done):
    other = done.parent / "other"
    gendiff("run", other, f"{TEACHER}seed=9", "--only", "teacher")
    shutil.rmtree(done / "teacher")
    shutil.copytree(other / "teacher", done / "teacher")
    for name in ("stage.json", "done.json"):  # as if trained anew under the same fingerprint
        record = json.loads((done / "teacher" / name).read_text())
        del record["seal"]
        record["fingerprint"] = json.loads((done / "child/stage.json").read_text())["init"][
            "teacher"
        ]["fingerprint"]
        (done / "teacher" / name).write_text(json.dumps(record))
    code, _, err = gendiff("run", done)
    assert code == 2
    assert "child: stale" in err
    assert "the weights of teacher.ema changed" in err


def test_rerun_moves_aside(gendiff, done, weights):
    old = weights(done / "child")
    for number in (1, 2):
        code, _, _ = gendiff("run", done, "stages.child.seed=5", "--rerun", "child")
        assert code == 0
        assert (done / f"child.old-{number}").is_dir()
    assert weights(done / "child.old-1") == old
    assert weights(done / "child.old-2") == weights(done / "child") != old


def test_a_stage_knows_its_place(finished):
    """By which the report has the order and the colours of the run's own picture."""
    records = [json.loads(path.read_text()) for path in finished.glob("*/stage.json")]
    assert {one["stage"]: one["place"] for one in records} == {"teacher": 0, "child": 1}


@pytest.mark.parametrize("word", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_rerun_is_for_the_first_start_alone(gendiff, done, monkeypatch, word):
    monkeypatch.setenv(word, "1")
    assert "child: up to date" in gendiff("run", done, "--rerun", "child")[1]
    monkeypatch.setenv(word, "0")
    assert "child: to do" in gendiff("run", done, "--rerun", "child")[1]


def test_accept_keeps_weights(gendiff, done, weights):
    old, words = weights(done), ["stages.child.optim.lr=0.5"]
    assert gendiff("run", done, *words, "--accept", "child")[0] == 0
    assert weights(done) == old
    assert gendiff("run", done, *words)[1].count("up to date") == 2
    assert "lr: 0.5" in (done / "child/config.yaml").read_text()


def test_accept_refuses_other_shapes(gendiff, tmp_path, done, snapshot):
    before = snapshot(done)
    words = ["stages.teacher.networks.student.width=16", "stages.child.networks.student.width=16"]
    code, _, err = gendiff("run", done, *words, "--accept", "teacher")
    assert code == 2
    assert "do not fit: shape of" in err
    assert "(8" in err.partition(" -> ")[0]
    assert "(16" in err.partition(" -> ")[2]
    assert snapshot(done) == before


def test_only_waits_for_its_parent(gendiff, tmp_path):
    code, _, err = gendiff("run", tmp_path, "--only", "child")
    assert code == 2
    assert "child: waits for teacher" in err
    assert not (tmp_path / "child" / "stage.json").exists()
    assert gendiff("run", tmp_path, "--only", "teacher")[0] == 0
    assert gendiff("run", tmp_path, "--only", "child")[0] == 0


def test_changed_evaluation_is_redone_alone(gendiff, done, snapshot):
    before = snapshot(done)
    words = ["stages.teacher.evaluation.steps=[1,2]", "stages.teacher.evaluation.draws=2"]
    code, out, err = gendiff("run", done, *words)
    assert (code, out.count("up to date")) == (0, 2), err
    after = snapshot(done)
    assert {name: after[name] for name in before} == before
    entries = json.loads((done / "teacher/evaluation.json").read_text())
    assert [(e["steps"], e["nfe"]) for e in entries] == [(1, 1), (2, 2)]
    assert {
        *("model", "role", "sampler", "steps", "nfe", "guidance", "samples", "draws"),
        *("frechet_distance", "frechet_distance_interval", "wasserstein2", "reference", "weights"),
    } <= set(entries[0])
    assert entries[0]["model"] == "teacher"
    assert entries[0]["samples"] == 50
    gendiff("run", done, "stages.teacher.evaluation.steps=[1,2,3]", words[1])
    more = json.loads((done / "teacher/evaluation.json").read_text())
    assert more[:2] == entries  # not redone, timings included
    assert len(more) == 3
