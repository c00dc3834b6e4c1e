"""W&B's files as a kill, a bad disk or a stranger leaves them: a line, never a traceback."""

from __future__ import annotations

import json
import struct
import zlib

import pytest

from gendiff import wandb_files
from gendiff.cli import main
from gendiff.errors import UserError
from gendiff.lineage import read_lineage
from gendiff.wandb_files import HEADER, read_frames, read_runs

pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")


def chunk(data, kind=1):
    return struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data


def record(**parts):
    """A run record, of these words and this config."""
    made = pb.Record()
    made.run.run_id, made.run.run_group = parts.get("id", "abcd1234"), parts.get("group", "run")
    made.run.start_time.seconds = parts.get("seconds", 1)
    for key, value in parts.get("config", {}).items():
        item = made.run.config.update.add()
        item.key, item.value_json = key, value if isinstance(value, str) else json.dumps(value)
    return made


def written(folder, *records, name="run-abcd1234.wandb"):
    path = folder / name
    frames = [r if isinstance(r, bytes) else r.SerializeToString() for r in records]
    path.write_bytes(HEADER + b"".join(map(chunk, frames)))
    return path


def node(stage="teacher", **other):
    own = {"stage": stage, "method": "diffusion", "data": "mixture", "fingerprint": "f"}
    own |= {"done": True, "steps": 8, "parents": {}, "digests": {}, "outside": []}
    return {"lineage": {**own, **other}}


def test_records_longer_than_a_block(tmp_path):
    """A record in parts, and one whose header does not fit before a block's end."""
    first, long = b"a" * (2**15 - 7 - 7 - 5), b"b" * 70000
    parts = [long[: 2**15 - 7], long[2**15 - 7 : 2 * (2**15 - 7)], long[2 * (2**15 - 7) :]]
    data = HEADER + chunk(first) + bytes(5)
    data += b"".join(chunk(part, kind) for kind, part in zip((2, 3, 4), parts, strict=True))
    path = tmp_path / "run-x.wandb"
    path.write_bytes(data + chunk(b"c"))
    assert list(read_frames(path)) == [first, long, b"c"]


FRAMES = {
    "text": b"hello, this is no file of W&B's",
    "checksum": HEADER + b"\1" + chunk(b"x")[1:],
    "a middle first": HEADER + chunk(b"x", 3),
    "a last first": HEADER + chunk(b"x", 4),
    "a first twice": HEADER + chunk(b"x", 2) + chunk(b"x", 2),
    "a whole one in parts": HEADER + chunk(b"x", 2) + chunk(b"x"),
    "no such kind": HEADER + chunk(b"x", 9),
    "beyond its block": HEADER + chunk(b"x" * 40000),
    "beyond its block and the end": HEADER + chunk(b"x" * 40000)[:-1],
}
BAD = {
    "no record": HEADER + chunk(b"\xff\xff\xff"),
    "not JSON": record(config={"lineage": "{"}),
    "deep JSON": record(config={"lineage": "[" * 20_000}),
    "no mapping": record(config={"lineage": [1]}),
    "no parents": record(config=node(parents=None)),
    "a number for a name": record(config=node(stage=7)),
    "a list for a digest": record(config=node(digests={"weights/ema.safetensors": ["a"]})),
    "a word for a count": record(config=node(steps="8")),
    "its own parent": record(config=node(parents={"s": {"from": "teacher.e", "digests": {}}})),
    "outside is no list": record(config=node(outside=3)),
    "nothing of gendiff's": record(config={"lr": 1}),
    "a bad frame": FRAMES["checksum"],
    "no run": pb.Record(),
    "empty": b"",
    "far future": record(seconds=2**62, config={"lr": 1}),
}


@pytest.mark.parametrize("name", FRAMES)
def test_bytes_that_w_and_b_did_not_write(name, tmp_path):
    path = tmp_path / "run-x.wandb"
    path.write_bytes(FRAMES[name])
    with pytest.raises(UserError, match=r"not what was written|not a file of W&B's"):
        list(read_frames(path))


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_gendiffs(name, tmp_path, capsys):
    bad = BAD[name]
    if isinstance(bad, bytes):
        (tmp_path / "run-abcd1234.wandb").write_bytes(bad)
    else:
        written(tmp_path, bad)
    assert main(["lineage", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("gendiff: ")
    assert err.count("\n") == 1
    assert not out


def test_metadata_that_is_no_mapping(tmp_path):
    made = pb.Record()
    made.artifact.name, made.artifact.metadata = "run-teacher", "[1]"
    with pytest.raises(UserError, match="not what W&B writes"):
        read_runs(written(tmp_path, record(config=node()), made).parent)


def test_a_record_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_files, "LIMIT", 2**16)
    whole = b"a" * (2**15 - 7)
    data = HEADER + chunk(b"a" * (2**15 - 14), 2) + chunk(whole, 3) + chunk(whole, 3)
    (tmp_path / "run-x.wandb").write_bytes(data)
    with pytest.raises(UserError, match="not what was written"):
        list(read_frames(tmp_path / "run-x.wandb"))


def test_the_last_run_of_a_stage_counts(tmp_path):
    """Which --rerun has trained anew; in whatever order the files are found."""
    for number, fingerprint in ((3, "new"), (1, "old")):
        run = record(id=f"id{number}", seconds=number, config=node(fingerprint=fingerprint))
        written(tmp_path, run, name=f"run-{fingerprint}.wandb")
    assert read_lineage(tmp_path)["teacher"].fingerprint == "new"
    written(tmp_path, record(id="id4", group="other", config=node()), name="run-id4.wandb")
    with pytest.raises(UserError, match=r"several run folders \(other, run\)"):
        read_lineage(tmp_path)
