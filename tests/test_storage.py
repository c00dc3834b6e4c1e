"""Files are whole or absent, whatever the disk does; a folder has one owner."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from threading import Timer

import pytest

from gendiff import storage
from gendiff.errors import UserError


@pytest.fixture
def file(tmp_path):
    """A file with an old content."""
    path = tmp_path / "folder" / "file.json"
    storage.write_text(path, "old")
    return path


def names(path):
    return [inside.name for inside in path.parent.iterdir()]


def test_write_returns_the_digest_of_what_is_there(file):
    assert storage.write_text(file, "new") == hashlib.sha256(b"new").hexdigest()
    assert file.read_text() == "new"
    assert storage.sha256(file) == hashlib.sha256(b"new").hexdigest()
    assert names(file) == ["file.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "cannot be written"),
    ],
)
def test_failed_write_leaves_the_old_file_alone(file, monkeypatch, call, number, message):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(UserError, match=f"file.json: {message}"):
        storage.write_text(file, "new")
    assert file.read_text() == "old"
    assert names(file) == ["file.json"]


def test_what_no_user_can_mend_is_raised_as_it_is(file):
    with pytest.raises(OSError, match="too many"), storage.user_errors(file):
        raise OSError(errno.EMFILE, "too many files")


def test_writer_that_dies_half_way_leaves_the_old_file_alone(file):
    def write(stream):
        stream.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.write_atomic(file, write)
    assert file.read_text() == "old"
    assert names(file) == ["file.json"]


def test_rename_comes_after_the_sync_of_the_file_and_before_that_of_the_folder(file, monkeypatch):
    events = []
    for call in ("fsync", "replace"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, c=call, r=real: (events.append(c), r(*a))[1])
    storage.write_text(file, "new")
    assert events == ["fsync", "replace", "fsync"]


def test_killed_writer_leaves_a_temporary_that_is_swept(file):
    code = f"""
import os
from pathlib import Path
from gendiff.storage import write_atomic
write_atomic(Path({str(file)!r}), lambda stream: (stream.write(b"ne"), os._exit(9)))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert file.read_text() == "old"
    assert len(names(file)) == 2
    storage.sweep_temporaries(file.parent.parent)
    assert names(file) == ["file.json"]


@pytest.fixture
def small_disk(tmp_path):
    """A mounted file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(small_disk):
    path = small_disk / "file"
    storage.write_text(path, "old")
    with pytest.raises(UserError, match="file: the disk is full"):
        storage.write_text(path, "x" * 2_000_000)
    assert path.read_text() == "old"
    assert names(path) == ["file"]


def test_read_only_disk(small_disk):
    storage.write_text(small_disk / "file", "old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for write in (storage.write_text, lambda path, _: storage.make_folder(path)):
        with pytest.raises(UserError, match="cannot be written"):
            write(small_disk / "new", "text")


@pytest.mark.parametrize("below", ["file.json/x", "file.json/x/y"])
def test_path_below_a_file(file, below):
    path = file.parent / below
    with pytest.raises(UserError, match="cannot be written"):
        storage.write_text(path, "new")
    assert file.read_text() == "old"


def test_folder_that_is_a_file(file):
    with pytest.raises(UserError, match=r"file.json: cannot be written"):
        storage.make_folder(file)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}"])
def test_damaged_json_is_named(file, content):
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"file.json: damaged, not valid JSON"):
        storage.read_json(file)


def test_what_is_no_number_is_never_written(file):
    with pytest.raises(ValueError, match="Out of range"):
        storage.write_json(file, {"loss": float("nan")})
    assert file.read_text() == "old"


def test_missing_json_is_named(file):
    with pytest.raises(UserError, match=r"none.json: no such file"):
        storage.read_json(file.with_name("none.json"))


HOLD = """
import sys
from pathlib import Path
from gendiff.storage import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_keeps_others_out_until_its_process_is_dead(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another gendiff run"), storage.lock(tmp_path):
            pass
    finally:
        other.kill()
        other.communicate()
    with storage.lock(tmp_path):
        pass
    with storage.lock(tmp_path):
        pass


def test_a_look_at_a_lock_is_no_owner(tmp_path):
    """Two may look at once, and who wants the folder waits for that instant."""
    with storage.lock(tmp_path):
        assert storage.locked(tmp_path)
    look = (tmp_path / ".lock").open("rb")
    fcntl.flock(look, fcntl.LOCK_SH)
    assert not storage.locked(tmp_path)
    Timer(0.1, look.close).start()
    with storage.lock(tmp_path):
        pass


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_are_for_those_whom_the_umask_lets(tmp_path, mask):
    old = os.umask(mask)
    try:
        storage.write_text(tmp_path / "x", "mine")
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~mask
