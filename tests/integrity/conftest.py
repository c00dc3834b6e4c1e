"""A small pipeline, whole and stopped half-way in every stage, to be damaged in copies."""

from __future__ import annotations

import shutil

import pytest
from commands import run

from gendiff import storage
from gendiff.checkpoint import Checkpoints
from gendiff.data import filling, pairs
from gendiff.errors import Interrupted
from gendiff.pipeline import quality, runner, stages


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Shards of 16 rows; the stages file read once, no disk waited for, no curve or page drawn."""
    load, known = stages.load_pipeline, {}

    def load_once(target, words):
        key = (target, *words)
        known[key] = known.get(key) or load(target, words)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "SHARD_ROWS", 16)
        patch.setattr(storage.os, "fsync", lambda handle: None)
        patch.setattr(stages, "load_pipeline", load_once)
        patch.setattr(quality, "draw_curve", lambda entries, path, floor: path.write_text("curve"))
        patch.setattr(runner, "write_report", lambda folder: folder / "report.html")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run folder."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder)[0] == 0
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The finished run folder of another seed, which has all the same files."""
    folder = tmp_path_factory.mktemp("other")
    words = [f"stages.{name}.seed=9" for name in ("teacher", "couples", "reflow")]
    assert run(folder, *words)[0] == 0
    return folder


def stopping(what, name, after):
    """``what.name`` is followed by a stop after so many calls of it."""
    real, calls = getattr(what, name), []

    def call(*args):
        result = real(*args)
        calls.append(1)
        if len(calls) == after:
            raise Interrupted("stopped")
        return result

    return what, name, call


@pytest.fixture(scope="module")
def halves(whole, tmp_path_factory):
    """Run folders stopped within each of the stages, by its name."""
    found, before = {}, []
    for name, stop in {
        "teacher": (Checkpoints, "save", 3),
        "couples": (filling, "write_json", 2),
        "reflow": (Checkpoints, "save", 3),
    }.items():
        folder = tmp_path_factory.mktemp("half") / "run"
        folder.mkdir()
        for done in before:
            shutil.copytree(whole / done, folder / done)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*stopping(*stop))
            assert run(folder)[0] == 75
        found[name] = folder
        before.append(name)
    return found
