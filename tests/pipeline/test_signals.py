"""A signal that comes while a stage trains, at the moments that are easily missed."""

from __future__ import annotations

import os
import signal

import pytest

from gendiff.methods.base import Method


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
