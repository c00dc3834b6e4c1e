"""A small pipeline of two configs, run once a session and copied by the tests that need it."""

from __future__ import annotations

import shutil

import pytest

from gendiff.checkpoint import Checkpoints
from gendiff.cli import main
from gendiff.errors import Interrupted
from gendiff.storage import sha256

CONFIG = """
data: {name: mixture, batch_size: 32, samples: 200, held_out: 50}
networks:
  student: {name: mlp, width: 8, depth: 1}
method: %s
optim: {lr: 1.0e-2}
trainer: {max_steps: 12, checkpoint_steps: 4}
"""
STAGES = """
stages:
  child:
    config: small_progressive
    init: {student: teacher.ema, teacher: teacher.ema}
  teacher: {config: small}
"""


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The folder of pair.yaml (teacher and child) and its configs."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.yaml").write_text(CONFIG % "{name: diffusion}")
    (folder / "small_progressive.yaml").write_text(CONFIG % "{name: progressive}")
    (folder / "pair.yaml").write_text(STAGES)
    return folder


@pytest.fixture(scope="session")
def pair(files):
    """The stages file: child <- teacher."""
    return str(files / "pair.yaml")


@pytest.fixture(scope="session")
def finished(pair, tmp_path_factory):
    """The pair's finished run folder; copy it before changing it."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(["run", pair, "--dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def halted(pair, tmp_path_factory):
    """The pair's run folder, its teacher stopped at step 8 of 12; copy it before changing it."""
    folder = tmp_path_factory.mktemp("halted")
    save = Checkpoints.save

    def save_and_stop(self, state, batches_done):
        save(self, state, batches_done)
        if batches_done == 8:
            raise Interrupted("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        assert main(["run", pair, "--dir", str(folder)]) == 75
    return folder


@pytest.fixture
def done(finished, tmp_path):
    """A copy of the finished run folder."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def half(halted, tmp_path):
    """A copy of the stopped run folder."""
    return shutil.copytree(halted, tmp_path / "half")


@pytest.fixture
def gendiff(pair, capsys):
    """``gendiff(command, folder, *words)`` on the pair -> exit code, stdout, stderr."""

    def call(command, folder, *words):
        code = main([command, pair, "--dir", str(folder), *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert code != 2 or 1 <= err.count("\n") <= 2 or "kept aside" in err
        return code, out, err

    return call


@pytest.fixture
def snapshot():
    """``snapshot(folder)`` -> {file: (digest, mtime)} of all but locks and the report, which is
    made anew by every run.
    """

    def take(folder):
        return {
            str(path.relative_to(folder)): (sha256(path), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in (".lock", "report.html")
        }

    return take


@pytest.fixture
def weights():
    """``weights(folder)`` -> {stage/file: digest} of all weight files."""

    def digests(folder):
        return {
            str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*.safetensors")
        }

    return digests
