"""Digests that a plan remembers, and seals of records: neither hides a change."""

from __future__ import annotations

import json
import os

import pytest

from gendiff import storage
from gendiff.build import check_file
from gendiff.errors import UserError
from gendiff.evaluation.entries import read_entries, write_entries


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def hashed(monkeypatch):
    """Files that were hashed; all of them are old enough to be known."""
    real, seen = storage.sha256, []
    monkeypatch.setattr(storage, "sha256", lambda path: (seen.append(path), real(path))[1])
    monkeypatch.setattr(storage, "SETTLED", -1e9)
    return seen


def test_a_file_is_hashed_once(file, hashed):
    assert storage.known_sha256(file) == storage.known_sha256(file)
    assert hashed == [file]


def rewritten(path):
    path.write_bytes(b"CONTENT")


def replaced(path):
    path.with_name("new").write_bytes(b"CONTENT")
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [rewritten, replaced])
def test_a_change_that_keeps_size_and_time_is_seen(file, hashed, change):
    times = file.stat().st_mtime_ns
    before = storage.known_sha256(file)
    change(file)
    os.utime(file, ns=(times, times))
    assert storage.known_sha256(file) != before


def test_a_young_file_is_not_known(file, hashed, monkeypatch):
    monkeypatch.setattr(storage, "SETTLED", 2.0)
    os.utime(file, (0, 0))  # a copy that has kept its time
    storage.known_sha256(file)
    storage.known_sha256(file)
    assert hashed == [file, file]


def test_who_reads_a_file_does_not_ask_the_memo(file, hashed):
    digest = storage.known_sha256(file)
    done = {"digests": {"file": digest}}
    for key in storage._known:  # as if a disk had changed the bytes and no time
        storage._known[key] = digest
    file.write_bytes(b"CONTENT")
    with pytest.raises(UserError, match="file: damaged"):
        check_file(file.parent, "file", done)


RECORD = {"a": [1, 2.5, None, {"b": "é"}], "c": -0.0, "d": 1e22, "e": True}


def test_a_record_comes_back_without_its_seal(tmp_path):
    path = tmp_path / "x.json"
    storage.write_json(path, RECORD)
    assert storage.read_json(path) == RECORD
    first = path.read_bytes()
    storage.write_json(path, json.loads(first))  # sealed once, whoever writes it
    assert path.read_bytes() == first
    path.write_text(json.dumps(RECORD))  # by another hand
    assert storage.read_json(path) == RECORD


def test_every_flipped_bit_of_a_record_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "x.json"
    storage.write_json(path, RECORD)
    data, found = path.read_bytes(), 0
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            read = storage.read_json(path)
        except UserError:
            found += 1
            continue
        rest = {key: value for key, value in read.items() if key in RECORD}
        assert rest == RECORD  # white space, or the name of the seal
    assert found > 7 * len(data) * 0.8


def test_a_changed_figure_is_dropped_and_the_others_stay(tmp_path):
    path = tmp_path / "evaluation.json"
    write_entries(path, [{"steps": 1, "recall": 0.5}, {"steps": 2, "recall": 0.75}])
    assert [entry["steps"] for entry in read_entries(path)] == [1, 2]
    path.write_text(path.read_text().replace("0.75", "0.85"))
    assert read_entries(path) == [{"steps": 1, "recall": 0.5}]
