"""Trials of a sweep: what they share, who waits for whom, and what W&B hears of them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from types import SimpleNamespace

import pytest

from gendiff.cli import main
from gendiff.errors import UserError
from gendiff.progress import Reporter
from gendiff.storage import lock, lock_of, read_json

RATE = "stages.student.optim.lr={}"


def stage(folder, trial, name):
    return (folder / trial / name).resolve()


@pytest.fixture(scope="session")
def once(two, tmp_path_factory):
    """A sweep's folder with one finished trial, a; copy it before changing it."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_SWEEP_ID", "s")
        patch.setenv("WANDB_RUN_ID", "a")
        assert main(["run", two, "--dir", str(folder), RATE.format(0.01)]) == 0
    return folder


@pytest.fixture
def begun(once, tmp_path):
    """A copy of that folder."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


def test_what_a_trial_does_not_change_is_shared(begun, trial, two, capsys):
    teacher = stage(begun, "a", "teacher")
    before = {p: p.stat().st_mtime_ns for p in teacher.rglob("*") if p.is_file()}
    code, out, _ = trial("b", RATE.format(0.02))
    assert code == 0
    assert "teacher: up to date" in out
    assert "student: to do" in out
    assert stage(begun, "b", "teacher") == teacher
    assert {p: p.stat().st_mtime_ns for p in teacher.rglob("*") if p.is_file()} == before
    assert stage(begun, "b", "student") != stage(begun, "a", "student")
    assert os.readlink(begun / "b" / "student").startswith("../shared/student-")
    names = sorted(p.name.rpartition("-")[0] for p in (begun / "shared").iterdir())
    assert names == ["", "reference", "student", "student", "teacher"]  # "" of .locks
    (reference,) = (begun / "shared").glob("reference-*")
    assert all((begun / t / reference.name).resolve() == reference.resolve() for t in "ab")
    # other commands take a trial's folder for any run folder
    words = [two, RATE.format(0.02), "--dir", str(begun / "b")]
    capsys.readouterr()
    assert main(["status", *words]) == 0
    assert capsys.readouterr().out.count(" done ") == 2
    assert main(["sample", str(begun / "b/student"), "-n", "4", "-o", str(begun / "x.npz")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(begun / "b/teacher"), "-o", str(begun / "m.json")]) == 0
    assert "draw" not in capsys.readouterr().out  # what is there is not computed again
    assert json.loads((begun / "m.json").read_text())[0]["model"] == "teacher"


def test_the_same_trial_goes_on_where_it_was(begun, trial):
    shutil.rmtree(stage(begun, "a", "student"))
    code, out, _ = trial("a", RATE.format(0.01))
    assert code == 0
    assert "teacher: up to date" in out
    assert "student: to do" in out
    assert trial("a", RATE.format(0.01))[1].count("up to date") == 2


def test_trials_evaluate_a_shared_stage_each_its_way(begun, trial):
    words = ["stages.student.evaluation.steps=[2, 4]", "stages.student.logging.every_steps=1"]
    code, out, _ = trial("b", RATE.format(0.01), *words)
    assert code == 0
    assert out.count("up to date") == 2
    figures = {t: read_json(begun / t / "trial.json")["figures"] for t in "ab"}
    assert trial("a", RATE.format(0.01))[1].count("draw") == 0
    assert read_json(begun / "a" / "trial.json")["figures"] == figures["a"]
    a, b = ({k for k in f if k.startswith("student/frechet")} for f in figures.values())
    assert a == {f"student/frechet_distance{at}" for at in ("", "@1", "@2")}
    assert b == {f"student/frechet_distance{at}" for at in ("", "@2", "@4")}
    (one, both), two = (figures["a"][f"student/frechet_distance@{k}"] for k in (1, 2)), figures["b"]
    assert figures["a"]["student/frechet_distance"] == one  # with the fewest steps
    assert two["student/frechet_distance"] == two["student/frechet_distance@2"] == both


def test_another_config_under_a_trials_id_is_stale_and_not_to_be_forced(begun, trial, two, capsys):
    kept = (begun / "a/student/stage.json").read_text()
    words = [RATE.format(0.5)]
    for ask in ([], ["--accept", "student"], ["--rerun", "student"]):
        code, _, told = trial("a", *words, *ask)
        assert code == 2
        assert "choose another --dir" in told
        assert "--accept student keeps" not in told
        assert main(["run", two, *words, *ask, "--dir", str(begun / "a")]) == 2
        assert "choose another --dir" in capsys.readouterr().err
    assert (begun / "a/student/stage.json").read_text() == kept


def test_rerun_trains_the_shared_stage_anew_for_all(begun, trial):
    teacher = stage(begun, "a", "teacher")
    weights = (teacher / "weights/ema.safetensors").read_bytes()
    (teacher / "weights/ema.safetensors").write_bytes(b"damaged")
    assert trial("b", RATE.format(0.01))[0] == 2
    code, out, _ = trial("b", RATE.format(0.01), "--rerun", "teacher")
    assert code == 0
    assert "student: up to date" in out  # its parent is bit for bit what it was
    assert (teacher / "weights/ema.safetensors").read_bytes() == weights
    assert (teacher.with_name(f"{teacher.name}.old-1") / "done.json").is_file()
    assert trial("a", RATE.format(0.01))[1].count("up to date") == 2


def test_a_second_claimant_waits_and_finds_it_done(begun, trial, tmp_path_factory, monkeypatch):
    """Another process has the stage's lock while it trains; here it brings a finished folder."""
    student = stage(begun, "a", "student")
    aside = student.rename(tmp_path_factory.mktemp("aside") / "student")
    student.mkdir()
    holding, waiting, trained = threading.Event(), threading.Event(), threading.Event()
    say = Reporter.say

    def heard(self, text, **style):
        say(self, text, **style)
        if "waits for the run" in text:
            waiting.set()

    monkeypatch.setattr(Reporter, "say", heard)

    def other():
        with lock(lock_of(student)):
            holding.set()
            waiting.wait(60)
            shutil.copytree(aside, student, dirs_exist_ok=True)
            trained.set()

    thread = threading.Thread(target=other)
    thread.start()
    holding.wait()
    code, out, _ = trial("b", RATE.format(0.01))
    thread.join()
    assert code == 0
    assert trained.is_set()
    assert out.count(f"student: waits for the run that has {student}") == 1
    assert out.index("waits for") < out.index("student: up to date")


