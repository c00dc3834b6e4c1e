"""One update of one role: its loss on every part of the batch, and a step of its optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gendiff.optim import lr_factor, set_lr
from gendiff.seeding import Draws, block_size


def update(method: Any, role: str, batch: dict[str, Tensor]) -> None:
    """One optimizer step of a role on this process's part of a global batch.

    Its losses are left, averaged over the accumulated parts, in ``method.losses``.
    """
    optimizer: Any = method.optimizers()
    if isinstance(optimizer, list):
        optimizer = optimizer[method.learning.index(role)]
        for other in method.learning:  # no gradients for those whose turn it is not
            method.networks[other].requires_grad_(other == role)
    count = len(next(iter(batch.values())))
    part, world = count // method.accumulate, method.trainer.world_size
    block = block_size(count * world)
    parts: list[dict[str, Tensor]] = []
    drawn_for = (method.seed, method.stage, method.batches_done, role)
    for start in range(0, count, part):
        first = method.global_rank * count + start
        method.draw = Draws(drawn_for, first, part, block, method.device, count * world)
        losses = method.loss({k: v[start : start + part] for k, v in batch.items()}, role)
        method.manual_backward(losses["loss"] / method.accumulate)
        parts.append({name: value.detach() for name, value in losses.items()})
    if method.optim.clip_norm:
        nn.utils.clip_grad_norm_(method.networks[role].parameters(), method.optim.clip_norm)
    peak = method.optim.lr_by_role.get(role, method.optim.lr)
    set_lr(optimizer, peak * lr_factor(method.optim, method.batches_done, method.max_steps))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    prefix = f"{role}/" if len(method.learning) > 1 else ""
    for name in parts[0]:
        method.losses[prefix + name] = torch.stack([p[name] for p in parts]).mean()
