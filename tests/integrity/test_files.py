"""Every file of a run folder, damaged in turn: named in a line, or the results are the same.

The files are those found in the folders, so that a new kind of file is tried by itself.
"""

from __future__ import annotations

import shutil

import pytest
from commands import PIPELINE, command, results, run, samples

DAMAGES = {
    "truncated": lambda data, twin: data[: len(data) // 2],
    "flipped": lambda data, twin: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "deleted": lambda data, twin: None,
    "exchanged": lambda data, twin: twin,
}


def files_in(folder):
    """Files of a run folder but locks, relative to it."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if path.name != ".lock"]


def twin_of(file, folder, other):
    """A file of the same name: of another stage, or else of a run of another seed."""
    if len(file.parts) == 1:
        return None
    for path in sorted(folder.rglob(file.name)):
        mine = path.relative_to(folder)
        if mine.parts[0] != file.parts[0] and path.read_bytes() != (folder / file).read_bytes():
            return path.read_bytes()
    for path in sorted(other.rglob(file.name)):
        if path.read_bytes() != (folder / file).read_bytes():
            return path.read_bytes()
    return None


def damage(folder, file, how, other):
    """Damage a file; whether it is another one now."""
    data = (folder / file).read_bytes()
    now = DAMAGES[how](data, twin_of(file, folder, other) if how == "exchanged" else None)
    if now is not None:
        (folder / file).write_bytes(now)
    elif how == "deleted":
        (folder / file).unlink()
    return now is not None or how == "deleted"


def said(file, err):
    """Whether a refusal is a line or two that name the file."""
    return err.startswith("gendiff: ") and err.count("\n") <= 2 and file.name in err


def wrongs(folder, file, only, truth, drawn, scratch):
    """What the commands make of a damaged folder that they should not."""
    found = []
    stage = folder / file.parts[0]
    code, _, err = command("status", PIPELINE, "--dir", folder)
    if code not in (0, 2) or err.count("\n") > 2:
        found.append(f"status: {code} {err}")
    if drawn and (stage / "weights").is_dir():
        code, x = samples(stage, scratch)
        if code == 0 and x != drawn[stage.name]:
            found.append("sample: other samples")
        if code != 0 and not said(file, x):
            found.append(f"sample: {x}")
        code, _, err = command("evaluate", stage)
        if code != 0 and not said(file, err):
            found.append(f"evaluate: {err}")
    code, _, err = run(folder, *(["--only", only] if only else []))
    if code == 2:
        if not said(file, err.split("; trying an older one.\n")[-1]):
            found.append(f"run: {err}")
        return found
    now = results(folder)
    names = [name for name in sorted({*truth, *now}) if name.startswith(only or "")]
    differ = [name for name in names if truth.get(name) != now.get(name)]
    if file.name == "metrics.csv":  # a log that nothing reads: its own rows are all that is lost
        differ = [name for name in differ if name != str(file)]
    if code or differ:
        found.append(f"run: {code}, other results: {differ} {err}")
    return found


def tried(folder, only, truth, drawn, other, tmp_path):
    """All files and damages of a folder, or of one stage of it; what went wrong, by case."""
    found, count = {}, 0
    for file in files_in(folder):
        if only and file.parts[0] != only:
            continue
        for how in DAMAGES:
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            if damage(copy, file, how, other):
                count += 1
                if wrong := wrongs(copy, file, only, truth, drawn, tmp_path):
                    found[f"{file} {how}"] = wrong
    return found, count


def test_every_file_of_a_finished_run(whole, other, tmp_path):
    drawn = {name: samples(whole / name, tmp_path)[1] for name in ("teacher", "reflow")}
    found, count = tried(whole, None, results(whole), drawn, other, tmp_path)
    assert not found
    assert count > 100


@pytest.mark.parametrize("stage", ["teacher", "couples", "reflow"])
def test_every_file_of_a_half_done_stage(whole, halves, other, tmp_path, stage):
    found, count = tried(halves[stage], stage, results(whole), {}, other, tmp_path)
    assert not found
    assert count > 15
