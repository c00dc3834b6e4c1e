"""Files that are no config at all: a line that names them, and nothing in them is run."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from gendiff.errors import UserError
from gendiff.yaml_files import check_public, read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty, or not a mapping"),
        ("# only a comment", "empty, or not a mapping"),
        ("- 1\n- 2", "empty, or not a mapping"),
        ("b: 1\na: [1, }", "not valid YAML: line 2, column 8: "),
        ("a: {b: 1, b: 2}", "not valid YAML: line 1, column 11: found duplicate key b"),
        ("a: !!python/object/apply:os.system [touch x]", "not valid YAML: .*python/object"),
        ("a: !!python/name:os.system", "not valid YAML: .*python/name"),
        ("data: {name: '${oc.env:HOME}'}", "data: name: .*interpolations are not allowed"),
        ("a:\n- ${oc.env:HOME}", "a: .*interpolations are not allowed"),
        ("\x00", "not valid YAML"),
        ("3", "not a mapping"),
    ],
)
def test_bad_file_is_named_in_a_line(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_the_longest_file_is_a_mebibyte(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1 #".ljust(2**20, "x"))
    assert read_yaml(path) == {"a": 1}
    path.write_text("a: 1 #".ljust(2**20 + 1, "x"))
    with pytest.raises(UserError, match=r"x.yaml: 1048577 bytes; 1048576 are the most"):
        read_yaml(path)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "x.yaml"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"x.yaml: (cannot be read|not a text file)"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("MY_TOKEN", "abcdefgh", True),
        ("aws_access_key_id", "abcdefgh", True),
        ("MY_TOKEN", "abcdefg", False),  # too short to be one: a name or a number might hold it
        ("MY_TOKENS", "abcdefgh", False),
    ],
)
def test_values_of_the_environment_that_are_secret(monkeypatch, name, value, secret):
    monkeypatch.setenv(name, value)
    told = pytest.raises(UserError, match=rf"^here: holds the value of \${name}, which")
    with told if secret else nullcontext():
        check_public(f"<{value}>", "here")
