"""What is said of a run where there is no terminal."""

from __future__ import annotations

import pytest

from gendiff import progress
from gendiff.progress import Reporter, clock


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (3600, "60 min"), (7500, "2 h 05 min")],
)
def test_a_duration_is_said_as_people_do(seconds, said):
    assert clock(seconds) == said


@pytest.mark.parametrize(
    ("verb", "ahead", "said"),
    [
        ("step", 0, "  step 30/90  loss 0.5  32 samples/s  60 s left"),
        ("step", 600, "  step 30/90  loss 0.5  32 samples/s  60 s left  all stages: about 11 min"),
        ("draw", 600, "  draw 30/90  loss 0.5  32 samples/s  60 s left"),
    ],
)
def test_a_plain_line_says_what_is_left(monkeypatch, capsys, verb, ahead, said):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = Reporter()
    reporter.ahead = ahead
    with reporter.task("a stage", 90, done=10, verb=verb) as task:
        now[0] = 10.0
        task.update(20, 32, 0.7)  # too soon to say anything
        now[0] = 20.0
        task.update(30, 32, 0.5)
    assert capsys.readouterr().out.splitlines() == [said]
