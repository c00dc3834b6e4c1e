"""Curves: what they show, read from the figure, and the files they become."""

from itertools import islice
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from gendiff.errors import UserError
from gendiff.report.curve import draw_curve
from gendiff.report.families import looks

FRONT, FLOOR = "Pareto front", "floor: real samples"


def legend(figure):
    """Labels of the families, without the front and the floor."""
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    return [label for label in labels if label not in (FRONT, FLOOR)]


def title(figure):
    return figure.legends[0].get_title().get_text()


def line(panel, label):
    """The line of a label, by which it is known in the legend."""
    handles, labels = panel.get_legend_handles_labels()
    handle = handles[labels.index(label)]
    return handle if label == FRONT else handle[0]


def test_png_of_150_dpi(tmp_path, point):
    draw_curve([point("teacher", 8, 20.0), point("teacher", 4, 30.0)], tmp_path / "new/curve.png")
    with Image.open(tmp_path / "new/curve.png") as image:
        assert image.format == "PNG"
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)


def test_svg_is_the_same_every_time_and_its_text_is_text(tmp_path, point):
    entries = [point("a", k, 20.0 / k, frechet_distance_interval=1.0, recall=0.5) for k in (1, 2)]
    for name in ("one.svg", "two.svg"):
        draw_curve(entries, tmp_path / name, {"frechet_distance": 3.0})
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert "<dc:date>" not in text
    words = {(element.text or "").strip() for element in ElementTree.fromstring(text).iter()}
    assert {"a, ddim", "Fréchet distance", "recall", FRONT, FLOOR} <= words