def test_a_dry_run_leaves_nothing(tmp_path, trial):
    assert trial("a", "--dry-run")[0] == 0
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["shared", "../x", "a/b", ".hidden", "a b"])
def test_an_id_that_is_no_folders_name(trial, name):
    code, _, told = trial(name)
    assert code == 2
    assert told == f"gendiff: $WANDB_RUN_ID: {name!r} cannot be the name of a folder.\n"


class Run:
    """A stand-in for a W&B run."""

    offline, starting_step = False, 0

    def __init__(self, **said):
        self.said, self.rows, self.code = said, [], None
        self.env = {k: v for k, v in os.environ.items() if k.startswith("WANDB")}

    def define_metric(self, *names, **how):
        pass

    def log(self, figures, step):
        assert figures["step"] == step
        assert step > (self.rows[-1][0] if self.rows else self.starting_step - 1)
        self.rows.append((step, figures))

    def finish(self, exit_code):
        self.code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the module, of which W&B's agent has started this process."""
    runs = []

    def init(**said):
        runs.append(Run(**said))
        return runs[-1]

    module = SimpleNamespace(init=init, Settings=dict, runs=runs)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "params.yaml")
    return module


def test_an_agents_trial_has_its_own_run_with_the_objective(begun, trial, wandb, monkeypatch):
    assert trial("b", RATE.format(0.02))[0] == 0  # logging.wandb is off: the agent's run is not
    (run,) = wandb.runs
    assert run.said["id"] == run.env["WANDB_RUN_ID"] == "b"
    assert run.said["resume"] == "allow"
    assert "project" not in run.said  # the sweep's
    assert run.code == 0
    steps = [step for step, _ in run.rows]
    assert steps == [9, 11, 13, 15, 17, 18]  # the teacher's 8 and one for its figures come first
    logged = {k for _, row in run.rows[1:5] for k in row}
    assert "student/loss" in logged
    assert not any(k.startswith("teacher/") for k in logged)
    last = run.rows[-1][1]
    figures = read_json(begun / "b" / "trial.json")["figures"]
    assert figures.items() <= ({**run.rows[0][1], **last}).items()
    assert last["student/frechet_distance"] == last["student/frechet_distance@1"]
    # started again: what W&B has is not told again
    monkeypatch.setattr(Run, "starting_step", 16)
    assert trial("b", RATE.format(0.02))[0] == 0
    assert [step for step, _ in wandb.runs[1].rows] == [18]


