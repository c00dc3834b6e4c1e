"""The reference: what names it, that it is kept, and the floor."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from gendiff.build import read_run
from gendiff.evaluation import reference as module
from gendiff.evaluation.reference import Reference, describe, digest_of, halves_of


@pytest.fixture
def run(model):
    return read_run(model)


def changed(run, section, **values):
    return dataclasses.replace(
        run, **{section: dataclasses.replace(getattr(run, section), **values)}
    )


def test_digest_is_of_what_is_compared(run, model):
    digest = digest_of(describe(run, model.parent))
    assert digest == digest_of(describe(changed(run, "data", batch_size=7), model.parent))
    assert digest == digest_of(describe(changed(run, "evaluation", draws=9), model.parent))
    assert digest != digest_of(describe(changed(run, "data", held_out=99), model.parent))
    assert digest != digest_of(describe(changed(run, "evaluation", samples=50), model.parent))


def test_digest_changes_with_the_protocol(run, model, monkeypatch):
    before = digest_of(describe(run, model.parent))
    monkeypatch.setattr(module, "PROTOCOL", module.PROTOCOL + 1)
    assert digest_of(describe(run, model.parent)) != before


def test_it_is_made_once_and_opened_after(run, model, monkeypatch):
    first = Reference(run, model.parent)
    floor = first.floor(["frechet_distance"], True)
    monkeypatch.setattr(Reference, "_look", None)
    monkeypatch.setattr(module, "halves_of", None)
    again = Reference(run, model.parent)
    assert again.floor(["frechet_distance"], True) == floor
    torch.testing.assert_close(again.train.features, first.train.features, rtol=0, atol=0)
    assert len(again.held_out.labels) == again.samples == 101


def test_a_damaged_one_is_made_again(run, model):
    first = Reference(run, model.parent)
    path = first.folder / "features.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = Reference(run, model.parent)
    torch.testing.assert_close(again.train.features, first.train.features, rtol=0, atol=0)
    assert path.read_bytes() != bytes(data)


def test_it_says_what_it_is_of(run, model):
    reference = Reference(run, model.parent)
    record = json.loads((reference.folder / "reference.json").read_text())
    assert reference.folder.name == f"reference-{record['digest']}"
    assert record["of"]["data"]["name"] == "mixture"


def test_fewer_samples_are_the_first_held_out(run, model):
    whole = Reference(run, model.parent)
    part = Reference(changed(run, "evaluation", samples=40), model.parent)
    torch.testing.assert_close(part.held_out.features, whole.held_out.features[:40])
    assert part.digest != whole.digest


def test_floor_halves_are_disjoint_and_alike_in_labels():
    labels = torch.randint(3, (1001,))
    one, other = halves_of(labels, 400, 0)
    assert len(one) == len(other) == 400
    assert not set(one.tolist()) & set(other.tolist())
    counts = [torch.bincount(labels[half], minlength=3) for half in (one, other)]
    assert (counts[0] - counts[1]).abs().max() <= 1
    assert set(halves_of(labels, 400, 1)[0].tolist()) != set(one.tolist())


def test_floor_is_what_two_true_sets_reach(run, model):
    # between sets of n points of one distribution: about 2 tr(cov) / n, from their means alone
    floor = Reference(run, model.parent).floor(
        ["frechet_distance", "precision_recall", "copying"], True
    )
    assert 0 < floor["frechet_distance"] < 0.1
    assert floor["frechet_distance_interval"] > 0
    assert 0.5 < floor["recall"] <= 1
    assert "copying" not in floor


def test_floor_of_models_without_labels_has_the_noise_of_labels(tmp_path, model, run):
    # three classes far apart: how many fall into each is most of what differs between halves
    reference = Reference(changed(run, "data", stds=[0.01] * 3, held_out=150), tmp_path)
    matched, free = (reference.floor(["energy_distance"], labelled) for labelled in (True, False))
    assert matched["energy_distance"] < -2 * matched["energy_distance_interval"]
    assert abs(free["energy_distance"]) < 4 * free["energy_distance_interval"]
