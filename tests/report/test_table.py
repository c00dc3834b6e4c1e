"""Tables: what a reader finds in the terminal and on the page."""

import io

import pytest
from rich.console import Console

from gendiff.report.figures import OTHERS, QUALITY
from gendiff.report.table import markdown_table, show_table


@pytest.fixture
def entry():
    """Makes an entry with all figures of images."""
    figures = {
        **{"frechet_distance": 4.234, "frechet_infinity": 3.9, "kernel_distance": -1.38},
        **{"precision": 0.8012, "recall": 0.7, "density": 0.9, "coverage": 0.8},
        **{"inception_score": 8.8, "class_accuracy": 0.99, "nearest_ratio": 0.98},
        **{"copying": 0.52, "straightness": 0.1},
    }
    intervals = {f"{name}_interval": 0.021 for name in figures}
    cost = {"images_per_second": 473.0, "peak_memory_mb": 312.4}

    def make(**more):
        base = {"model": "halve-8", "role": "ema", "sampler": "ddim", "steps": 8, "nfe": 8}
        seen = {"guidance": 0.0, "samples": 899, "draws": 5, "reference": "abc"}
        return base | seen | figures | intervals | cost | more

    return make


@pytest.fixture
def points(entry):
    """An entry of points, with no extractor."""
    names = ("sliced_wasserstein2", "energy_distance", "high_quality", "recall", "precision")
    kept = {k: v for k, v in entry().items() if k not in (*QUALITY, *OTHERS)}
    return {**kept, **dict.fromkeys(names, 0.5), "modes_covered": 24.5}


def show(entries, floors=None, width=110):
    file = io.StringIO()
    show_table(
        entries, floors or {}, Console(file=file, width=width, soft_wrap=True, highlight=False)
    )
    return file.getvalue()


def cells(page):
    """Rows of the tables of a page, without the rules."""
    rows = [line for line in page.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_terminal_shows_the_telling_figures_in_110_columns(entry):
    text = show(
        [entry(), entry(nfe=4, sampler="dpm_solver(order=2,multi=true)@log_snr")], {"abc": entry()}
    )
    assert max(map(len, text.splitlines())) <= 110
    for head in ("model", "sampler", "NFE", "Fréchet", "kernel", "precision", "recall", "accuracy"):
        assert head in text
    for hidden in ("Inception", "density", "role", "guidance", "samples/s"):
        assert hidden not in text
    for cell in ("4.234 ± 0.021", "80.1 ± 2.1", "-1.380 ± 0.021", "real halves"):
        assert cell in text


@pytest.mark.parametrize("width", [20, 50, 80])
def test_nothing_is_cut_in_a_narrow_terminal(entry, width):
    name = "rk45[bold](rtol=0.001,atol=0.001)"  # and its brackets are no markup
    text = show([entry(sampler=name)], width=width)
    assert "…" not in text
    kept = "".join(text.split())
    for letter in set(name):
        assert kept.count(letter) >= name.count(letter)
    assert all(word in text for word in ("halve-8", "4.234", "0.021", "-1.380", "99.0", "2.1"))


def test_ordinary_terminal_keeps_numbers_whole(entry):
    text = show([entry(sampler="dpm_solver(order=2,multi=true)")], width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert not [line for line in text.splitlines() if line.rstrip().endswith("±")]


def test_terminal_of_points(points):
    text = show([points])
    for head in ("sliced", "energy", "modes", "quality", "recall"):
        assert head in text
    assert "Fréchet" not in text
    assert "* on the Pareto front of NFE and sliced 2-Wasserstein" in text


def test_star_marks_the_front(entry):
    better, worse = entry(nfe=4), entry(nfe=8, frechet_distance=6.0)
    text = show([worse, better])
    assert "*4.234" in text
    assert " 6.000" in text


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ([{}, {}], ["model", "sampler", "NFE"]),
        ([{}, {"role": "raw"}], ["model", "role", "sampler", "NFE"]),
        ([{"guidance": 2.0}], ["model", "sampler", "guidance", "NFE"]),
        ([{}, {"draws": 1}], ["model", "sampler", "NFE", "draws"]),
        ([{}, {"samples": 9}], ["model", "sampler", "NFE", "samples"]),
    ],
)
def test_page_names_what_differs(entry, changes, heads):
    head, *_ = cells(markdown_table("digits", [entry(**change) for change in changes], {}))
    assert head[: len(heads)] == heads
    assert head[len(heads)] == "Fréchet distance"


