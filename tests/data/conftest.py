"""Fixtures of the pair stores."""

from __future__ import annotations

import pytest
from stores import write

from gendiff import storage
from gendiff.data import filling, pairs


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of 4 rows, made 3 at a time; no plug is pulled, so no disk need be waited for."""
    monkeypatch.setattr(storage.os, "fsync", lambda handle: None)
    monkeypatch.setattr(pairs, "SHARD_ROWS", 4)
    monkeypatch.setattr(filling, "BATCH", 3)


@pytest.fixture
def whole(small_shards, tmp_path):
    """A store that nothing disturbed."""
    write(tmp_path / "whole")
    return tmp_path / "whole"
