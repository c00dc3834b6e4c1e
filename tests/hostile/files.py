"""Files that would run code, take all memory or leave their place, if they were believed.

Each maker writes into a folder and returns what is to be done with it: the words of a command, or
a call that must end in a `UserError`. ``canary`` is a file that hostile code would make.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import torch

from gendiff.data.pairs import PairStore, check_shard
from gendiff.extractors.weight_files import read_state
from gendiff.storage import sha256

HUGE = 10**12
CONFIG = """
data: {name: mixture, batch_size: 32, samples: 64, held_out: 24}
networks: {student: {name: mlp, width: 8, depth: 1}}
method: {name: diffusion}
"""


class Trap:
    """Unpickled, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


class Claim:
    """Unpickled, it asks for a terabyte by what is allowed."""

    def __reduce__(self):
        return bytearray, (HUGE,)


# ---- YAML ----------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
YAML = {
    "apply": "data: !!python/object/apply:os.mkdir ['{canary}']",
    "new": "data: !!python/object/new:os.mkdir ['{canary}']",
    "name": "data: !!python/name:os.mkdir",
    "module": "data: !!python/module:os",
    "path": "data: !!python/object/apply:pathlib.Path ['{canary}']",
    "tuple": "data: !!python/tuple [1, 2]",
    "binary": "data: !!binary aGVsbG8=",
    "date": "seed: 2026-01-01",
    "set": "data: !!set {a, b}",
    "environment": CONFIG + "seed: '${oc.env:HOME}'",
    "environment in a key": CONFIG + "'${oc.env:HOME}': 1",
    "import by resolver": CONFIG + "seed: '${oc.coerce:os.mkdir,x}'",
    "target": CONFIG.replace("width: 8", "_target_: os.mkdir"),
    "laughs": LAUGHS,
    "merged laughs": LAUGHS + "b: {<<: {c: *a9}}",
    "recursive": "data: &a [*a]",
    "deep list": "data: " + "[" * 50000,
    "deep mapping": "data: " + "{a: " * 5000,
    "deep lines": "\n".join(" " * i + "a:" for i in range(2000)),
    "duplicate key": CONFIG + "seed: 1\nseed: 2",
    "long number": CONFIG + "seed: " + "9" * 5000,
    "nan": CONFIG + "optim: {lr: .nan}",
    "infinite": CONFIG + "trainer: {max_steps: .inf}",
    "no text": "\x00\x01\x02",
    "terminal": CONFIG + '"\\e[2Jx": 1',
    "password": CONFIG + "logging: {project: 'https://me:hunter2@host/x'}",
    "key": CONFIG + "logging: {project: 'x-{secret}'}",
    "stage out of place": "stages: {../../x: {config: mixture_diffusion}}",
    "device": "stages: {x: {config: /dev/zero}}",
    "endless chain": "stages: {x: {config: mixture_diffusion, chain: {key: ../../x,"
    " values: [1], carry: {}}}}",
}
WORDS = {
    "apply": "data=!!python/object/apply:os.mkdir ['{canary}']",
    "environment": "seed=${oc.env:HOME}",
    "target": "networks.student._target_=os.mkdir",
    "deep key": "a" + ".a" * 5000 + "=1",
    "deep value": "seed=" + "[" * 50000,
    "long list": "data.means[999999999999]=1",
    "key": "logging.project={secret}",
    "password": "data.name=ftp://a:b@c",
    "terminal": "\x1b[2J=1",
    "surrogate": "seed=\udcff",
}


def filled(text, canary, secret):
    return text.replace("{canary}", str(canary)).replace("{secret}", secret)


def yaml_file(text, folder):
    path = folder / "x.yaml"
    path.write_text(text)
    return ["status", path]


def long_file(folder):
    path = folder / "x.yaml"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no disk
    return ["status", path]


def pipe(folder):
    os.mkfifo(folder / "x.yaml")
    return ["status", folder / "x.yaml"]


# ---- weights, checkpoints, records and pairs of a stage ------------------------------------------


