"""Mutated stages files, configs and overrides, as ``tools/fuzz.py`` makes them by number."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_mutated_is_right_itself(fuzz, tmp_path):
    for name in ("stages", "plain", "gan"):
        words = fuzz.write_files(tmp_path, name, {})
        assert fuzz.in_process(words, 0) == (0, "")


@pytest.mark.parametrize("first", range(0, 100, 50))
def test_mutations_end_in_a_line_or_two(fuzz, first):
    told = []
    codes, failed = fuzz.fuzz(first, 50, told.append)
    assert not failed, "\n".join(told)
    assert set(codes) <= {0, 2}
    assert codes[2] > 5


def test_a_case_is_a_function_of_its_number(fuzz, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        fuzz.write_case(tmp_path / folder, 7)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("code", "err", "wrong"),
    [
        (0, "", ""),
        (2, "gendiff: a\nb\n", ""),
        (0, "a warning\n", "words on stderr"),
        (1, "", "exit code 1"),
        (2, "gendiff: a\nb\nc\n", "3 lines on stderr"),
        (2, "usage\n", "1 lines on stderr"),
        (2, "gendiff: Traceback\n", "a traceback"),
    ],
)
def test_the_judge_sees(fuzz, code, err, wrong):
    assert fuzz.verdict(code, err) == wrong
