"""Pictures: what they show, read from the figure or from the pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from gendiff.report.curve import draw_curve
from gendiff.report.grid import save_grid, save_scatter


def point(model: str, steps: int, distance: float, **more: Any) -> dict[str, Any]:
    base = {"model": model, "sampler": "ddim", "steps": steps, "nfe": steps}
    return {**base, "frechet_distance": distance, **more}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, in order."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curve_is_a_png_of_150_dpi(tmp_path: Path) -> None:
    draw_curve([point("teacher", 8, 20.0), point("teacher", 4, 30.0)], tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)


def test_curve_has_a_line_per_model_and_sampler(tmp_path: Path, figures: list[Figure]) -> None:
    points = [point("teacher", k, 100.0 / k, frechet_distance_interval=1.0) for k in (8, 2, 32)]
    points += [{**p, "sampler": "ddpm", "frechet_distance": 7.0} for p in points]
    draw_curve(points, tmp_path / "curve.png")
    (panel,) = figures[0].axes
    assert legend(figures[0]) == ["teacher, DDIM", "teacher, DDPM"]
    line = panel.containers[0][0]
    np.testing.assert_allclose(line.get_xydata(), [[2.0, 50.0], [8.0, 12.5], [32.0, 3.125]])
    bars = panel.containers[0][2][0].get_segments()
    np.testing.assert_allclose(np.asarray(bars[0]), [[2, 49], [2, 51]])
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["2", "8", "32"]


def test_curve_joins_the_students_of_a_chain(tmp_path: Path, figures: list[Figure]) -> None:
    points = [point(f"halve-{k}", s, 40.0 / s + k) for k in (8, 4, 2) for s in (k, k // 2)]
    draw_curve(points, tmp_path / "curve.png")
    (panel,) = figures[0].axes
    assert legend(figures[0]) == [
        "halve-k, DDIM, at k steps",
        "halve-k, DDIM, at other step counts",
    ]
    own = panel.containers[0][0]
    np.testing.assert_allclose(own.get_xydata(), [[2, 22], [4, 14], [8, 13]])
    assert len({container[0].get_color() for container in panel.containers}) == 1
    assert len(panel.containers) == 1 + 3


def test_one_numbered_model_is_no_chain(tmp_path: Path, figures: list[Figure]) -> None:
    draw_curve([point("halve-8", 8, 9.0), point("teacher", 8, 8.0)], tmp_path / "curve.png")
    assert legend(figures[0]) == ["halve-8, DDIM", "teacher, DDIM"]


def test_curve_separates_guidance_where_it_varies(tmp_path: Path, figures: list[Figure]) -> None:
    points = [point("teacher", 8, 10.0 + g, role="ema", guidance=g) for g in (0.0, 2.0)]
    draw_curve(points, tmp_path / "curve.png")
    assert legend(figures[0]) == ["teacher, DDIM, guidance 0.0", "teacher, DDIM, guidance 2.0"]


def test_curve_shows_floor_and_accuracy(tmp_path: Path, figures: list[Figure]) -> None:
    points = [point("teacher", 8, 20.0, class_accuracy=0.9), point("teacher", 4, 30.0)]
    floor = {"frechet_distance": 5.0, "frechet_distance_interval": 0.5}
    draw_curve(points, tmp_path / "curve.png", floor=floor)
    quality, accuracy = figures[0].axes
    assert "floor: real samples" in legend(figures[0])
    dashed = [line for line in quality.lines if line.get_linestyle() == "--"]
    assert [np.asarray(line.get_ydata())[0] for line in dashed] == [5.0]
    (band,) = quality.patches
    assert isinstance(band, Rectangle)
    assert (band.get_y(), band.get_height()) == (4.5, 1.0)
    assert quality.get_ylim()[0] < 4.5
    np.testing.assert_allclose(accuracy.containers[0][0].get_xydata(), [[8, 0.9]])


def test_bars_that_reach_zero_leave_the_scale_alone(tmp_path: Path, figures: list[Figure]) -> None:
    draw_curve([point("a", 8, 2.0, frechet_distance_interval=5.0)], tmp_path / "curve.png")
    low, high = figures[0].axes[0].get_ylim()
    assert 1 < low < 2 < high < 4


def test_close_step_counts_do_not_overprint(tmp_path: Path, figures: list[Figure]) -> None:
    points = [point("a", k, 9.0) for k in (1, 50, 51, 1000)]
    draw_curve(points, tmp_path / "curve.png")
    labels = [tick.get_text() for tick in figures[0].axes[0].get_xticklabels()]
    assert labels == ["1", "50", "", "1000"]


def test_curve_without_points() -> None:
    with pytest.raises(ValueError, match="no points"):
        draw_curve([], Path("unused.png"))


def read(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_grid_enlarges_and_separates_small_images(tmp_path: Path) -> None:
    x = torch.full((3, 1, 8, 8), -1.0)
    x[1, 0, 2, 5] = 1.0
    save_grid(x, tmp_path / "grid.png", columns=2)
    pixels = read(tmp_path / "grid.png")
    assert pixels.shape == (65, 65)
    assert (pixels[32] == 128).all()
    assert (pixels[:, 32] == 128).all()
    white = np.argwhere(pixels == 255)
    assert white.min(0).tolist() == [8, 33 + 20]
    assert white.max(0).tolist() == [11, 33 + 23]
    assert len(white) == 16
    assert (pixels[33:, 33:] == 128).all()  # the place of a fourth image stays empty


def test_grid_of_colour_images_keeps_channels_and_size(tmp_path: Path) -> None:
    x = torch.tensor([1.0, 0.0, -1.0])[None, :, None, None].expand(2, 3, 40, 48)
    save_grid(x, tmp_path / "grid.png", columns=5)
    pixels = read(tmp_path / "grid.png")
    assert pixels.shape == (40, 97, 3)
    assert pixels[0, 0].tolist() == [255, 128, 0]


def test_grid_clips_and_draws_nan_black(tmp_path: Path) -> None:
    x = torch.tensor([-7.0, 7.0, float("nan")])[:, None, None, None].expand(3, 1, 32, 32)
    save_grid(x, tmp_path / "grid.png", columns=3)
    assert read(tmp_path / "grid.png")[0, [0, 33, 66]].tolist() == [0, 255, 0]


@pytest.mark.parametrize("shape", [(4, 2, 8, 8), (4, 8, 8), (0, 1, 8, 8)])
def test_grid_rejects_other_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected images"):
        save_grid(torch.zeros(shape), tmp_path / "grid.png", columns=2)


def test_grid_needs_a_column(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="columns"):
        save_grid(torch.zeros(1, 1, 8, 8), tmp_path / "grid.png", columns=0)


def test_scatter_shows_all_points_on_equal_axes(tmp_path: Path, figures: list[Figure]) -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, -3.0], [0.5, 0.5]])
    save_scatter(x, tmp_path / "scatter.png")
    (panel,) = figures[0].axes
    np.testing.assert_allclose(np.asarray(panel.collections[0].get_offsets()), x.numpy())
    assert panel.get_aspect() == 1
    assert read(tmp_path / "scatter.png").shape[:2] == (750, 750)


def test_scatter_rejects_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected points"):
        save_scatter(torch.zeros(4, 3), tmp_path / "scatter.png")
