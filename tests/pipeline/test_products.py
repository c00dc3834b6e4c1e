"""A product stage as others are: stopped with 75, resumed, read by its child, found damaged."""

from __future__ import annotations

import json
import os
import signal

import pytest

from gendiff.cli import main
from gendiff.data import pairs
from gendiff.methods.pairs import Pairs

STAGES = """
stages:
  couples:
    config: mixture_pairs
    init: {teacher: "%s/teacher.ema"}
    method: {count: 11, solver_steps: 2, sampler: dpmpp_2m, inverse: false}
  reflow:
    config: small_reflow
    init: {pairs: couples.pairs}
"""


@pytest.fixture(scope="module")
def runs(files, finished, tmp_path_factory):
    """A stopped and resumed run and an undisturbed one: their folders, and both exit codes."""
    (files / "small_reflow.yaml").write_text(
        (files / "small.yaml").read_text().replace("name: diffusion", "name: reflow")
        + "path: {name: linear}\nevaluation: {steps: []}\n"
    )
    (files / "products.yaml").write_text(STAGES % finished)
    folder, produce = tmp_path_factory.mktemp("products"), Pairs.produce

    def stopped(self, indices, data=None):
        if indices[0] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return produce(self, indices, data)

    def run(name, *words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pairs, "SHARD_ROWS", 4)
            return main(["run", str(files / "products.yaml"), "--dir", str(folder / name), *words])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pairs, "produce", stopped)
        codes = [run("stopped")]
    return folder, [*codes, run("stopped"), run("whole", "--only", "couples")], run


def test_stopped_and_resumed_it_is_the_same(runs):
    folder, codes, _ = runs
    assert codes == [75, 0, 0]
    stopped, whole = (
        json.loads((folder / name / "couples/done.json").read_text())
        for name in ("stopped", "whole")
    )
    changing = {"seconds": None, "seal": None}  # of a store that was resumed they are not known
    assert {**stopped, **changing} == {**whole, **changing}
    names = [f"products/pairs/{name}" for name in ("00000.npy", "00001.npy", "00002.npy")]
    assert [*stopped["digests"]] == [*names, "products/pairs/stamp.json", "config.yaml"]
    stamp = json.loads((folder / "whole/couples/products/pairs/stamp.json").read_text())
    assert {stamp["shards"][name[-9:]] for name in names} == {
        stopped["digests"][name] for name in names
    }
    assert stamp["origin"]["sampler"] == "dpmpp_2m"
    assert (folder / "stopped/reflow/done.json").is_file()


def test_damage_is_found_before_anything_is_trained(runs, capsys):
    folder, _, run = runs
    shard = folder / "whole/couples/products/pairs/00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert run("whole") == 2
    error = capsys.readouterr().err
    assert f"couples: damaged: {shard}: damaged" in error
    assert "--rerun couples" in error
    assert not (folder / "whole/reflow").exists()
