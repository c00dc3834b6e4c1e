"""A signal that comes while a stage trains, at the moments that are easily missed."""

from __future__ import annotations

import os
import signal

import pytest

from gendiff.data.base import DataModule
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
