"""Published combinations of path, prediction, times and weight: each learns a known mixture.

The combinations are the rows of docs/training.md, so that page cannot say what does not work.
"""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from gendiff.build import build_method
from gendiff.config import compose
from gendiff.data.base import DataModule
from gendiff.data.toy import Mixture
from gendiff.metrics import energy_distance

DOCS = Path(__file__).parents[2] / "docs" / "training.md"
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in DOCS.read_text().split("\n")
    if line.startswith("| ") and "---" not in line and "path.name" not in line
]
STEPS = 220


@pytest.fixture(scope="module")
def truth():
    """Points of the mixture that no model has seen."""
    return Mixture.Config(), Mixture(Mixture.Config()).held_out.columns["x0"]


def train(path, prediction, times, weight, data, steps=STEPS, chain=None, callbacks=None, first=0):
    """A method after a short training."""
    settings = {"sigma_data": 0.7} if path == "trig" else {"steps": chain} if chain else {}
    run = compose(
        {
            "data": {"name": "mixture", "batch_size": 512},
            "networks": {"student": {"name": "mlp", "width": 96, "depth": 3}},
            "path": {"name": path, **settings},
            "method": {
                "name": "diffusion",
                "prediction": prediction,
                "times": times,
                "weight": weight,
                "sigma_data": 0.7,
            },
            "optim": {"lr": 3e-3, "warmup_steps": 20, "schedule": "cosine", "ema_decay": 0.98},
            "trainer": {"max_steps": steps},
        },
        "test",
    )
    method = build_method(run)
    method.batches_done = first
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(
        max_steps=-1,
        max_epochs=1,
        accelerator="cpu",
        callbacks=callbacks,
        enable_checkpointing=False,
        **quiet,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(method, DataModule(Mixture(data).train, 512))
    assert method.batches_done == steps
    return method


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row[1:]))
def test_published_combinations_learn(row, truth):
    data, points = truth
    method = train(*row[1:], data)
    out = method.sample(len(points), 40, sampler="ddim@vp.log_snr")
    # two sets of true samples are 0.000 +- 0.001 apart, and noise is 0.7 from the data
    assert energy_distance(out, points) < 0.035
    last = method.path.alpha(torch.tensor(method.path.t_max))
    if row[2] in ("eps", "score") and last < 1e-3:
        return  # errors of eps are blown up there: the page says how to sample then
    assert energy_distance(method.sample(len(points), 60), points) < 0.035


def test_the_documented_rows_are_all_there():
    assert len(ROWS) >= 12
    assert {row[3] for row in ROWS} == {
        "uniform",
        "antithetic",
        "log_snr",
        "log_normal",
        "logit_normal",
        "importance",
    }


class Keep(Callback):
    """Takes the state where checkpoints are taken: after a batch."""

    def __init__(self):
        self.states = {}

    def on_train_batch_end(self, trainer, method, *_):
        optimizer = method.optimizers().optimizer
        state = copy.deepcopy({"state": method.state_dict(), "optimizer": optimizer.state_dict()})
        self.states[method.batches_done] = state


class Restore(Callback):
    """Goes on from such a state."""

    def __init__(self, kept, batches_done):
        self.kept, self.batches_done = kept, batches_done

    def on_train_start(self, trainer, method):
        method.load_state_dict(self.kept["state"])
        method.optimizers().optimizer.load_state_dict(self.kept["optimizer"])


def test_a_history_of_losses_survives_a_stop(truth):
    """Times drawn by importance: a run resumed from its state ends with the same weights."""
    choice = ("discrete_cosine", "v", "importance", "simple", truth[0])
    settings = {"steps": 24, "chain": 8}
    keep = Keep()
    whole = train(*choice, callbacks=[keep], **settings)
    assert whole.importance.counts.eq(10).all()
    resumed = train(*choice, callbacks=[Restore(keep.states[15], 15)], first=15, **settings)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
