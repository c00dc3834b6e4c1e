"""Every method goes on from a checkpoint to the same weights, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning.pytorch import Callback
from small import fit, make
from table import TRAINED


class Checkpoint(Callback):
    """Takes the state after some batch, or gives one back before the first."""

    def __init__(self, after=None, state=None):
        self.after, self.state = after, state

    def on_train_batch_end(self, trainer, method, *_):
        if method.batches_done == self.after:
            optimizers = [o.state_dict() for o in method.trainer.optimizers]
            self.state = copy.deepcopy({"method": method.state_dict(), "optimizers": optimizers})

    def on_train_start(self, trainer, method):
        if self.after is None:
            method.load_state_dict(self.state["method"])
            for optimizer, state in zip(trainer.optimizers, self.state["optimizers"], strict=True):
                optimizer.load_state_dict(state)


@pytest.mark.parametrize("case", TRAINED)
def test_a_resumed_run_ends_with_the_same_weights(case):
    whole, kept = make(case), Checkpoint(after=2)
    fit(whole, kept)
    resumed = make(case)
    resumed.batches_done = 2
    fit(resumed, Checkpoint(state=kept.state))
    ours = resumed.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in whole.state_dict().items())
    assert resumed.losses == whole.losses
