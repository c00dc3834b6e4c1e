"""What is asked of W&B online, of a stand-in for it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from gendiff.build import read_run
from gendiff.checkpoint import Checkpoints
from gendiff.cli import main
from gendiff.errors import Interrupted, UserError
from gendiff.storage import read_json
from gendiff.tracking.sweep import HIDDEN, outside_sweep
from gendiff.tracking.wandb_stage import log_stage

CONFIG = """
data: {name: mixture, batch_size: 32, samples: 200, held_out: 50}
networks:
  student: {name: mlp, width: 8, depth: 1}
method: %s
optim: {lr: 1.0e-2}
trainer: {max_steps: 8, checkpoint_steps: 4}
logging: {wandb: online, every_steps: 1}
"""
STAGES = """
stages:
  child:
    config: tiny_halving
    init: {student: teacher.ema, teacher: teacher.ema}
  teacher: {config: tiny_teacher}
"""
NAMES = ("teacher", "child")


@pytest.fixture
def run(tmp_path):
    """``run(*words)`` -> exit code of a pipeline of a teacher and its child, in ``pair``."""
    (tmp_path / "tiny_teacher.yaml").write_text(CONFIG % "{name: diffusion}")
    (tmp_path / "tiny_halving.yaml").write_text(CONFIG % "{name: progressive}")
    (tmp_path / "pair.yaml").write_text(STAGES)
    words = ["run", str(tmp_path / "pair.yaml"), "--dir", str(tmp_path / "pair")]
    return lambda *more: main([*words, *more])


@pytest.fixture
def stop_at(monkeypatch):
    """``stop_at(step, error)``: the training ends so, after the checkpoint of the step."""

    def install(step, error):
        save = Checkpoints.save

        def save_and_stop(self, state, batches_done):
            save(self, state, batches_done)
            if batches_done == step:
                raise error

        monkeypatch.setattr(Checkpoints, "save", save_and_stop)
        return lambda: monkeypatch.setattr(Checkpoints, "save", save)

    return install


def ids(tmp_path):
    return {name: (tmp_path / "pair" / name / "wandb/id").read_text() for name in NAMES}


def test_a_pipeline(server, run, tmp_path):
    assert run() == 0
    known = ids(tmp_path)
    asked = [held.asked for held in server.runs]
    assert [(a["id"], a["name"]) for a in asked] == [
        (known[name], name)
        for name in NAMES
        for _ in range(2)  # training, then its weights
    ]
    for one in asked:
        assert (one["mode"], one["resume"], one["group"]) == ("online", "allow", "pair")
        assert one["reinit"] == "create_new"
        assert one["config"]["networks"]["student"]["width"] == 8
        assert "k" * 40 not in str(one)
    digest = read_json(tmp_path / "pair/teacher/done.json")["digests"]["weights/ema.safetensors"]
    for held in server.runs[2:]:
        assert ("use", f"pair-teacher:ema-{digest[:12]}") in held.calls
    assert [artifact.name for _, artifact, _ in server.artifacts] == ["pair-teacher", "pair-child"]
    taught = server.artifacts[1][1]
    assert taught.metadata["parents"]["teacher"]["digests"] == {"weights/ema.safetensors": digest}
    assert taught.files["weights/ema.safetensors"] == "immutable"
    assert taught.files["done.json"] == "mutable"
    for held in server.runs:
        assert held.calls[-1] == ("finish", 0)
        assert ("preempting",) not in held.calls
    for name in known.values():
        assert [step for step, _ in server.rows[name]] == list(range(1, 9))
    before = len(server.runs)
    assert run() == 0
    assert len(server.runs) == before  # nothing new is to be told


def test_figures_found_later(server, run, tmp_path):
    """Each time in a row of its own, after the losses; what is known already in none."""
    assert run("--only", "teacher") == 0
    folder, (name,) = tmp_path / "pair/teacher", server.rows
    for figure in (0.5, 0.5, 0.25):
        entry = {"role": "ema", "sampler": "ddim", "guidance": 0.0, "steps": 1, "nfe": 1}
        entry |= {"frechet_distance": figure, "samples": 50, "metrics": ["frechet_distance"]}
        log_stage(read_run(folder), folder, [entry], print)
    steps, rows = zip(*server.rows[name], strict=True)
    assert list(steps) == sorted(set(steps))
    assert len(rows) == 8 + 2
    for row, figure in zip(rows[8:], (0.5, 0.25), strict=True):
        assert "step" not in row
        kind, curve, how = row["quality_curve"]
        assert (kind, how["x"], how["y"]) == ("line", "nfe", "frechet_distance")
        assert curve["data"] == [[1, figure, "ema ddim"]]
        table = row["quality"]
        told = dict(zip(table["columns"], table["data"][0], strict=True))
        assert (told["nfe"], told["frechet_distance"]) == (1, figure)
    assert server.runs[-1].summary["evaluation"]["ema ddim 1"]["frechet_distance"] == 0.25


@pytest.mark.parametrize(
    ("error", "code", "calls"),
    [
        (Interrupted("stopped"), 75, [("preempting",), ("finish", 75)]),
        (UserError("full"), 2, [("finish", 1)]),
    ],
    ids=["signal", "error"],
)
def test_the_end_of_a_run_that_is_not_its_end(server, run, stop_at, tmp_path, error, code, calls):
    go_on = stop_at(4, error)
    assert run("--only", "teacher") == code
    assert server.runs[0].calls[-len(calls) :] == calls
    assert server.runs[0].calls.count(("preempting",)) == (code == 75)
    go_on()
    (name,) = server.rows
    server.rows[name] = [row for row in server.rows[name] if row[0] <= 2]  # the rest came too late
    assert run("--only", "teacher") == 0
    assert {held.asked["id"] for held in server.runs} == {name}
    rows = server.rows[name]
    assert [step for step, _ in rows] == list(range(1, 9))
    with (tmp_path / "pair/teacher/metrics.csv").open() as file:
        wanted = [float(row["loss"]) for row in csv.DictReader(file)]
    assert [row["loss"] for _, row in rows] == wanted


def test_samples_drawn_in_training_are_in_the_rows_of_their_steps(server, run, stop_at, tmp_path):
    """Once each, also where the server lacks rows that were logged before the training stopped."""
    watched = "{steps: [1], samples: 50, draws: 2, watch_times: 4, metrics: [energy_distance]}"
    words = ["--only", "teacher", f"stages.teacher.evaluation={watched}"]
    go_on = stop_at(4, Interrupted("stopped"))
    assert run(*words) == 75
    go_on()
    (name,) = server.rows
    server.rows[name] = server.rows[name][:3]
    assert run(*words) == 0
    shown = {step: row.get("samples/training") for step, row in server.rows[name][:8]}
    folder = tmp_path / "pair/teacher/samples/training"
    wanted = {step: ("image", str(folder / f"step-{step:07d}.png")) for step in (2, 4, 6, 8)}
    assert {step: picture for step, picture in shown.items() if picture} == wanted
    assert [*shown] == list(range(1, 9))


def test_rows_that_the_server_has_are_not_sent_again(server, run, stop_at):
    go_on = stop_at(4, Interrupted("stopped"))
    run("--only", "teacher")
    go_on()
    (name,) = server.rows
    server.rows[name] += [(5, {"step": 5, "loss": 0.0})]  # of a process killed at step 5
    assert run("--only", "teacher") == 0
    assert [step for step, _ in server.rows[name]] == list(range(1, 9))
    assert server.rows[name][4] == (5, {"step": 5, "loss": 0.0})


def test_a_server_that_does_not_answer(server, run, capsys):
    server.failing.add("online")
    assert run() == 0
    out = capsys.readouterr().out
    assert out.count("W&B online: online: no answer: logging offline from here on") == 1
    assert len(server.seen) == 5  # it is waited for once
    assert [held.asked["mode"] for held in server.runs] == ["offline"] * 4
    assert {held.asked["resume"] for held in server.runs} == {None}
    assert server.torn_down == 1
    for held in server.runs:
        assert not [call for call in held.calls if call[0] in ("use", "preempting")]


def test_nothing_of_w_and_b_ends_a_training(server, run, capsys, tmp_path):
    server.failing |= {"online", "offline"}
    assert run("--only", "teacher") == 0
    assert "W&B offline: offline: no answer: not logged" in capsys.readouterr().out
    server.failing.clear()
    server.broken = True
    assert run("--only", "child") == 0
    out = capsys.readouterr().out
    assert "W&B: no service: nothing more is logged there" in out
    assert not list((tmp_path / "pair").glob("*/wandb/logged.json"))  # told when it works again
    server.broken = False
    assert run() == 0
    assert [artifact.name for _, artifact, _ in server.artifacts][-2:] == [
        "pair-teacher",
        "pair-child",
    ]
    for rows in server.rows.values():
        assert [step for step, _ in rows] == list(range(1, 9))


@pytest.mark.parametrize(
    "harm", [lambda path: path.write_text("x"), Path.mkdir], ids=["text", "folder"]
)
def test_a_damaged_id_is_told_and_keeps_that_stage_alone_back(server, run, capsys, tmp_path, harm):
    path = tmp_path / "pair/teacher/wandb/id"
    path.parent.mkdir(parents=True)
    harm(path)
    assert run() == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    theirs = [line for line in told if str(path) in line]
    assert len(theirs) == 2  # as it trains, and when its weights are there
    assert all(line.startswith(f"  W&B: {path}: ") for line in theirs)
    assert all(line.endswith("The stage is not logged there.") for line in theirs)
    assert not any("offline" in line for line in told)
    assert [(held.asked["name"], held.asked["mode"]) for held in server.runs] == [
        ("child", "online")
    ] * 2
    path.rmdir() if path.is_dir() else path.unlink()
    assert run() == 0
    assert [step for step, _ in server.rows[path.read_text()]] == list(range(1, 9))


def test_an_open_trial_is_not_torn_down(server, run):
    server.failing |= {"online"}
    server.session.most_recent_active_run = object()
    assert run("--only", "teacher") == 0
    assert server.torn_down == 0


def test_a_parent_that_w_and_b_does_not_know(server, run, capsys):
    assert run("--only", "teacher") == 0
    server.versions.clear()
    assert run("--only", "child") == 0
    assert "W&B: init.teacher: no pair-teacher:ema-" in capsys.readouterr().out


def test_a_stage_is_hidden_from_a_sweep(server, run):
    before = vars(server.settings).copy()
    assert run("--only", "teacher") == 0
    for seen in server.seen:
        assert [seen[name] for name in (*HIDDEN, "config")] == [None] * 4
        assert seen["mode"] == "m"
    with pytest.raises(KeyError), outside_sweep():
        raise KeyError
    assert vars(server.settings) == before
    assert server.session._sweep_config == {"lr": 1}
