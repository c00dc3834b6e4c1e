"""The Inception network of 2015, through which FID and the Inception Score are defined."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gendiff.extractors.base import to_uint8
from gendiff.extractors.weight_files import fitting, read_state
from gendiff.papers import Paper, cites

INCEPTION = Paper(
    "Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
    "Rethinking the Inception Architecture for Computer Vision",
    "CVPR",
    2016,
)


@cites(INCEPTION)
class Inception:
    """Features (B, 1, 2048) of FID (Heusel et al. 2017), and logits (B, 1, 1008).

    The network is torch-fidelity's ``FeatureExtractorInceptionV3``, its logits without bias, as
    the Inception Score (Salimans et al. 2016) takes them. It resizes to 299 px as TensorFlow 1 did.

    Args:
        weights: those ported from TensorFlow's graph of 2015-12-05, which published figures are
            computed with: ``weights-inception-2015-12-05-6726825d.pth`` of torch-fidelity's
            releases, named ``pt_inception-2015-12-05-6726825d.pth`` elsewhere; the last part is
            how its SHA-256 begins. torchvision's own Inception weights are others.

    Raises:
        UserError: the file is damaged, holds more than tensors or does not fit.
    """

    def __init__(self, weights: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import (
            FeatureExtractorInceptionV3,
        )

        # The constructor unpickles what it is given: a copy in memory of tensors read safely.
        copy = io.BytesIO()
        torch.save(read_state(weights), copy)
        copy.seek(0)
        with fitting(weights, "inception"):
            self.network = FeatureExtractorInceptionV3(
                "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=copy
            )

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.network(to_uint8(x))
        return features[:, None], logits[:, None]

    def to(self, device: torch.device | str) -> Self:
        self.network.to(device)
        return self
