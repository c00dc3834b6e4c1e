"""The guard: it sees collapse and copies, says so, and leaves the training as it is."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
import torch

from gendiff.build import build_method, read_run
from gendiff.cli import main
from gendiff.evaluation.guard import Guard
from gendiff.ranks import Ranks
from gendiff.storage import sha256


@pytest.fixture
def config(trained):
    return str(trained.parent / "small.yaml")


def test_training_is_bit_identical_with_and_without(config, tmp_path):
    digests = {}
    for times in (0, 3):
        folder = tmp_path / str(times)
        words = ["evaluation.steps=[2]", "evaluation.draws=2", f"evaluation.watch_times={times}"]
        assert main(["run", config, "--dir", str(folder), *words]) == 0
        digests[times] = sha256(folder / "small/weights/ema.safetensors")
        with (folder / "small/metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row.get("watch/recall")]
        assert [int(row["step"]) for row in rows] == ([4, 8, 12] if times else [])
        for row in rows:
            assert 0 <= float(row["watch/recall"]) <= 1
            # losses are means of as many steps in each row, and of the last
            assert bool(row["loss"]) == (int(row["step"]) == 12)
            assert 0 <= float(row["watch/copying"]) <= 1
            assert float(row["watch/nearest_ratio"]) > 0
        shown = sorted((folder / "small/samples/training").glob("*.png"))
        assert [path.stem for path in shown] == [f"step-{int(r['step']):07d}" for r in rows]
    assert digests[0] == digests[3]


class Drawn:
    """A method whose samples are given rows."""

    speaker, samplers, max_steps = "ema", ("ddim",), 4
    averages = {"ema": "student"}

    def __init__(self, rows, batches_done):
        self.rows, self.batches_done = rows, batches_done

    def sample(self, n, steps, *, first, **rest):
        return self.rows[first : first + n]


def guarded(model, rows, said):
    """A guard of a method that has such samples."""
    run = read_run(model)
    run.evaluation.steps.append(2)
    method = Drawn(rows, 0)
    method.path = build_method(run).path
    return Guard(run, model, method, torch.device("cpu"), Ranks(), said.append)


def watch(model, rows, batches_done=4):
    """What the guard says of samples, and what it logs."""
    said = []
    guard = guarded(model, rows, said)
    guard.model.method.batches_done = batches_done
    return said, guard.look()


@pytest.fixture
def mixture_rows(model):
    from gendiff.data.toy.sets import Mixture

    return Mixture(read_run(model).data)


def test_true_samples_are_left_in_peace(model, mixture_rows):
    said, figures = watch(model, mixture_rows.mixture.sample(101)[0].float())
    assert said == []
    assert figures["watch/recall"] > 0.6
    assert 0.3 < figures["watch/copying"] < 0.7


def test_collapse_is_said(model):
    said, figures = watch(model, 0.02 * torch.randn(101, 2) + torch.tensor([0.1, 0.8]))
    assert figures["watch/recall"] < 0.3
    assert "may have collapsed" in said[0]


def test_copies_are_said(model, mixture_rows):
    said, figures = watch(model, mixture_rows.train.columns["x0"][:101])
    assert figures["watch/nearest_ratio"] == 0
    assert figures["watch/copying"] == 1
    assert "may be copies" in said[-1]


def test_early_looks_are_logged_only(model):
    said, figures = watch(model, torch.zeros(101, 2), batches_done=1)
    assert figures["watch/recall"] == 0
    assert said == []
    assert watch(model, torch.zeros(101, 2), batches_done=0)[1] == {}  # no look is due


def test_a_rank_draws_its_own_rows_with_their_labels(model):
    guard, seen = guarded(model, None, []), {}
    labels = guard.reference.held_out.labels[guard.rows]
    half = len(labels) // 2

    def batches(first, last, steps, *, labels, seed):
        seen["rows"], seen["told"] = (first, last), labels
        return [(first, torch.zeros(last - first, 2))]

    def look(drawn):
        (seen["shown"],) = drawn
        return SimpleNamespace(broken=True)

    method = SimpleNamespace(batches_done=4, max_steps=4)
    guard.model = SimpleNamespace(method=method, conditional=True, default_steps=2, batches=batches)
    guard.reference.ranks, guard.reference.look = Ranks(1, 2), look
    guard.look()
    assert seen["rows"] == (half, len(labels))
    assert seen["told"].equal(labels[half:])
    assert seen["shown"][1].equal(labels[half:])
