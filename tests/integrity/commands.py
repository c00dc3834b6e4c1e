"""Commands in this process, and what a run folder says."""

from __future__ import annotations

import contextlib
import io
import json
import traceback
from pathlib import Path

import numpy as np

from gendiff.cli import main
from gendiff.storage import sha256

PIPELINE = Path(__file__).with_name("pipeline.yaml")
TIMES = {"images_per_second", "peak_memory_mb", "seconds", "seal"}


def command(*words):
    """Exit code, and what went to standard output and error, of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except Exception:
            code = 1
            traceback.print_exc()
    return code, out.getvalue(), err.getvalue()


def run(folder, *words):
    return command("run", PIPELINE, "--dir", folder, *words)


def results(folder):
    """All that a run folder says: weights, pairs, figures, logs."""
    found = {}
    for path in sorted(folder.glob("*/*/**/*")) + sorted(folder.glob("*/*")):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        if path.suffix == ".safetensors" or "/products/" in name:
            found[name] = sha256(path)
        elif path.name == "evaluation.json":
            found[name] = timeless(json.loads(path.read_text()))
        elif path.name in ("config.yaml", "metrics.csv"):
            found[name] = path.read_text()
    return found


def timeless(value):
    """Figures without what differs between two runs."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def samples(model, folder):
    """What ``gendiff sample`` gives: the samples, or else its exit code and line."""
    path = folder / "x.npz"
    path.unlink(missing_ok=True)
    code, _, err = command("sample", model, "-n", 4, "--steps", 2, "-o", path)
    return code, np.load(path)["x"].tobytes() if code == 0 else err
