"""The page in a real browser: nothing in the console, nothing asked for, no wider than a phone."""

import importlib.util
from pathlib import Path

import pytest
from test_page import NASTY, picture, view

from gendiff.report.page import render
from gendiff.report.views import RunView

ROOT = Path(__file__).parents[2]


def load_tool():
    spec = importlib.util.spec_from_file_location("tool", ROOT / "tools/report_check.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


TOOL = load_tool()


@pytest.mark.skipif(not TOOL.chromium(), reason="no chromium here")
def test_a_page_on_a_telephone(tmp_path, point):
    long = "a_stage_with_a_name_that_no_telephone_can_hold_in_one_line_however_it_is_set"
    curves = {name: [(0, 1.0), (9, 1e-4)] for name in ("loss", "loss/level-1", "watch/recall")}
    grid = picture(tmp_path / "ddim-1.png", 330, 330)
    told = {"config": "x" * 500, "parent": "b", "changes": [("k" * 99, "o" * 99, "n" * 99)]}
    stages = [view(long, [NASTY], why=[NASTY], curves=curves, pictures=[grid], **told)]
    entries = [point(long, k, 9.0 / k, sampler=NASTY, recall=0.5) for k in (1, 2, 4)]
    path = tmp_path / "report.html"
    path.write_text(render(RunView(long, stages, entries)))
    with TOOL.Browser() as browser:
        for scheme in TOOL.SCHEMES:
            browser.open(path, TOOL.SIZES["phone"], scheme)
            browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert browser.overflow() == (0, [])
        ink = "getComputedStyle(document.body).color"
        assert browser.run(ink) == "rgb(230, 233, 237)"  # dark was the last
        assert browser.run("document.images.length") == 1
        assert browser.errors == []
