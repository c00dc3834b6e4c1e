"""A signal that comes while a stage trains, at the moments that are easily missed."""

from __future__ import annotations

import os
import signal

import pytest

from gendiff.data.base import DataModule
from gendiff.errors import Interrupted
from gendiff.methods.base import Method
from gendiff.signals import Stop


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_batch_end"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_between_two_steps_stops_after_the_next(
    hook, number, gendiff, tmp_path, monkeypatch
):
    def asked(self, *args):
        if self.batches_done == 6:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Method, hook, asked)
    code, _, told = gendiff("run", tmp_path)
    assert code == 75
    assert "stopped at step 7 of 12" in told
    monkeypatch.undo()
    assert "teacher" in gendiff("status", tmp_path)[1]
    assert gendiff("run", tmp_path)[0] == 0


def test_a_stopped_rerun_goes_on_without_the_word(gendiff, done, weights, monkeypatch):
    """With it, what it has trained so far would be moved aside in its turn."""
    before = weights(done)

    def asked(self, *args):
        if self.batches_done == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Method, "on_train_batch_end", asked)
    told = gendiff("run", done, "--rerun", "child")[2]
    assert told == "gendiff: stopped at step 7 of 12; run again without --rerun to go on.\n"
    monkeypatch.undo()
    assert "child: resumes at step 7 of 12" in gendiff("run", done)[1]
    assert weights(done).items() >= before.items()


@pytest.mark.parametrize(
    ("patient", "signals", "raised"),
    [
        (True, ["SIGTERM", "SIGTERM", "SIGUSR1"], 0),
        (True, ["SIGINT", "SIGINT"], 1),
        (False, ["SIGINT", "SIGTERM"], 1),
        (False, ["SIGINT", "SIGINT"], 2),
    ],
)
def test_a_launcher_repeats_what_a_terminal_told(patient, signals, raised):
    stop, count = Stop(), 0
    stop.patient = patient
    with stop.listening():
        for name in signals:
            try:
                os.kill(os.getpid(), signal.Signals[name])
            except Interrupted:
                count += 1
    assert count == raised


def test_who_listens_without_hears_of_it():
    outer, before = Stop(), signal.getsignal(signal.SIGTERM)
    with outer.listening():
        with pytest.raises(Interrupted), Stop().listening():
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # repeated while the command leaves: no second error
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("rank", "name", "says"), [(0, "SIGINT", True), (1, "SIGINT", False), (1, "SIGTERM", True)]
)
def test_of_all_that_a_terminal_stops_the_first_says_so(
    rank, name, says, gendiff, done, monkeypatch
):
    """While they evaluate each leaves by itself; other signals may have come to one alone."""
    monkeypatch.setenv("RANK", str(rank))

    def hear(*_):
        os.kill(os.getpid(), signal.Signals[name])

    monkeypatch.setattr("gendiff.pipeline.runner.evaluate_after", hear)
    code, _, said = gendiff("run", done)
    assert (code, said) == (75, f"gendiff: {name}; run again to go on.\n" if says else "")


def test_a_signal_as_training_is_set_up_stops_at_once(gendiff, tmp_path, monkeypatch):
    """Nobody else answers it: with several ranks, Lightning would wait for messages of theirs."""
    answers = []

    def asked(self):
        answers.append(signal.getsignal(signal.SIGTERM))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(DataModule, "train_dataloader", asked)
    code, _, told = gendiff("run", tmp_path)
    assert code == 75
    assert told == "gendiff: SIGTERM; run again to go on.\n"
    assert isinstance(answers[0].__self__, Stop)
