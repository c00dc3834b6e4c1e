"""What a critic and a generator play for, and what keeps the critic smooth.

Logits of a critic are (B,), one a sample. Shared by all methods that have a critic, and told by
name in their configs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Judge = Callable[[Tensor], Tensor]
"""A critic as a function of what it judges, (B, ...) -> (B,)."""

Objective = Literal["non_saturating", "hinge", "least_squares", "wasserstein"]


class Game(NamedTuple):
    """Losses of logits: the critic's on real and on generated samples, and the generator's."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


GAMES: dict[str, Game] = {
    # Goodfellow et al. 2014, Section 3: log D, with the generator's gradient that does not vanish
    "non_saturating": Game(
        lambda d: F.softplus(-d), lambda d: F.softplus(d), lambda d: F.softplus(-d)
    ),
    # Lim & Ye 2017; Miyato et al. 2018, Eq. 16 and 17
    "hinge": Game(lambda d: F.relu(1 - d), lambda d: F.relu(1 + d), lambda d: -d),
    # Mao et al. 2017, with 1 for real and 0 for generated
    "least_squares": Game(
        lambda d: (d - 1).square() / 2, lambda d: d.square() / 2, lambda d: (d - 1).square() / 2
    ),
    # Arjovsky et al. 2017; the critic has to be kept Lipschitz
    "wasserstein": Game(lambda d: -d, lambda d: d, lambda d: -d),
}


def slopes(logits: Tensor, x: Tensor) -> Tensor:
    """Squared norm of the critic's gradient at each of x, (B,); it can be learned from.

    Half its mean at real samples is R1, at generated ones R2: Mescheder, Geiger & Nowozin 2018,
    "Which Training Methods for GANs do actually Converge?", Eq. 9.
    """
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1)


def gradient_penalty(judge: Judge, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean of (|dD/dx| - 1)^2 between real and generated samples, of which ``share``, (B,), real.

    Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", Eq. 3.
    """
    share = share.view(-1, *[1] * (real.ndim - 1))
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    return ((slopes(judge(between), between) + 1e-12).sqrt() - 1).square().mean()


def control(real: Tensor, fake: Tensor) -> Tensor:
    """Half the mean square of all logits: a feedback that drives the critic back to 0.

    After Xu et al. 2020, "Understanding and Stabilizing GANs' Training Dynamics Using Control
    Theory"; they take old samples for it, here it is the present batch.
    """
    return (real.square().mean() + fake.square().mean()) / 2
