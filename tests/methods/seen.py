"""What a rank sees of a run: losses, and all that must not depend on how many ranks there are."""

from __future__ import annotations

import copy
from collections import defaultdict

import torch
from lightning.pytorch import Callback

from gendiff.methods import flow, update
from gendiff.seeding import Draws, sample_noise


class Seen(Callback):
    """Losses of every batch; sample indices, random numbers and what networks are told of time.

    Args:
        double: draw the same numbers as float64, and take data and networks as such.
        keep: batches after which state and optimizers are kept.
        go_on: what another one kept, to start from.
    """

    def __init__(self, double=False, keep=None, go_on=None):
        self.double, self.keep, self.go_on, self.kept = double, keep, go_on, None
        self.losses, self.hooks = [], []
        self.drawn, self.told = defaultdict(list), defaultdict(list)
        """(batch, what, number of the draw in its part) -> (place of the first sample, numbers)."""

    def on_fit_start(self, trainer, method):
        if self.go_on is not None:
            method.batches_done = self.go_on["batches_done"]

    def on_train_start(self, trainer, method):
        if self.go_on is not None:
            method.load_state_dict(self.go_on["state"])
            for optimizer, state in zip(trainer.optimizers, self.go_on["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        update.Draws = self.recording()
        if self.double:
            flow.sample_noise = lambda *what: lambda step: sample_noise(*what)(step).double()
        for role, network in method.networks.items():
            self.hooks.append(network.register_forward_pre_hook(self.listener(method, role)))

    def on_train_end(self, trainer, method):
        update.Draws, flow.sample_noise = Draws, sample_noise
        for hook in self.hooks:
            hook.remove()

    def on_train_batch_start(self, trainer, method, batch, number):
        count = len(batch["index"])
        note = method.batches_done, "index", 0
        self.drawn[note].append((method.global_rank * count, batch["index"].clone()))
        if self.double:
            batch |= {name: x.double() for name, x in batch.items() if x.is_floating_point()}

    def on_train_batch_end(self, trainer, method, outputs, batch, number):
        self.losses.append({name: float(value) for name, value in method.losses.items()})
        if method.batches_done == self.keep:
            optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
            kept = {"state": method.state_dict(), "optimizers": optimizers}
            self.kept = copy.deepcopy({**kept, "batches_done": method.batches_done})

    def recording(self):
        """`Draws` that are noted here."""
        seen = self

        class Recorded(Draws):
            def noted(self, numbers):
                self.calls = getattr(self, "calls", 0) + 1
                _, _, batch, role = self.parts
                seen.drawn[batch, role, self.calls].append((self.first, numbers.clone()))
                return numbers.double() if seen.double else numbers

            def _blocks(self, *what):
                return self.noted(super()._blocks(*what))

            def antithetic(self):
                return self.noted(super().antithetic())

        return Recorded

    def listener(self, method, role):
        def told(network, args):
            level = args[1].detach().clone() if len(args) > 1 else torch.empty(0)
            while torch._C._functorch.is_functorch_wrapped_tensor(level):  # within a derivative
                level = torch._C._functorch.get_unwrapped(level)
            self.told[method.batches_done, role, 0].append((0, level))

        return told


def gathered(ranks):
    """(drawn, told) of all ranks: draws in the order of the samples, levels from low to high."""
    drawn, told = (defaultdict(list) for _ in range(2))
    for mine in ranks:
        for all_of_it, part in zip((drawn, told), mine, strict=True):
            for note, numbers in part.items():
                all_of_it[note] += numbers
    in_order = {
        note: torch.cat([numbers for _, numbers in sorted(parts, key=lambda part: part[0])])
        for note, parts in drawn.items()
    }
    levels = {note: torch.cat([x.float() for _, x in parts]) for note, parts in told.items()}
    return in_order, {note: values.sort().values for note, values in levels.items()}
