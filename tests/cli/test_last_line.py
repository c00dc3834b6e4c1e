"""How a command ends: its exit code, and which of its processes says why."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from gendiff import cli
from gendiff.errors import Interrupted, Lost, UserError
from gendiff.ranks import for_all

AGAIN = "; run again to go on."


@pytest.mark.parametrize(
    ("error", "code", "said", "by"),
    [
        (UserError("no \x1b[2Jsuch"), 2, "no \\x1b[2Jsuch", "01"),
        (for_all(UserError, "no"), 2, "no", "0"),
        (Interrupted("SIGUSR1"), 75, f"SIGUSR1{AGAIN}", "01"),
        (for_all(Interrupted, "stopped at step 3"), 75, f"stopped at step 3{AGAIN}", "0"),
        (KeyboardInterrupt(), 75, f"SIGINT{AGAIN}", "0"),
        (Lost("rank 1 hears nothing."), 1, f"rank 1 hears nothing{AGAIN}", "01"),
    ],
)
def test_who_says_why_a_command_ends(monkeypatch, capsys, error, code, said, by):
    def call(args):
        raise error

    monkeypatch.setattr(cli, "parse", lambda words: SimpleNamespace(call=call))
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert cli.main([]) == code
        assert capsys.readouterr().err == (f"gendiff: {said}\n" if rank in by else "")


@pytest.mark.parametrize("code", [None, 0, 1, 75])
def test_a_commands_own_code_is_that_of_the_process(monkeypatch, code):
    monkeypatch.setattr(cli, "parse", lambda words: SimpleNamespace(call=lambda args: code))
    assert cli.main([]) == (code or 0)


def test_a_signal_while_the_last_line_is_written_changes_no_code(monkeypatch):
    def stop():
        raise Interrupted("SIGINT")

    monkeypatch.setattr(cli, "main", stop)
    for name in ("stdout", "stderr"):  # which the command replaces
        monkeypatch.setattr(sys, name, getattr(sys, name))
    with pytest.raises(SystemExit) as left:
        cli.entry()
    assert left.value.code == 75
