"""A launcher of several processes: what it starts, and how their end is told."""

from __future__ import annotations

import os
import signal

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from gendiff import launch
from gendiff.errors import Lost
from gendiff.following import FOLLOW


@pytest.mark.parametrize(("cores", "threads"), [(8, "2"), (3, "1"), (None, "1")])
def test_what_a_launcher_starts(monkeypatch, cores, threads):
    given, said = [], {FOLLOW: ""}
    monkeypatch.setattr(os, "environ", said)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(
        launch, "elastic_launch", lambda *how: lambda *what: given.append((how, what))
    )
    assert launch.launch(["run", "x"], 4) == 0
    (((config, _), words),) = given
    assert words == ("-m", "gendiff.cli", "run", "x")
    assert (config.nproc_per_node, config.max_restarts) == (4, 0)
    assert config.signals_to_handle == "SIGTERM,SIGINT,SIGUSR1"
    assert said["OMP_NUM_THREADS"] == threads
    assert said[FOLLOW] == str(os.getpid())  # its ranks are the launcher's


@pytest.mark.parametrize(
    ("codes", "end"),
    [
        ({0: 75, 1: 75}, 75),
        ({0: 2, 1: 75}, 2),  # the first to fail says why
        (None, 75),  # a signal to the launcher
        ({0: 2, 1: -signal.SIGTERM}, 2),  # one has said why, the launcher has ended the other
        ({0: 75, 1: -signal.SIGKILL}, "rank 1 of 2 was killed by SIGKILL."),
        ({0: 1, 1: -signal.SIGSEGV}, "rank 1 of 2 was killed by SIGSEGV."),
        ({1: 3}, "rank 1 of 2 left with 3."),
    ],
)
def test_a_launcher_says_who_was_killed(codes, end, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ})  # which a launcher changes
    ended = {r: ProcessFailure(r, 1, code, "") for r, code in (codes or {}).items()}

    def launched(*words):
        raise ChildFailedError("", ended) if ended else SignalException("", signal.SIGTERM)

    monkeypatch.setattr(launch, "elastic_launch", lambda *_: launched)
    if isinstance(end, int):
        assert launch.launch(["run"], 2) == end
        return
    with pytest.raises(Lost) as told:
        launch.launch(["run"], 2)
    assert str(told.value) == end
