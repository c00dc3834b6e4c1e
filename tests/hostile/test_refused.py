"""Hostile files and words: exit code 2 and a line or two, no code of theirs run, little memory."""

from __future__ import annotations

import io
import os
import resource
import shutil
import sys
import traceback
from pathlib import Path

import data_files
import files
import pytest

from gendiff.cli import main
from gendiff.errors import UserError

MEMORY = 2**29
"""Bytes beyond what is there before: far less than what these files claim."""
SECRET = "k3y-" + "0123456789abcdef" * 2


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run folder with the finished stage ``small``."""
    folder = tmp_path_factory.mktemp("trained")
    config = files.CONFIG + "trainer: {max_steps: 4, checkpoint_steps: 2}\n"
    (folder / "small.yaml").write_text(config)
    assert main(["run", str(folder / "small.yaml"), "--dir", str(folder)]) == 0
    assert main(["sample", str(folder / "small"), "-o", str(folder / "x.npz")]) == 0
    return folder


@pytest.fixture
def stage(trained, tmp_path):
    """A copy of the finished stage."""
    return shutil.copytree(trained, tmp_path / "run") / "small"


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


@pytest.fixture
def refused(tmp_path, canary, monkeypatch):
    """``refused(what)``: the words of a command, or a call, end in code 2 and a line or two."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)

    def call(what):
        log = tmp_path / "stderr"
        pid = os.fork()
        if not pid:
            code = 1
            try:
                sys.stderr = log.open("w", errors="backslashreplace")
                sys.stdout = io.StringIO()
                taken = int(Path("/proc/self/statm").read_text().split()[0])
                most = taken * resource.getpagesize() + MEMORY
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
                resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
                code = main(list(map(str, what))) if isinstance(what, list) else refuse(what)
            except BaseException:
                traceback.print_exc(limit=-6)
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        told = log.read_text()
        assert code == 2, told
        assert told.startswith("gendiff: ")
        assert 1 <= told.count("\n") <= 2, told
        assert len(told) < 700
        assert told.replace("\n", "").isprintable()
        assert "Traceback" not in told
        assert SECRET not in told
        assert "hunter2" not in told
        assert not canary.exists()
        return told

    return call


def refuse(call):
    """The exit code that the command line would make of a call."""
    try:
        call()
    except UserError as error:
        print(f"gendiff: {error}", file=sys.stderr)
        return 2
    return 0


@pytest.mark.parametrize("kind", files.YAML)
def test_yaml(refused, tmp_path, canary, kind):
    text = files.filled(files.YAML[kind], canary, SECRET)
    assert "x.yaml" in refused(files.yaml_file(text, tmp_path)) or kind not in ("apply", "laughs")


@pytest.mark.parametrize("kind", ["long_file", "pipe"])
def test_no_yaml(refused, tmp_path, kind):
    assert "x.yaml" in refused(getattr(files, kind)(tmp_path))


@pytest.mark.parametrize("kind", files.WORDS)
def test_overrides(refused, trained, canary, kind):
    word = files.filled(files.WORDS[kind], canary, SECRET)
    refused(["status", trained / "small.yaml", word])


@pytest.mark.parametrize("kind", files.WEIGHTS)
def test_weights(refused, stage, canary, kind):
    told = refused(files.hostile_weights(files.WEIGHTS[kind](canary), stage))
    assert "ema.safetensors" in told


@pytest.mark.parametrize("kind", files.SAVED)
def test_checkpoints(refused, stage, canary, kind):
    told = refused(files.hostile_checkpoint(files.SAVED[kind](canary), stage))
    assert "step-000000002.ckpt" in told


@pytest.mark.parametrize("kind", [k for k in files.SAVED if "another" not in k])
def test_weights_of_others(refused, tmp_path, canary, kind):
    told = refused(files.state(files.SAVED[kind](canary), tmp_path))
    assert "w.pth" in told
    assert "code" not in kind or "safetensors.torch.save_file" in told


@pytest.mark.parametrize("kind", files.RECORDS)
def test_records(refused, stage, kind):
    name, text = files.RECORDS[kind]
    assert name.split("/")[-1] in refused(files.hostile_record(name, text, stage))


@pytest.mark.parametrize("kind", files.SHARDS)
def test_stored_pairs(refused, tmp_path, canary, kind):
    assert "00000.npy" in refused(files.hostile_shard(kind, tmp_path, canary))


@pytest.mark.parametrize("kind", data_files.DATA)
def test_data(refused, tmp_path, kind):
    folder = tmp_path / "data"
    folder.mkdir()
    refused(data_files.DATA[kind](folder))
    assert [path.name for path in tmp_path.rglob("*canary*")] == []
