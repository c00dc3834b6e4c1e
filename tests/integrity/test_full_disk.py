"""A disk that is full, or files that may not grow: a line, nothing torn, and later the same end."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile

import pytest
from commands import PIPELINE, command, results, run


def limited(folder, most):
    """The command in a process whose files may have so many bytes; its exit code and line."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code, err = 1, ""
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
            code, _, err = run(folder)
        except BaseException as error:
            err = repr(error)
        finally:
            os.write(write, err.encode()[:4000])
            os._exit(code)
    os.close(write)
    with open(read) as pipe:
        err = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), err


def check_refused(folder, code, err, why):
    """A line, no temporary left, and no stage that passes for damaged."""
    assert (code, err.count("\n")) == (2, 1), err
    assert why in err
    assert not list(folder.rglob(".*.tmp"))
    code, out, err = command("status", PIPELINE, "--dir", folder)
    assert (code, err) == (0, "")
    assert "damaged" not in out + err


@pytest.mark.parametrize(
    "file",
    [
        "teacher/config.yaml",
        "teacher/checkpoints/step-000000004.ckpt",
        "teacher/samples/ddim-2.png",
    ],
)
def test_files_that_may_not_grow(whole, tmp_path, file):
    code, err = limited(tmp_path / "run", (whole / file).stat().st_size - 1)
    check_refused(tmp_path / "run", code, err, "cannot be written (File too large)")
    code, _, err = run(tmp_path / "run")
    assert code == 0, err
    assert results(tmp_path / "run") == results(whole)


def mount(folder, *options):
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    try:
        return subprocess.run(words, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few kilobytes, and how to change its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "size=64k"):
        pytest.skip("this user cannot mount a tmpfs")
    yield folder, lambda size: mount(folder, "remount", f"size={size}")
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # mapped pairs may be open


def test_full_disk(whole, small_disk):
    """Grown a little each time, the disk is full in another place each time."""
    folder, resize = small_disk
    tries = 0
    for size in range(16, 512, 48):
        assert resize(f"{size}k")
        code, _, err = run(folder)
        if code == 0:
            break
        tries += 1
        check_refused(folder, code, err, "disk is full")
    assert tries >= 2
    assert results(folder) == results(whole)


def test_temporary_folder_that_is_full_and_on_another_disk(
    whole, small_disk, tmp_path, monkeypatch
):
    folder, _ = small_disk
    (folder / "fill").write_bytes(bytes(60 * 1024))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    code, _, err = run(tmp_path / "run")
    assert code == 0, err
    assert results(tmp_path / "run") == results(whole)
    assert json.loads((tmp_path / "run/teacher/done.json").read_text())["steps"] == 6
