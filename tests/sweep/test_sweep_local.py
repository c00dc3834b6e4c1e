"""Sweeps without a server: killed, resumed, failing and stopped trials, and what is found."""

from __future__ import annotations

import os
import signal
import time

import pytest
from trials import RATES, Trials

from gendiff.cli import main
from gendiff.errors import Interrupted, UserError
from gendiff.progress import Reporter
from gendiff.storage import read_json
from gendiff.sweep import local
from gendiff.sweep.file import read_sweep
from gendiff.sweep.hyperband import Hyperband
from gendiff.sweep.local import run_local, start
from gendiff.sweep.picture import Scale
from gendiff.sweep.report import rows_of, write_report


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(local, "POLL", 0.01)


@pytest.fixture
def sweep_of(tmp_path):
    """``sweep_of(file, does, count)`` -> the record, and the trials that were begun."""

    def run(path, does=(), count=None):
        trials = Trials(tmp_path / "out", does)
        sweep = read_sweep(path)
        run = (sweep, tmp_path / "out", "rate", count, 0, Reporter(quiet=True), trials)
        try:
            return run_local(*run), trials.begun
        except (Interrupted, UserError) as error:
            return error, trials.begun

    return run


def names(record):
    return [trial["name"] for trial in read_json(record / "sweep.json")["trials"]]


@pytest.mark.parametrize("code", [75, -9, Interrupted("SIGTERM"), KeyboardInterrupt()])
def test_a_stopped_sweep_goes_on_with_the_same_trial(write, sweep_of, tmp_path, code):
    path = write()
    try:
        stopped, begun = sweep_of(path, {2: code})
        assert isinstance(stopped, Interrupted)
    except KeyboardInterrupt:
        begun = [(name, None) for name in names(tmp_path / "out")]
    kept = names(tmp_path / "out")
    assert [name for name, _ in begun] == kept
    assert len(kept) == 3
    state, again = sweep_of(path)
    assert [name for name, _ in again] == names(tmp_path / "out")[2:]  # the third with its id
    assert names(tmp_path / "out")[:3] == kept
    assert [trial.state for trial in state.trials] == ["done"] * 6
    assert not sweep_of(path)[1]


def test_a_failed_trial_is_said_and_left(write, sweep_of, capsys):
    state, _ = sweep_of(write(), {1: 2})
    assert [t.state for t in state.trials] == ["done", "failed", *["done"] * 4]
    told = f"{state.trials[1].name}: failed with exit code 2; the sweep goes on\n"
    assert capsys.readouterr().err == told
    assert not sweep_of(write())[1]


def test_it_gives_up_when_all_fail_every_time(write, sweep_of, tmp_path):
    fails = {0: 2, 1: 1, 2: 2, 3: 2}
    for times in (3, 0):
        error, begun = sweep_of(write(), fails)
        assert len(begun) == times
        assert "the last 3 trials have failed and none has succeeded" in str(error)
        assert f"remove {tmp_path / 'out' / 'sweep.json'} and run again" in str(error)
    (tmp_path / "out" / "sweep.json").unlink()
    assert [t.state for t in sweep_of(write(), {1: 2, 2: 1, 3: 2})[0].trials][:4] == [
        *("done", "failed", "failed", "failed")  # one has succeeded
    ]


@pytest.mark.parametrize(("codes", "expected"), [({0: 2, 1: 2}, 2), ({0: 2}, 0)])
def test_without_any_success_the_exit_code_is_2(
    write, tmp_path, monkeypatch, capsys, codes, expected
):
    monkeypatch.setattr(local.run_local, "__defaults__", (Trials(tmp_path / "out", codes),))
    words = ["sweep", str(write()), "--dir", str(tmp_path / "out"), "--count", "2"]
    assert main(words) == expected
    assert ("no trial has succeeded" in capsys.readouterr().err) is bool(expected)
    assert (tmp_path / "out" / "sweep.md").is_file()


def patient(stops):
    """Hyperband that stops a trial at its third look."""
    looks = []

    def stop(self, mine, others):
        looks.append(mine)
        return stops(self, mine, others) if len(looks) > 2 else None

    return stop


