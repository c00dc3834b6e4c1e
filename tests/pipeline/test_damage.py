"""Weights, records and checkpoints that are damaged: named, and never a start from zero."""

from __future__ import annotations

import shutil

import pytest

from gendiff.cli import main


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.unlink()])
def test_damaged_weights_are_named_and_not_used(gendiff, done, capsys, damage):
    damage(done / "teacher/weights/ema.safetensors")
    code, _, err = gendiff("run", done)
    assert code == 2
    assert "teacher: damaged" in err
    assert "ema.safetensors" in err
    assert "--rerun teacher" in err
    assert main(["sample", str(done / "teacher"), "-o", str(done / "x.npz")]) == 2
    assert not (done / "x.npz").exists()


@pytest.mark.parametrize("name", ["stage.json", "done.json"])
@pytest.mark.parametrize("text", ["", "[]", '{"fingerprint": 3'])
def test_damaged_record_is_named(gendiff, done, name, text):
    (done / "teacher" / name).write_text(text)
    code, _, err = gendiff("run", done)
    assert code == 2
    assert name in err
    assert "damaged" in err


def test_deleted_record_is_not_a_new_stage(gendiff, done, weights):
    old = weights(done)
    (done / "teacher/stage.json").unlink()
    code, _, err = gendiff("run", done)
    assert code == 2
    assert "stage.json is missing" in err
    assert weights(done) == old
    assert gendiff("run", done, "--rerun", "teacher")[0] == 0  # the same weights: child still fits


@pytest.mark.parametrize("damage", [flip, truncate])
def test_damaged_checkpoint_falls_back_a_generation(gendiff, half, finished, weights, damage):
    damage(half / "teacher/checkpoints/step-000000008.ckpt")
    code, out, err = gendiff("run", half)
    assert code == 0
    assert "step-000000008.ckpt: damaged, kept aside" in err
    assert "resumes at step 4 of 12" in out
    assert (half / "teacher/checkpoints/step-000000008.damaged").is_file()
    assert weights(half) == weights(finished)


@pytest.mark.parametrize("what", ["*.ckpt", "manifest.json"])
def test_no_whole_checkpoint_is_never_a_start_from_zero(gendiff, half, what):
    for path in (half / "teacher/checkpoints").glob(what):
        truncate(path)
    for _ in range(2):
        code, _, err = gendiff("run", half)
        assert code == 2
        assert "teacher: damaged" in err
        assert not (half / "teacher/done.json").exists()


def test_deleted_checkpoints_are_never_a_start_from_zero(gendiff, half):
    shutil.rmtree(half / "teacher/checkpoints")
    assert gendiff("run", half)[0] == 2
    assert not (half / "teacher/done.json").exists()


def test_checkpoints_of_another_run_are_not_resumed(gendiff, half):
    """Whole ones, of the same shapes."""
    manifest = half / "teacher/checkpoints/manifest.json"
    manifest.write_text(manifest.read_text().replace('"of": "teacher ', '"of": "teacher 0'))
    code, _, err = gendiff("run", half)
    assert code == 2
    assert "manifest.json lists no whole checkpoint of this stage" in err
