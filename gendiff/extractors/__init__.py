"""What samples are compared by: features of the data themselves, or of a network trained elsewhere.

Weights of such networks are files that the user has; nothing is downloaded, and no file's code is
run. Published figures correspond to these choices:

- FID (Heusel et al. 2017) and the Inception Score (Salimans et al. 2016): ``inception``.
- FD-DINOv2 (Stein et al. 2023): ``dinov2``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gendiff import registry
from gendiff.errors import UserError, did_you_mean

if TYPE_CHECKING:  # a config is checked without torch
    from gendiff.extractors.base import Extractor

TIMM = "timm/"
NAMES = tuple(name for name in registry.TABLE["extractors"] if not name.startswith(TIMM))
"""Beside ``timm/NAME``."""


def is_pretrained(name: str) -> bool:
    """Whether a name is that of a network trained elsewhere, and not of a stage."""
    return name in NAMES or name.startswith(TIMM)


def check_extractor(name: str, weights: str | None) -> None:
    """Whether a choice can be right; no file is looked for and no network built.

    Raises:
        UserError: an unknown name, a package that is not installed, or no weights; the message
            begins with the key at fault.
    """
    if not is_pretrained(name):
        hint = did_you_mean(name, [*NAMES, "timm/NAME"])
        raise UserError(f"evaluation.extractor: unknown extractor {name!r}.{hint}")
    if name == "inception" and find_spec("torch_fidelity") is None:
        raise UserError(
            "evaluation.extractor: inception needs torch-fidelity; "
            "pip install 'gendiff[inception]'."
        )
    if name.startswith(TIMM):
        _check_timm(name.removeprefix(TIMM))
    _check_given(name, weights)


def find_weights(weights: str | None) -> Path:
    """The file of an extractor's weights: needed to train or to measure, not to read a config.

    Raises:
        UserError: there is no such file.
    """
    path = Path(weights or "")
    if not path.is_file():
        raise UserError(f"evaluation.weights: {weights}: no such file.")
    return path


def make_extractor(name: str, weights: str | None) -> Extractor:
    """An extractor with weights from a file, on the CPU.

    Args:
        name: ``inception``, ``dinov2``, or ``timm/NAME`` for any network of timm.
        weights: .safetensors, or what ``torch.save`` wrote of a ``state_dict``.

    Raises:
        UserError: what `check_extractor` refuses, and a file that is missing, damaged, holds more
            than tensors or does not fit the network.
    """
    check_extractor(name, weights)
    path = find_weights(weights)
    if name.startswith(TIMM):
        make = partial(registry.lookup("extractors", f"{TIMM}NAME"), name.removeprefix(TIMM))
    else:
        make = registry.lookup("extractors", name)
    extractor: Extractor = make(path)
    return extractor


def check_perceptual(name: str, weights: str, shape: tuple[int, ...]) -> None:
    """Whether a perceptual term can be right, for samples of this shape; timm is not asked.

    Raises:
        UserError: no network of timm, no weights, or samples that are no images.
    """
    if not name.startswith(TIMM):
        raise UserError(f"method.perceptual.extractor: {name!r} must be timm/NAME.")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UserError(
            f"method.perceptual.weight: features are of images of 1 or 3 channels, not {shape}."
        )
    with keys_of("method.perceptual"):
        _check_given(name, weights or None)


@contextmanager
def keys_of(section: str) -> Iterator[None]:
    """Errors name the keys of another section than the evaluation's."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace("evaluation.", f"{section}.", 1)) from None


def _check_given(name: str, weights: str | None) -> None:
    if weights is None:
        raise UserError(
            f"evaluation.weights: {name} needs a file of weights, .safetensors or .pth; "
            "nothing is downloaded."
        )


def _check_timm(model: str) -> None:
    """Whether timm has a network of this name, with or without a tag of its weights."""
    import timm

    known = {*timm.list_models(include_tags=False), *timm.list_models(include_tags=True)}
    if model not in known:
        near = difflib.get_close_matches(model, known, n=1)  # all of them would fill the screen
        raise UserError(
            f"evaluation.extractor: timm has no model {model!r}.{did_you_mean(model, near)}"
        )
