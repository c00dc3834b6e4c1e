"""Standard output that is closed, unread or full ends no run, and is told where it matters."""

from __future__ import annotations

import io
import os
import select
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from gendiff import cli
from gendiff.storage import sha256
from gendiff.streams import Stream, text

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
    assert forked(["run", *tiny, "--dir", tmp_path], handle) == 0
    assert capfd.readouterr().err == (FULL if code else "")
    file = "weights/ema.safetensors"
    assert sha256(tmp_path / "mixture_diffusion" / file) == sha256(model / file)
    assert forked(["status", *tiny, "--dir", tmp_path], handle) == code
    assert forked(["--help"], handle) == code


def test_a_reader_that_is_slow_hears_all():
    """Also where another program has made the pipe one that does not wait."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    data, heard = bytes(range(256)) * 1024, []

    def listen():
        time.sleep(0.1)
        with open(reader, "rb") as file:
            heard.append(file.read())

    slow, stream = threading.Thread(target=listen), Stream(writer, "w")
    slow.start()
    with io.BufferedWriter(stream) as buffer:
        buffer.write(data)
    slow.join()
    assert heard == [data]
    assert stream.lost is None


@pytest.mark.parametrize("at_once", [True, False])
def test_words_go_out_at_once_where_they_did(monkeypatch, at_once):
    reader, writer = os.pipe()
    old = SimpleNamespace(encoding="utf-8", write_through=at_once)
    words = text(Stream(writer, "w"), old)
    print("said", file=words)
    heard, *_ = select.select([reader], [], [], 0)
    assert bool(heard) == at_once


def test_words_that_an_encoding_has_not(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    cli.take_streams()
    print("± caf\udcff")
    sys.stdout.flush()
    assert capfd.readouterr().out == "\\xb1 caf\\udcff\n"
