"""Pictures of samples: a grid of images, or a plot of points."""

import math
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

_TILE = 32  # smallest height and width of a drawn image, px
_SEPARATOR = 128  # mid-grey, seen between dark images as well as between light ones


def save_grid(x: Tensor, path: Path | IO[bytes], columns: int) -> None:
    """Save images as one PNG, row by row, with 1 pixel between them.

    Small images are enlarged by the least whole factor that makes their sides 32 px or more, by
    repeating pixels, so that every pixel of the sample stays visible.

    Args:
        x: (N, C, H, W) with C of 1 (greyscale) or 3 (RGB), in [-1, 1]; values outside are clipped
            and NaN is drawn black.
        path: the file to write, whose folder must exist, or an open one.
        columns: images in a row.

    Raises:
        ValueError: another shape, no images, or less than one column.
    """
    from PIL import Image

    if x.ndim != 4 or x.shape[1] not in (1, 3) or len(x) == 0:
        raise ValueError(f"expected images (N, 1 or 3, H, W), got {tuple(x.shape)}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    pixels = x.detach().cpu().float().nan_to_num(nan=-1).clamp(-1, 1)
    pixels = ((pixels + 1) * 127.5).round().to(torch.uint8)
    factor = math.ceil(_TILE / min(x.shape[2:]))
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)

    count, channels, height, width = pixels.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    size = (rows * (height + 1) - 1, columns * (width + 1) - 1)
    canvas = torch.full((*size, channels), _SEPARATOR, dtype=torch.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        canvas[top : top + height, left : left + width] = image.permute(1, 2, 0)
    Image.fromarray((canvas[..., 0] if channels == 1 else canvas).numpy()).save(path, format="PNG")


def save_points(x: Tensor, path: Path | IO[bytes], reach: float | None = None) -> None:
    """Save points as a PNG: a scatter plot of the first two coordinates with equal axes, or a
    histogram on the line.

    Args:
        x: (N, d).
        path: the file to write, whose folder must exist, or an open one.
        reach: axes from minus this to this, so that pictures compare; by default as the points.

    Raises:
        ValueError: another shape.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    if x.ndim != 2:
        raise ValueError(f"expected points (N, d), got {tuple(x.shape)}")
    points = x.detach().cpu().float().numpy()
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    if x.shape[1] == 1:
        axes.hist(points[:, 0], bins=100, density=True, color="#0072B2")
    else:
        # Many points overlap: small and translucent ones show the density.
        axes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.4, linewidths=0, color="#0072B2")
        axes.set_aspect("equal", adjustable="box" if reach else "datalim")
    if reach:
        axes.set_xlim(-reach, reach)
        if x.shape[1] > 1:
            axes.set_ylim(-reach, reach)
    figure.savefig(path, dpi=150, format="png")