def test_old_picture_stays_when_the_new_one_fails(tmp_path, point, monkeypatch):
    path = tmp_path / "curve.svg"
    path.write_text("old")

    def fail(figure, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(UserError, match="disk is full"):
        draw_curve([point("a", 1, 2.0)], path)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_line_per_model_and_sampler(tmp_path, figures, point):
    points = [point("teacher", k, 100.0 / k, frechet_distance_interval=1.0) for k in (8, 2, 32)]
    points += [{**p, "sampler": "ddpm", "frechet_distance": 7.0} for p in points]
    points += [point("tutor", 2, 70.0)]
    draw_curve(points, tmp_path / "curve.png")
    (panel,) = figures[0].axes
    assert legend(figures[0]) == ["teacher, ddim", "teacher, ddpm", "tutor, ddim"]
    drawn = line(panel, "teacher, ddim")
    np.testing.assert_allclose(drawn.get_xydata(), [[2.0, 50.0], [8.0, 12.5], [32.0, 3.125]])
    bars = panel.containers[0][2][0].get_segments()
    np.testing.assert_allclose(bars, [[[2, 49], [2, 51]], [[8, 11.5], [8, 13.5]], bars[2]])
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["2", "8", "32"]


def test_line_starts_over_for_each_guidance_and_role(tmp_path, figures, point):
    points = [
        point("a", k, 9.0 + g, role=role, guidance=g)
        for role in ("ema", "raw")
        for g in (0.0, 1.5)
        for k in (4, 8)
    ]
    draw_curve(points, tmp_path / "curve.png")
    expected = ["ema, guidance 0", "ema, guidance 1.5", "raw, guidance 0", "raw, guidance 1.5"]
    assert legend(figures[0]) == expected
    assert title(figures[0]) == "a, ddim"


@pytest.mark.parametrize(
    ("models", "samplers", "labels", "shared"),
    [
        (["a", "b"], ["ddim", "ddim"], ["a", "b"], "ddim"),
        (["a", "a"], ["ddim", "heun"], ["ddim", "heun"], "a"),
        (["a", "b"], ["ddim", "heun"], ["a, ddim", "b, heun"], ""),
        (["a", "gan"], ["ddim", "gan"], ["a, ddim", "gan"], ""),
        (["a", "a"], ["ddim", "ddim"], ["a, ddim"], ""),
        (["halve-8", "b"], ["ddim", "ddim"], ["halve-8", "b"], "ddim"),
        (["cut-100", "cut-50"], ["ddim", "ddim"], ["cut-100", "cut-50"], "ddim"),
    ],
)
def test_legend_names_what_differs(tmp_path, figures, point, models, samplers, labels, shared):
    pairs = zip(models, samplers, strict=True)
    points = [point(m, 8, 9.0, sampler=s, role="ema", guidance=0.0) for m, s in pairs]
    draw_curve(points, tmp_path / "curve.png")
    assert (legend(figures[0]), title(figures[0])) == (labels, shared)


def test_students_of_a_chain_are_joined(tmp_path, figures, point):
    points = [point(f"halve-{k}", s, 40.0 / s + k) for k in (8, 4, 2) for s in (k, k // 2)]
    draw_curve([*points, point("teacher", 8, 13.0)], tmp_path / "curve.png")
    (panel,) = figures[0].axes
    assert legend(figures[0]) == ["halve-k, at k steps", "halve-k, at other step counts", "teacher"]
    own = line(panel, "halve-k, at k steps")
    np.testing.assert_allclose(own.get_xydata(), [[2, 22], [4, 14], [8, 13]])
    assert len({container[0].get_color() for container in panel.containers}) == 2
    assert len(panel.containers) == 1 + 3 + 1


def test_front_of_all_models_is_a_step(tmp_path, figures, point):
    points = [point("a", 1, 30.0), point("b", 2, 9.0), point("a", 4, 10.0), point("a", 8, 5.0)]
    draw_curve(points, tmp_path / "curve.png")
    front = line(figures[0].axes[0], FRONT)
    np.testing.assert_allclose(front.get_xydata(), [[1, 30], [2, 9], [8, 5]])
    assert front.get_drawstyle() == "steps-post"
    assert front.get_zorder() < line(figures[0].axes[0], "a").get_zorder()


def test_panels_of_what_there_is(tmp_path, figures, point):
    points = [point("a", 8, 20.0, class_accuracy=0.9, recall=0.4), point("a", 4, 30.0)]
    draw_curve(points, tmp_path / "curve.png")
    labels = [panel.get_ylabel() for panel in figures[0].axes]
    assert labels == ["Fréchet distance", "recall", "class accuracy"]
    lowest = figures[0].axes[2]
    np.testing.assert_allclose(lowest.containers[0][0].get_xydata(), [[8, 0.9]])
    assert lowest.get_xlabel()


def test_points_show_their_transport_distance(tmp_path, figures, point):
    points = [point("a", k, 0.01, wasserstein2=1 / k, precision=0.9) for k in (1, 2)]
    draw_curve(points, tmp_path / "curve.png")
    assert [p.get_ylabel() for p in figures[0].axes] == ["2-Wasserstein", "precision"]
    assert figures[0].axes[0].containers[0][0].get_ydata().tolist() == [1, 0.5]


def test_floor(tmp_path, figures, point):
    floor = {"frechet_distance": 5.0, "frechet_distance_interval": 0.5, "precision": 0.9}
    draw_curve([point("a", 8, 20.0, precision=0.8)], tmp_path / "curve.png", floor)
    panels = figures[0].axes
    assert [line.get_ydata()[0] for line in panels[0].lines if line.get_label() == FLOOR] == [5]
    (band,) = panels[0].patches
    assert isinstance(band, Rectangle)
    assert (band.get_y(), band.get_height()) == (4.5, 1.0)
    assert panels[0].get_ylim()[0] < 4.5
    texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert texts[0] == "a, ddim"
    assert sorted(texts[1:]) == [FRONT, FLOOR]
    assert [line.get_ydata()[0] for line in panels[1].lines if line.get_label() == FLOOR] == [0.9]


def test_bars_that_reach_zero_leave_the_scale_alone(tmp_path, figures, point):
    draw_curve([point("a", 8, 2.0, frechet_distance_interval=5.0)], tmp_path / "curve.png")
    low, high = figures[0].axes[0].get_ylim()
    assert 0.5 < low < 1
    assert 7 < high < 12


def test_bars_of_shares_end_at_one(tmp_path, figures, point):
    draw_curve([point("a", 8, 2.0, recall=0.99, recall_interval=0.03)], tmp_path / "curve.png")
    (bar,) = figures[0].axes[1].containers[0][2][0].get_segments()
    np.testing.assert_allclose(bar, [[8, 0.96], [8, 1.0]])


def test_distance_that_is_not_positive_is_drawn_on_a_linear_scale(tmp_path, figures, point):
    draw_curve([point("a", 8, 0.0), point("a", 4, 1.0)], tmp_path / "curve.png")
    assert figures[0].axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("distances", [(1.01, 1.3), (2.1, 9.9), (3.0, 90.0), (0.5, 8e4)])
def test_distance_axis_has_a_few_ticks(tmp_path, figures, point, distances):
    draw_curve([point("a", k, d) for k, d in enumerate(distances, 1)], tmp_path / "curve.png")
    panel = figures[0].axes[0]
    low, high = panel.get_ylim()
    assert 2 <= sum(low <= tick <= high for tick in panel.get_yticks()) <= 8
    assert low < min(distances) < max(distances) < high


@pytest.mark.parametrize(
    ("counts", "labels"),
    [
        ((1, 50, 51, 1000), ["1", "50", "1000"]),
        ((15, 16, 31, 32, 33, 500), ["16", "32", "500"]),
        ((7,), ["7"]),
        ((2, 3.5), ["2", "3.5"]),
    ],
)
def test_close_counts_do_not_overprint(tmp_path, figures, point, counts, labels):
    draw_curve([point("a", k, 9.0) for k in counts], tmp_path / "curve.png")
    panel = figures[0].axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == labels
    ticks = [*panel.get_xticks(), *panel.get_xticks(minor=True)]
    assert sorted(ticks) == list(counts)


def test_legend_of_many_samplers_does_not_squeeze_the_panel(tmp_path, figures, point):
    points = [
        point("a", k, 9.0, sampler=f"a_sampler(order={n})") for n in range(21) for k in (4, 8)
    ]
    draw_curve(points[:2], tmp_path / "few.png")
    draw_curve(points, tmp_path / "many.png")
    for figure in figures:
        figure.draw_without_rendering()
    few, many = (figure.axes[0].get_window_extent() for figure in figures)
    assert many.height == pytest.approx(few.height, rel=0.05)
    assert many.width == pytest.approx(few.width, rel=0.05)
    box = figures[1].legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figures[1].bbox.width
    assert 0 <= box.y0 < box.y1 < many.y0


def test_looks_are_distinct():
    found = [tuple(look.values()) for look in islice(looks(), 196)]
    assert len(set(found)) == 196
    assert len({(colour, marker) for colour, marker, _ in found[:49]}) == 49
    assert len({(colour, dash) for colour, _, dash in found[:28]}) == 28


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ([], "curve.png", "no entries"),
        ([{}], "curve.jpg", r"\.png or as \.svg"),
        ([{"reference": "x"}, {"reference": "y"}], "curve.png", "different references"),
        ([{"frechet_distance": float("nan")}], "curve.png", "no entry has one of"),
    ],
)
def test_rejects(tmp_path, point, changes, name, message):
    with pytest.raises(ValueError, match=message):
        draw_curve([point("a", 8, 9.0, **change) for change in changes], tmp_path / name)
    assert not [*tmp_path.iterdir()]