def tensors_file(header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def one(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def saved(value, **settings):
    file = io.BytesIO()
    torch.save(value, file, **settings)
    return file.getvalue()


def packed(content: bytes) -> bytes:
    """A torch archive whose records are compressed: a terabyte would be as easy as 200 MB."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for record in old.infolist():
            big = record.filename.endswith("/data/0")
            with new.open(record.filename, "w", force_zip64=True) as target:
                target.write(old.read(record))
                for _ in range(200 if big else 0):
                    target.write(bytes(2**20))
    return out.getvalue()


def claiming(content: bytes) -> bytes:
    """What torch.save wrote, but its pickle says that a storage of 7 values has a terabyte."""
    wider = (b"K\x07", b"\x8a\x06" + HUGE.to_bytes(6, "little"))
    if not content.startswith(b"PK"):
        return content.replace(*wider)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record).replace(*wider))
    return out.getvalue()


WEIGHTS = {
    "header beyond the file": lambda c: tensors_file(one(), size=2**62),
    "header of 99 MB": lambda c: tensors_file(one(), size=99 * 10**6),
    "tensor beyond the file": lambda c: tensors_file(one(shape=(HUGE,), offsets=(0, 4 * HUGE))),
    "shape beyond its bytes": lambda c: tensors_file(one(shape=(HUGE,)), bytes(8)),
    "shape that overflows": lambda c: tensors_file(one(shape=(2**62, 4)), bytes(8)),
    "empty shape that overflows": lambda c: tensors_file(one(shape=(0, 2**62), offsets=(0, 0))),
    "negative offsets": lambda c: tensors_file(one(offsets=(-8, 0)), bytes(8)),
    "unknown type": lambda c: tensors_file(one("F6_E2M3", (4,), (0, 3)), bytes(3)),
    "deep header": lambda c: tensors_file(b"[" * 10**5),
    "no JSON": lambda c: tensors_file(b"\xff" * 20),
    "pickle": lambda c: pickle.dumps(Trap(c)),
    "archive with code": lambda c: saved({"a": Trap(c)}),
    "zero bytes": lambda c: b"",
}
SAVED = {
    "pickle": lambda c: pickle.dumps(Trap(c)),
    "code": lambda c: saved({"batches_done": 2, "a": Trap(c)}),
    "code in the old format": lambda c: saved({"a": Trap(c)}, _use_new_zipfile_serialization=False),
    "a terabyte by name": lambda c: saved({"batches_done": 2, "a": Claim()}),
    "compressed": lambda c: packed(saved({"batches_done": 2, "a": torch.ones(7)})),
    "a storage that claims": lambda c: claiming(saved({"batches_done": 2, "a": torch.ones(7)})),
    "an old storage that claims": lambda c: claiming(
        saved({"batches_done": 2, "a": torch.ones(7)}, _use_new_zipfile_serialization=False)
    ),
    "another thing": lambda c: saved([1, 2]),
    "another step": lambda c: saved({"batches_done": 7}),
    "a torn archive": lambda c: saved({"batches_done": 2, "a": torch.ones(7)})[:-200],
}


def hostile_weights(content, stage):
    """A finished stage whose record agrees with a hostile weight file."""
    path = stage / "weights" / "ema.safetensors"
    path.write_bytes(content)
    return ["sample", resigned(stage, path), "-o", stage / "x.npz"]


def resigned(stage, path):
    done = json.loads((stage / "done.json").read_text())
    done.pop("seal")
    done["digests"][str(path.relative_to(stage))] = sha256(path)
    (stage / "done.json").write_text(json.dumps(done))
    return stage


def hostile_checkpoint(content, stage):
    """A stage stopped at step 2, whose manifest agrees with a hostile checkpoint."""
    (stage / "done.json").unlink()
    folder = stage / "checkpoints"
    shutil.rmtree(folder)
    folder.mkdir()
    path = folder / "step-000000002.ckpt"
    path.write_bytes(content)
    entry = {"file": path.name, "sha256": sha256(path), "batches_done": 2}
    (folder / "manifest.json").write_text(json.dumps([entry]))
    return ["run", stage.parent / "small.yaml", "--dir", stage.parent]


def hostile_record(name, text, stage):
    if name.startswith("checkpoints"):
        (stage / "done.json").unlink()
    (stage / name).write_text(text)
    return ["run", stage.parent / "small.yaml", "--dir", stage.parent]


RECORDS = {
    "deep": ("stage.json", "[" * 10**5),
    "long number": ("done.json", '{"steps": ' + "9" * 5000 + "}"),
    "list": ("done.json", "[1]"),
    "digests of another kind": ("done.json", '{"digests": {"config.yaml": 3}}'),
    "init of another kind": ("stage.json", '{"fingerprint": 3, "stage": "small", "init": []}'),
    "file out of place": (
        "checkpoints/manifest.json",
        '[{"file": "../../secret", "sha256": "", "batches_done": 2}]',
    ),
}


def shard_header(text):
    body = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


SHARDS = {
    "rows that are not there": "{'descr': %r, 'fortran_order': False, 'shape': (%d,)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (4,)}",
    "code": "__import__('os').mkdir('{canary}')",
    "deep": "(" * 5000,
}


def hostile_shard(kind, folder, canary):
    descr = [("x0", "<f4", (2,)), ("eps", "<f4", (2,)), ("label", "<i8")]
    text = SHARDS[kind].replace("{canary}", str(canary))
    text = text % (descr, HUGE) if "%" in text else text
    (folder / "00000.npy").write_bytes(shard_header(text) + pickle.dumps(Trap(canary)))
    digest = sha256(folder / "00000.npy")
    stamp = {"format": 1, "origin": {}, "count": 4, "shape": [2], "dtype": "float32"}
    (folder / "stamp.json").write_text(json.dumps({**stamp, "shards": {"00000.npy": digest}}))

    def read():
        check_shard(folder / "00000.npy", digest)
        PairStore(folder)[0]

    return read


def state(content, folder):
    path = folder / "w.pth"
    path.write_bytes(content)
    return lambda: read_state(path)
