"""Pictures: what they show, read from the figure or from the pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from gendiff.report.grid import save_grid, save_points


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
    x = torch.tensor([[0.0, 1.0, 9.0], [2.0, -3.0, 9.0], [0.5, 0.5, 9.0]])
    save_points(x, tmp_path / "scatter.png")
    (panel,) = figures[0].axes
    np.testing.assert_allclose(np.asarray(panel.collections[0].get_offsets()), x[:, :2].numpy())
    assert panel.get_aspect() == 1


@pytest.mark.parametrize("dimensions", [1, 2])
def test_points_in_given_axes(tmp_path: Path, figures: list[Figure], dimensions: int) -> None:
    save_points(torch.zeros(3, dimensions), tmp_path / "points.png", reach=2.5)
    (panel,) = figures[0].axes
    assert panel.get_xlim() == (-2.5, 2.5)
    assert dimensions == 1 or panel.get_ylim() == (-2.5, 2.5)


def test_scatter_is_a_square_png(tmp_path: Path) -> None:
    save_points(torch.zeros(1, 2), tmp_path / "scatter.png")
    assert read(tmp_path / "scatter.png").shape[:2] == (750, 750)


def test_points_of_the_line_are_a_histogram(tmp_path: Path, figures: list[Figure]) -> None:
    save_points(torch.tensor([[0.0], [1.0], [1.0], [1.0]]), tmp_path / "points.png")
    bars = figures[0].axes[0].patches
    assert bars[-1].get_height() == pytest.approx(3 * bars[0].get_height(), rel=1e-4)


def test_points_reject_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected points"):
        save_points(torch.zeros(4), tmp_path / "scatter.png")
