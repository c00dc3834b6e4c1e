"""Samples to a picture, an archive of arrays, or a folder of pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from gendiff.errors import UserError
from gendiff.report.grid import save_grid, save_points
from gendiff.storage import make_folder, user_errors, write_atomic


def check_output(path: Path) -> None:
    """
    Raises:
        UserError: the ending is none that samples can be saved as.
    """
    if path.suffix not in ("", ".png", ".npz"):
        raise UserError(f"-o: {path}: samples are saved as .png, as .npz or in a folder/.")


def save_samples(x: Tensor, path: Path, classes: int, labels: Tensor | None = None) -> None:
    """Save samples, (n, *shape).

    Args:
        path: ``grid.png`` (a row a class where n divides so), ``samples.npz`` (array ``x``, and
            ``label`` where there are labels), or a folder of numbered pictures.
        classes: 0 when the samples are of one class.
        labels: that they were asked for, (n,).
    """
    image = x.ndim == 4
    if path.suffix == ".npz":
        import numpy as np

        arrays: dict[str, Any] = {"x": x, **({} if labels is None else {"label": labels})}
        write_atomic(path, lambda file: np.savez(file, **{k: a.numpy() for k, a in arrays.items()}))
        return
    make_folder(path.parent if path.suffix else path)
    with user_errors(path):
        if not image:
            target = path if path.suffix else path / "scatter.png"
            write_atomic(target, lambda file: save_points(x, file))
        elif path.suffix == ".png":
            write_atomic(path, lambda file: save_grid(x, file, columns(len(x), classes)))
        else:
            for number, sample in enumerate(x):
                write = partial(save_grid, sample[None], columns=1)
                write_atomic(path / f"{number:06d}.png", write)


def training_picture(folder: Path, step: int) -> Path:
    """Where a stage's samples lie as a picture that were drawn after a step of its training."""
    return folder / "samples" / "training" / f"step-{step:07d}.png"


def columns(n: int, classes: int) -> int:
    """Columns of a grid: whole rows by class where n allows, else about square."""
    if classes and n % classes == 0:
        return n // classes
    return max(1, round(n**0.5))
