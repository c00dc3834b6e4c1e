"""Standard output that is closed, unread or full ends no run, and is told where it matters."""

from __future__ import annotations

import io
import os
import sys

import pytest

from gendiff import cli
from gendiff.storage import sha256

FULL = "gendiff: standard output: No space left on device; not all that was said is there.\n"


def forked(words, out):
    """Exit code of the command in a process whose standard output is that descriptor, or none."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.close(1) if out is None else os.dup2(out, 1)
            sys.stdout, sys.argv = None, ["gendiff", *map(str, words)]
            cli.entry()
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture(params=["full", "unread", "closed"])
def out(request):
    """A descriptor that takes nothing, and the exit code that it brings."""
    if request.param == "closed":
        yield None, 0
        return
    if request.param == "full":
        handle = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, handle = os.pipe()
        os.close(reader)
    yield handle, 2 if request.param == "full" else 0
    os.close(handle)


def test_a_run_that_nobody_hears_goes_on(out, model, tiny, tmp_path, capfd):
    handle, code = out
    assert forked(["run", *tiny, "--dir", tmp_path], handle) == code
    assert capfd.readouterr().err == (FULL if code else "")
    file = "weights/ema.safetensors"
    assert sha256(tmp_path / "mixture_diffusion" / file) == sha256(model / file)
    assert forked(["status", *tiny, "--dir", tmp_path], handle) == code


def test_words_that_an_encoding_has_not(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    cli.take_streams()
    print("± caf\udcff")
    sys.stdout.flush()
    assert capfd.readouterr().out == "\\xb1 caf\\udcff\n"