def test_a_stopped_trial_ends_its_run_with_75(begun, trial, wandb, monkeypatch):
    from gendiff.checkpoint import Checkpoints
    from gendiff.errors import Interrupted

    save = Checkpoints.save

    def save_and_stop(self, state, batches_done):
        save(self, state, batches_done)
        if batches_done == 4:
            raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        assert trial("b", RATE.format(0.02))[0] == 75
    assert wandb.runs[0].code == 75
    code, out, _ = trial("b", RATE.format(0.02))
    assert code == 0
    assert "student: resumes at step 4 of 8" in out
    # W&B's server has none of what was logged: the rows before the checkpoint come from the CSV
    assert [step for step, _ in wandb.runs[1].rows] == [9, 11, 13, 15, 17, 18]
    assert wandb.runs[1].rows[1][1] == wandb.runs[0].rows[1][1]


@pytest.mark.parametrize("call", ["log", "finish"])
def test_wandb_failing_is_said_once_and_ends_no_trial(begun, trial, wandb, monkeypatch, call):
    def fail(self, *args, **named):
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(Run, call, fail)
    code, out, _ = trial("b", RATE.format(0.02))
    assert code == 0
    assert out.count("  W&B: the server is gone: nothing more is logged there") == 1
    assert (begun / "b" / "trial.json").is_file()


def test_a_damaged_offline_file_ends_no_trial(begun, trial, wandb, monkeypatch):
    monkeypatch.setattr(Run, "offline", True)

    def damaged(folder):
        raise UserError(f"{folder.name}/run-a.wandb: not a file of W&B's.")

    monkeypatch.setattr("gendiff.tracking.guarded.last_step", damaged)
    code, out, _ = trial("a", RATE.format(0.01))
    assert code == 0
    assert "W&B: wandb/run-a.wandb: not a file of W&B's. All rows are logged again." in out
    assert wandb.runs[0].code == 0


@pytest.mark.parametrize("word", ["GENDIFF_FOLLOW", "OTHER"])
def test_a_launcher_follows_its_sweep_before_its_ranks_start(trial, monkeypatch, word):
    said = []
    monkeypatch.setenv(word, "")
    monkeypatch.setattr("gendiff.commands.run.follow", lambda: said.append("follow"))
    monkeypatch.setattr("gendiff.launch.launch", lambda *args: said.append("launch") or 0)
    assert trial("a", "hardware.devices=2")[0] == 0
    assert said == (["follow", "launch"] if word == "GENDIFF_FOLLOW" else ["launch"])


@pytest.mark.parametrize(("word", "times"), [("WANDB_SWEEP_PARAM_PATH", 1), ("OTHER", 0)])
def test_a_trial_follows_its_agent(trial, monkeypatch, word, times):
    said = []
    monkeypatch.setenv(word, "params.yaml")
    monkeypatch.setattr("gendiff.commands.run.follow", lambda: said.append("follow"))
    assert trial("a", "--dry-run")[0] == 0
    assert len(said) == times
