"""Classifier of stacked digits: one digit classifier looks at each channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gendiff.networks.classifier import Classifier, ClassifierConfig

_DIGITS = 10


@dataclass(frozen=True)
class StackedClassifierConfig:
    """Settings of the ensemble of digit classifiers."""

    name: str = "stacked_classifier"
    """Registry key."""
    members: int = 4
    """Independent classifiers in the ensemble."""
    channels: int = 24
    """Width of the first convolution of a member; the later ones have twice as many."""
    features: int = 64
    """Features of a member for one digit."""
    dropout: float = 0.1
    """Probability that a feature is dropped before the last layer."""


class StackedClassifier(nn.Module):
    """Ensemble that tells which of ten digits each of three channels shows: 1000 modes.

    A mode's logit is the sum of its digits' log-probabilities. So they are log-probabilities
    themselves, and the cross-entropy of the mode 100 a + 10 b + c is the sum of those of the three
    digits.

    Args:
        config: the settings.
        shape: (3, H, W) of one input, with H and W from 8 to 32 pixels.
        out_channels: not used; it is there so that all networks are built alike.

    Raises:
        ValueError: from `check`.
    """

    Config = StackedClassifierConfig

    def __init__(
        self,
        config: StackedClassifierConfig,
        shape: tuple[int, ...],
        out_channels: int | None = None,
    ):
        super().__init__()
        self.check(config, shape)
        self.digit = Classifier(_of_one(config), (1, *shape[1:]))

    @staticmethod
    def check(config: StackedClassifierConfig, shape: tuple[int, ...]) -> None:
        """Check the settings against the shape of one input, without building anything.

        Raises:
            ValueError: one line naming the key that is wrong.
        """
        if len(shape) != 3 or shape[0] != 3 or not all(8 <= side <= 32 for side in shape[1:]):
            raise ValueError(
                "name: stacked_classifier takes 3 channels of 8 to 32 pixels, not shape "
                f"{tuple(shape)}"
            )
        Classifier.check(_of_one(config), (1, *shape[1:]))

    def features(self, x: Tensor) -> Tensor:
        """The digits' features side by side: (B, 3, H, W) -> (B, members, 3 features)."""
        features = self.digit.features(_apart(x)).unflatten(0, (len(x), 3))
        return features.transpose(1, 2).flatten(2)

    def forward(
        self,
        x: Tensor,
        noise_level: Tensor | None = None,
        cond: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Log-probabilities of all modes, (B, 3, H, W) in [-1, 1] -> (B, members, 1000).

        The noise level and the conditions are not used: the classifiers are for data.
        """
        digits = self.digit(_apart(x)).log_softmax(-1).unflatten(0, (len(x), 3))
        a, b, c = digits.unbind(1)
        return (a[..., :, None, None] + b[..., None, :, None] + c[..., None, None, :]).flatten(2)


def _of_one(config: StackedClassifierConfig) -> ClassifierConfig:
    """The settings of the classifier of one channel."""
    return ClassifierConfig(
        members=config.members,
        channels=config.channels,
        features=config.features,
        classes=_DIGITS,
        dropout=config.dropout,
    )


def _apart(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (3 B, 1, H, W)."""
    return x.flatten(0, 1)[:, None]
