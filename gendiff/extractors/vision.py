"""Any network of timm as an extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from gendiff.extractors.base import to_uint8
from gendiff.extractors.weight_files import fitting, read_state


class Vision:
    """Features (B, 1, F) before the classifier, as the network pools them; no logits.

    Images are quantised, scaled to [0, 1], resized (bicubic, antialiased), and normalised by the
    mean and deviation that the network was trained with.

    Args:
        name: of a network in timm, ``ARCHITECTURE`` or ``ARCHITECTURE.TAG``; the tag decides the
            normalisation.
        weights: a file as timm publishes them, or one that timm can convert. A classifier in it
            is left out; all else must fit.
        size: height and width that the network sees, px.

    Raises:
        UserError: the file is damaged, holds more than tensors or does not fit.
    """

    def __init__(self, name: str, weights: Path, size: int = 224) -> None:
        self.size = size
        given = timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
        heads: Any = given.classifier or ()  # one, or several
        heads = (heads,) if isinstance(heads, str) else heads
        dropped = {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
        state = {n: t for n, t in read_state(weights).items() if n not in dropped}
        # No source but the tensors, so that nothing can be downloaded; without a classifier to
        # drop by itself, timm loads strictly.
        only: dict[str, Any] = {"classifier": None, "url": None, "hf_hub_id": None}
        with fitting(weights, name):
            only["state_dict"] = self.adapt(state)
            network: Any = timm.create_model(
                name,
                pretrained=True,
                pretrained_cfg_overlay=only,
                num_classes=0,
                img_size=size if given.fixed_input_size else None,
            )
        network.pretrained_cfg.pop("state_dict")  # a second copy of the weights
        self.network = network.eval().requires_grad_(False)
        self.mean = torch.tensor(given.mean).view(-1, 1, 1)
        self.std = torch.tensor(given.std).view(-1, 1, 1)

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors as timm is to convert them."""
        return state

    def preprocess(self, x: Tensor) -> Tensor:
        """What the network sees of images (B, C, H, W) in [-1, 1]: (B, 3, size, size)."""
        pixels = to_uint8(x).float() / 255
        resized = F.interpolate(pixels, (self.size, self.size), mode="bicubic", antialias=True)
        return (resized - self.mean) / self.std

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, None]:
        return self.network(self.preprocess(x))[:, None], None

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self
