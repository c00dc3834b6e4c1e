"""The page: whole, legible, alone, and never made of what a run folder says."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from markup import parsed
from PIL import Image

from gendiff.report.graph import draw_graph, in_tree_order, lanes, rows_of
from gendiff.report.page import duration, grids, number, render
from gendiff.report.pictures import thumbnail, thumbnails
from gendiff.report.views import RunView, StageView

NASTY = "</script><img src=x onerror=alert(1)>\"'{{7*7}}$x^{$&<!--\x00_"


def picture(path, width=40, height=30, noisy=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), 200, np.uint8)
    if noisy:
        pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def view(name, parents=(), **more):
    init = {f"role{k}": f"{p}.ema" for k, p in enumerate(parents)}
    seeded = dict(zip(init, parents, strict=True))
    return StageView(name, "done", init=init, parents=seeded, data="toy", **more)


def test_all_of_it(tmp_path, point):
    curves = {
        "loss": [(k, 10.0**-k) for k in range(4)],
        "loss/level-1": [(1, 2.0)],
        "loss/level-2": [(1, 0.0), (2, -1.0)],
        "watch/recall": [(3, 0.5)],
    }
    grid = picture(tmp_path / "a/samples/ddim-4.png")
    changed = [("optim.lr", "0.1", "0.2")]
    stages = [
        view("a", curves=curves, pictures=[grid], seconds=4.0, steps=10, batch=8, total=10),
        view("b", ["a"], parent="a", changes=changed, config="seed: 1", why=["odd"]),
    ]
    entries = [point("a", 4, 3.0, role="ema", guidance=0.0), point("b", 1, 5.0, reference="z")]
    entries[0] |= {"reference": "y", "frechet_distance_interval": 0.5}
    cited = SimpleNamespace(key="ho2020", text="Ho et al.", bibtex="@misc{}")
    page = parsed(render(RunView("trial", stages, entries, {}, [(cited, ["a"])])))
    words = " ".join(page.texts["body"])
    for told in ("2 stages, 2 done", "b: done; odd", "optim.lr", "4 steps", "4.0 s", "Ho et al."):
        assert told in words
    assert "★ 3.00 ± 0.50" in page.texts["td"]
    assert "20" in page.texts["td"]  # rows a second
    assert [text for text in page.texts["caption"] if text.endswith("a’s config.")]
    assert page.all("img")[0]["alt"] == "Samples of a: ddim, 4 steps"
    charts = [svg["aria-label"] for svg in page.all("svg")][3:]
    assert charts == ["a: Loss.", "a: By noise level.", "a: Watched."]


def test_text_of_a_run_is_never_markup(point, tmp_path):
    stage = view(
        NASTY,
        [NASTY],
        why=[NASTY],
        method=NASTY,
        fingerprint=NASTY,
        gave={NASTY: NASTY},
        config=NASTY,
        parent=NASTY,
        changes=[(NASTY, NASTY, NASTY)],
        curves={
            NASTY + "loss/level-1": [(0, 1.0)],
            NASTY + "/loss": [(0, 1.0)],
            "x/loss": [(1, 2)],
        },
        pictures=[picture(tmp_path / "<b>&-4.png")],
        device=NASTY,
        environment={NASTY: NASTY},
    )
    entries = [point(NASTY, 4, 3.0, sampler=NASTY, reference=NASTY, role=NASTY, guidance=0.0)]
    entries.append({**entries[0], "model": "_hidden", "nfe": 2})
    text = render(RunView(NASTY, [stage], entries))
    page = parsed(text)
    assert len(page.all("img")) == 1
    assert "<img src=x" not in text
    assert "{{7*7}}" in text
    assert page.texts["h1"] == [NASTY.replace("\x00", "�")]
    assert "\x00" not in text


@pytest.mark.parametrize(
    ("entries", "front"),
    [
        # at 2 evaluations 9 beats 10 at 4; 5 at 8 is the best of all; 30 at 1 the cheapest
        ([("a", 1, 30), ("b", 2, 9), ("a", 4, 10), ("a", 8, 5)], [("a", 1), ("b", 2), ("a", 8)]),
        ([("a", 1, 3), ("b", 1, 3), ("a", 2, 3)], [("a", 1), ("b", 1)]),
    ],
)
def test_front_is_starred(point, entries, front):
    points = [point(m, k, float(d), frechet_distance_interval=0.1) for m, k, d in entries]
    page = parsed(render(RunView("run", [view("a"), view("b")], points)))
    rows = "".join(page.texts["tbody"][:1]).split("\n")
    starred = [row for row in rows if "★" in row]
    best = {(m, k) for m, k, _ in entries if any(r.startswith(f"{m}ddim{k}★") for r in starred)}
    assert len(starred) == len(front)
    assert best == {*front}
    said = ", ".join(f"{model} at {nfe}" for model, nfe in front)
    assert page.texts["figcaption"][0].endswith(f"Fréchet distance: {said} evaluations.")


def test_pictures_share_a_budget(tmp_path):
    large = [picture(tmp_path / f"{k}.png", 375, 300, noisy=True) for k in range(3)]
    assert [(t.width, t.height) for t in thumbnails(large) if t] == [(360, 288)] * 3
    whole = sum(len(t.uri) for t in thumbnails(large) if t)
    small = thumbnails(large, whole // 4)
    assert all(t and t.width < 360 for t in small)
    assert sum(len(t.uri) for t in small if t) <= whole // 4
    few = thumbnails(large, len(small[0].uri) // 3)
    assert few[-1] is None
    assert sum(len(t.uri) for t in few if t) <= len(small[0].uri) // 3


def test_many_pictures_make_no_large_page(tmp_path):
    same = picture(tmp_path / "ddim-1.png", 400, 400, noisy=True)
    stages = [view(f"s{k}", pictures=[same]) for k in range(8)]
    text = render(RunView("run", stages))
    assert 1_000_000 < len(text) < 5_000_000
    assert len(parsed(text).all("img")) == 8


def test_only_pixels_of_a_picture_are_kept(tmp_path):
    plain = picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(plain.read_bytes() + b"<script>1</script>")
    uri = thumbnail(tmp_path / "b.png", 360).uri
    data = base64.b64decode(uri.partition(",")[2])
    assert b"script" not in data
    assert Image.open(io.BytesIO(data)).size == (40, 30)
    (tmp_path / "c.png").write_text("<svg/>")
    Image.new("1", (5000, 4001)).save(tmp_path / "bomb.png")
    assert thumbnail(tmp_path / "c.png", 360) is None
    assert thumbnail(tmp_path / "bomb.png", 360) is None


def test_samples_are_grouped_by_steps(tmp_path):
    paths = [tmp_path / n for n in ("ddim-8.png", "heun-churn=10-4-w2-raw.png", "odd.png")]
    rows, left_out = grids([view("a", pictures=[picture(p) for p in paths])])
    told = {steps: [s.words for s in row] for steps, row in rows.items()}
    assert told == {0: ["odd"], 4: ["heun-churn=10, w2-raw"], 8: ["ddim"]} or left_out


def test_graph_has_an_arrow_a_parent():
    stages = [
        view("t"),
        view("x", ["t", "t"]),
        view("p", ["t"]),
        view("y", ["t", "p"]),
        view("z", ["far"]),
    ]
    rows = {row.name: row.arrivals for row in rows_of(stages)}
    assert list(rows)[:2] == ["data: toy", "far"]
    assert rows["x"] == {"t": "role0, role1 ← t.ema"}
    assert rows["y"] == {"t": "role0 ← t.ema", "p": "role1 ← p.ema"}
    found, count = lanes(rows_of(stages))
    assert found["p"] != found["t"]
    assert count == 1 + max(found.values())
    assert draw_graph(stages).count('class="arrow') == sum(map(len, rows.values()))


@pytest.mark.parametrize(
    ("parents", "order"),
    [
        ({"b": ["a"], "a": []}, ["a", "b"]),
        ({"t": [], "x": ["t"], "y": ["t"], "x2": ["x"]}, ["t", "x", "x2", "y"]),
        ({"t": [], "x": ["t", "p"], "p": ["t"]}, ["t", "p", "x"]),
        ({"a": ["b"], "b": ["a"], "c": []}, ["c", "a", "b"]),
        ({"a": ["gone"]}, ["a"]),
    ],
)
def test_chains_stay_together(parents, order):
    assert in_tree_order(parents) == order


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "not recorded"),
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (119.7, "2 min 0 s"),
        (3599.8, "1 h 0 min"),
        (3660, "1 h 1 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_numbers():
    assert [number(x) for x in (None, 0, 3.14159, 1234.5, 1e6)] == [
        "–",
        "0",
        "3.14",
        "1,234",
        "1,000,000",
    ]