def test_hyperband_stops_what_falls_behind(write, sweep_of, monkeypatch):
    stopping = {"type": "hyperband", "min_iter": 2}
    good, bad = [5.0, 1.0], [5.0, 4.0, 9.0]
    path, read, values_of = write(early_terminate=stopping), [], local.values_of
    trials = {0: 0, 1: bad}

    def counted(sweep, state, trial):
        read.append((state.trials.index(trial), state.trials[-1].name))
        return values_of(sweep, state, trial)

    monkeypatch.setattr(local, "values_of", counted)
    monkeypatch.setattr(Hyperband, "stops", patient(Hyperband.stops))
    state, _ = sweep_of(path, {0: 0}, 1)
    folder = state.path.parent / state.trials[0].name / "student"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,loss\n" + "".join(f"1,{v}\n" for v in good))
    state, _ = sweep_of(path, trials, 3)
    assert [t.state for t in state.trials] == ["done", "stopped", "done"]
    assert (state.trials[1].bracket, state.trials[1].loss) == (2, 4.0)
    of_second = [number for number, running in read if running == state.trials[1].name]
    assert of_second == [0, 1, 1, 1]  # the others, which do not train meanwhile, once


def test_a_metric_that_no_trial_has_is_told_after_the_first(write, sweep_of):
    error, begun = sweep_of(write(metric={"name": "student/losses"}))
    assert len(begun) == 1
    assert "has no student/losses. Did you mean 'student/loss'?" in str(error)


def test_another_file_for_the_same_folder_is_refused(write, sweep_of):
    sweep_of(write(), count=2)
    changed = {"stages.student.optim.lr": {"values": RATES[1:]}}
    error, begun = sweep_of(write(parameters=changed), count=2)
    assert not begun
    assert "of another sweep: sweep.parameters.stages.student.optim.lr.values: " in str(error)
    assert len(sweep_of(write(name="a new name", metric={"name": "student/loss"}), count=3)[1]) == 1


def test_the_table_has_the_best_first_and_in_bold(write, sweep_of):
    path = write(metric={"name": "student/loss", "goal": "maximize"})
    state, _ = sweep_of(path, {1: 2})
    sweep = read_sweep(path)
    rows = rows_of(sweep, state)
    assert [row.objective for row in rows] == [0.9, 0.7, 0.6, 0.5, 0.4, None]
    write_report(sweep, state, Reporter(quiet=True))
    table = (state.path.parent / "sweep.md").read_text()
    assert f"| **{state.trials[0].name}** | **0.1** | **0.9** | **done** |" in table
    assert table.endswith(f"| {state.trials[1].name} | 0.2 |  | failed (2) |\n")
    picture = (state.path.parent / "sweep.svg").read_text()
    assert "optim.lr" in picture
    assert "student/loss 0.9 (larger is better)" in picture


@pytest.mark.parametrize(
    ("values", "heights"),
    [
        ([1.0, 2.0, 3.0], [0, 0.5, 1]),
        ([1e-4, 1e-3, 1e-2], [0, 0.5, 1]),  # logarithmic by itself
        ([0, 50, 100], [0, 0.5, 1]),
        ([7, 7], [0.5, 0.5]),
        (["b", "a"], [0.75, 0.25]),
        ([True, None, 1], [5 / 6, 0.5, 1 / 6]),  # words: 1, None, True
    ],
)
def test_axes_place_values(values, heights):
    scale = Scale(values)
    assert [scale.place(value) for value in values] == pytest.approx(heights)
    assert len(scale.ticks()) == len(set(map(str, values)))


@pytest.mark.long
def test_real_trials_one_killed_go_on_under_its_id(write, tmp_path, two):
    """Two trials: the second is killed while it trains, and comes to its end the next time."""
    rates = {"stages.student.optim.lr": {"values": RATES[:2]}}
    more = {"stages.student.trainer.max_steps": {"value": 300}}
    more |= {"stages.student.evaluation.steps": {"value": []}}
    path = write(metric={"name": "student/loss"}, parameters={**rates, **more})
    sweep, folder = read_sweep(path).within(tmp_path / "out"), tmp_path / "out"
    seen = []

    def killed(words, env):
        seen.append((words, start(words, env)))
        until = time.monotonic() + 600
        while not (folder / env["WANDB_RUN_ID"] / "student/stage.json").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        os.kill(seen[-1][1].pid, signal.SIGKILL)
        return seen[-1][1]

    words = (folder, "rate", 1, 0, Reporter(quiet=True))
    with pytest.raises(Interrupted, match="was killed by SIGKILL"):
        run_local(sweep, *words, killed)
    (name,) = names(folder)
    before = {p: p.stat().st_mtime_ns for p in folder.glob("shared/teacher-*/*") if p.is_file()}
    assert seen[0][0][:4] == ["python", "-m", "gendiff", "run"]
    assert seen[0][0][4:7] == [two, "--dir", str(folder)]
    state = run_local(sweep, *words)
    assert names(folder) == [name]
    assert state.trials[0].state == "done"
    after = {p: p.stat().st_mtime_ns for p in folder.glob("shared/teacher-*/*") if p.is_file()}
    assert after == before
    assert len([*folder.glob("shared/teacher-*")]) == 1