def test_page_has_every_figure_and_explains_it(entry):
    everything = entry(**dict.fromkeys([*QUALITY, *OTHERS], 0.5))
    page = markdown_table("digits", [everything], {})
    heads = [head for row in cells(page) if row[0] == "model" for head in row]
    assert page.startswith("# digits: ")
    for known in (*QUALITY.values(), *OTHERS.values()):
        assert heads.count(known.head) == 1
        assert f"- {known.label}: {known.note}; {known.better}." in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Quality",
        "## Diversity, copying and cost",
    ]


def test_page_without_figures_has_no_columns_for_them(entry):
    page = markdown_table("digits", [entry(precision=None)], {})
    assert "precision" not in page
    assert "recall" in page


def test_page_shows_figures_of_metrics_that_it_does_not_know(entry):
    page = markdown_table("digits", [entry(my_metric=3.0, my_metric_interval=0.25)], {})
    assert "| my metric |" in page
    assert "3.00 ± 0.25" in page


def test_front_is_bold_and_the_floor_comes_last(entry):
    worse = entry(nfe=16, frechet_distance=6.0)
    page = markdown_table("digits", [worse, entry()], {"abc": {"frechet_distance": 5.5}})
    _, *rows = cells(page)[:4]
    assert [row[3] for row in rows] == ["6.000 ± 0.021", "**4.234 ± 0.021**", "5.500"]
    assert rows[2][:3] == ["real halves", "", ""]


@pytest.mark.parametrize(
    ("draws", "sizes", "over"),
    [
        ((5, 5), "899 samples, 5 draws.", "over the draws."),
        ((1, 1), "899 samples, 1 draw.", "over samples, by the jackknife."),
        (
            (5, 1),
            "899 samples.",
            "draws, or by the jackknife over samples where there is one draw.",
        ),
    ],
)
def test_caption(entry, draws, sizes, over):
    page = markdown_table("digits", [entry(draws=count) for count in draws], {})
    assert f"Of each point: {sizes}\n" in page
    assert f"95 % interval {over}\n" in page if draws != (5, 1) else over in page
    assert "All figures are against reference `abc`." in page


def test_references_are_never_mixed(entry):
    one, two = entry(), entry(reference="xyz", nfe=16, frechet_distance=9.0)
    floors = {"xyz": {"frechet_distance": 5.5}}
    page = markdown_table("digits", [one, two, one], floors)
    assert "not comparable" in page
    first, second = page.split("## Against reference `xyz`")
    assert first.count("| halve-8 |") == 4  # two entries in two tables
    assert second.count("| halve-8 |") == 2
    assert "**9.000 ± 0.021**" in second  # on the front of its own group
    assert "real halves" not in first
    assert "real halves" in second

    text = show([one, two], floors)
    assert "not comparable" in text
    assert text.count("model") == 2
    assert text.count("real halves") == 1


def test_bars_in_names_do_not_end_a_cell(entry):
    assert "| a\\|b |" in markdown_table("digits", [entry(model="a|b")], {})


def test_tables_of_nothing():
    assert show([]) == ""
    assert markdown_table("digits", [], None).count("\n") == 1


def test_figures_without_a_distance_have_no_front():
    bare = {"model": "a", "sampler": "b", "nfe": 1, "precision": 0.5}
    assert "front" not in show([bare]) + markdown_table("digits", [bare], {})
