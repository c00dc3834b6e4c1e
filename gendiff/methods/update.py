"""One update of one role: its loss on every part of the batch, and a step of its optimizer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from gendiff.errors import UserError
from gendiff.optim import lr_factor, set_lr
from gendiff.seeding import Draws, block_size
from gendiff.sharding import Sharded, whole

HELP = "the last checkpoint is untouched. A smaller optim.lr or optim.clip_norm usually helps."


def update(method: Any, role: str, batch: dict[str, Tensor]) -> None:
    """One optimizer step of a role on this process's part of a global batch.

    Its losses are left, averaged over the accumulated parts, in ``method.losses``. Gradients that
    are not finite skip the step, which ``method.skipped`` counts.
    """
    optimizer: Any = method.optimizers()
    index = method.learning.index(role)
    if isinstance(optimizer, list):
        optimizer = optimizer[index]
        for other in method.learning:  # no gradients for those whose turn it is not
            method.networks[other].requires_grad_(other == role)
    count = len(next(iter(batch.values())))
    part, world = count // method.accumulate, method.trainer.world_size
    block = block_size(count * world)
    parts: list[dict[str, Tensor]] = []
    drawn_for = (method.seed, method.stage, method.batches_done, role)
    strategy = method.trainer.strategy
    ddp = isinstance(strategy, DDPStrategy)
    with strategy.block_backward_sync() if ddp else nullcontext():
        for start in range(0, count, part):
            first = method.global_rank * count + start
            method.draw = Draws(drawn_for, first, part, block, method.device, count * world)
            losses = method.loss({k: v[start : start + part] for k, v in batch.items()}, role)
            method.manual_backward(losses["loss"] / method.accumulate)
            parts.append({name: value.detach() for name, value in losses.items()})
    parameters = list(method.networks[role].parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    if ddp and world > 1 and not isinstance(strategy, Sharded):
        average(gradients, world)
    norm = whole(nn.utils.get_total_norm(gradients))  # over all shares, where there are any
    if method.optim.clip_norm:
        nn.utils.clip_grads_with_norm_(parameters, method.optim.clip_norm, norm)
    peak = method.optim.lr_by_role.get(role, method.optim.lr)
    set_lr(optimizer, peak * lr_factor(method.optim, method.batches_done, method.max_steps))
    step_if_finite(optimizer, norm, method.skipped[index])
    optimizer.zero_grad(set_to_none=True)
    prefix = f"{role}/" if len(method.learning) > 1 else ""
    for name in parts[0]:
        method.losses[prefix + name] = torch.stack([p[name] for p in parts]).mean()


def average(gradients: list[Tensor], world: int) -> None:
    """Average a role's gradients over the ranks, in one message once all parts are in.

    DDP's own reducer waits, in every backward pass, for all parameters of the method; here roles
    take turns and a batch has several passes.
    """
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)  # gloo has no mean
    sizes = [gradient.numel() for gradient in gradients]
    means = zip(gradients, (flat / world).split(sizes), strict=True)
    torch._foreach_copy_(gradients, [mean.view_as(gradient) for gradient, mean in means])


def step_if_finite(optimizer: Any, norm: Tensor, skipped: Tensor) -> None:
    """Step, unless the gradients' total norm says that one of them is not finite.

    The verdict is the same on all ranks, as their gradients are; it stays on the device, where
    fused kernels leave weights, moments and step count alone if ``found_inf`` is 1.

    Args:
        optimizer: Lightning's wrapper of it.
        norm: total norm of the gradients, a scalar.
        skipped: the role's counts, in a row and in total, (2,); changed in place.
    """
    bad, inner = ~norm.isfinite(), optimizer.optimizer
    if inner.defaults.get("fused"):
        inner.found_inf = bad.float()
        optimizer.step()
    elif not bad:  # RAdam has no fused kernel: the host has to wait
        optimizer.step()
    skipped.add_(bad)[0].mul_(bad)


def skipping(method: Any, limit: int) -> dict[str, int]:
    """Roles whose last update was skipped, and how many were in a row.

    Raises:
        UserError: they are ``limit`` or more, unless that is 0; or half of all batches.
    """
    rows = zip(method.learning, method.skipped[:, 0].tolist(), strict=True)
    skipped = {role: row for role, row in rows if row}
    limit = min(limit, -(-method.max_steps // 2))  # a short run is not done untrained
    for role, row in skipped.items():
        if 0 < limit <= row:
            raise UserError(
                f"{method.stage}: the last {row} updates of {role} were skipped by step "
                f"{method.batches_done}, as gradients were not finite (trainer.skip_limit); {HELP}"
            )
    return skipped
