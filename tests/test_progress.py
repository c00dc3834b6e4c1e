"""What is said of a run, where there is a terminal and where there is none."""

from __future__ import annotations

import pytest

from gendiff import progress
from gendiff.progress import Reporter, clock


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1 h 40 min")],
)
def test_a_duration_is_said_as_people_do(seconds, said):
    assert clock(seconds) == said


@pytest.fixture
def now(monkeypatch):
    """The clock, which stands still: its seconds."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.mark.parametrize(
    ("verb", "ahead", "said"),
    [
        ("step", 0, "  step 30/90  loss 0.5  32 samples/s  60 s left"),
        ("step", 600, "  step 30/90  loss 0.5  32 samples/s  60 s left  all stages: about 11 min"),
        ("draw", 600, "  draw 30/90  loss 0.5  32 samples/s  60 s left"),
    ],
)
def test_a_plain_line_says_what_is_left(now, capsys, verb, ahead, said):
    reporter = Reporter()
    reporter.ahead = ahead
    with reporter.task("a stage", 90, done=10, verb=verb) as task:
        now[0] = 10.0
        task.update(20, 32, 0.7)  # too soon to say anything
        now[0] = 20.0
        task.update(30, 32, 0.5)
    assert capsys.readouterr().out.splitlines() == [said]


def test_lines_come_now_and_then_and_at_the_end(now, capsys):
    """Of no loss, no samples and no speed nothing is said; the first may come at once."""
    with Reporter().task("a stage", 4, verb="row") as task:
        for done, seconds in ((1, 0), (0, 16), (2, 24), (3, 32), (3, 40), (4, 40)):
            now[0] = seconds
            task.update(done)
    said = ["  row 0/4", "  row 3/4  11 s left", "  row 4/4  0 s left"]
    assert capsys.readouterr().out.splitlines() == said


def test_rows_that_were_there_before_count_for_no_speed(now, capsys):
    with Reporter().task("a stage", 90, done=None, verb="row") as task:
        for done, seconds in ((60, 5), (70, 25)):
            now[0] = seconds
            task.update(done)
    assert capsys.readouterr().out.splitlines() == ["  row 70/90  40 s left"]


def test_a_terminal_has_a_bar_and_no_lines(now, capsys):
    reporter = Reporter()
    reporter.live, reporter.ahead = True, 10
    with reporter.task("a stage", 9, done=3) as task:
        now[0] = 100.0
        (bar,) = reporter.bars.tasks
        assert bar.completed == 3
        task.update(8, 2, 0.0)
        assert bar.completed == 8
        assert bar.fields["note"] == "loss 0  0 samples/s  all stages: about 4 min"
    assert not reporter.bars.tasks
    assert not capsys.readouterr().out


def test_words_are_said_as_they_are(capsys):
    """Brackets too, and lines of any length; a warning is no output."""
    text = "[red]steps[/red]=[4] " + 200 * "x"
    reporter = Reporter()
    reporter.say(text)
    reporter.warn(text)
    quiet = Reporter(quiet=True)
    quiet.say(text)
    with quiet.task("a stage", 1) as task:
        task.update(1)
    assert capsys.readouterr() == (f"{text}\n", f"{text}\n")
