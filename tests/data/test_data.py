"""Data sets, and the order of their rows as a function of (seed, stage, batch)."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils.data import DataLoader

from gendiff.data.base import GlobalBatches, Rows, collate
from gendiff.data.digits import Digits, DigitsConfig
from gendiff.data.toy import GaussianMixture, Mixture, MixtureConfig

SAMPLES, BATCH = 50, 12


def order(first=0, last=25, **settings):
    defaults = {"seed": 0, "stage": "a"}
    return list(GlobalBatches(SAMPLES, BATCH, first, last, **{**defaults, **settings}))


@pytest.mark.parametrize("world", [2, 3, 12])
def test_ranks_share_the_single_ranks_batches(world):
    ranks = [order(rank=rank, world_size=world) for rank in range(world)]
    joined = [[*chain(*parts)] for parts in zip(*ranks, strict=True)]
    assert joined == order()


def test_each_epoch_is_a_permutation_of_its_own():
    rows = [*chain(*order())]
    epochs = [rows[i : i + SAMPLES] for i in range(0, len(rows), SAMPLES)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(SAMPLES))] * 6
    assert len({tuple(epoch) for epoch in epochs}) == 6


@pytest.mark.parametrize("first", [1, 4, 17, 25])
def test_starting_late_is_skipping(first):
    assert order(first) == order()[first:]
    assert len(GlobalBatches(SAMPLES, BATCH, first, 25, 0, "a")) == 25 - first


def test_batches_larger_than_the_data():
    batches = list(GlobalBatches(5, 12, 0, 5, 0, "a"))
    assert [len(batch) for batch in batches] == [12] * 5
    assert torch.bincount(torch.tensor([*chain(*batches)])).tolist() == [12] * 5


@pytest.mark.parametrize("change", [{"seed": 1}, {"stage": "b"}])
def test_order_depends_on_seed_and_stage(change):
    assert order() != order(**change)


@pytest.fixture(scope="module")
def digits():
    return Digits(DigitsConfig())


def test_digits_halves(digits):
    train, held_out = digits.train.columns, digits.held_out.columns
    assert (len(digits.train), len(digits.held_out)) == (898, 899)
    images = torch.cat([train["x0"], held_out["x0"]])
    assert images.shape[1:] == DigitsConfig().shape
    assert (images.min(), images.max()) == (-1, 1)
    assert torch.cat([train["label"], held_out["label"]]).unique().tolist() == [*range(10)]
    # no image is in both, and together they are all
    assert len(images.flatten(1).unique(dim=0)) == 1797
    # rows and labels have stayed together: this split is part of the data
    assert train["label"][:12].tolist() == [0, 6, 3, 9, 7, 9, 1, 8, 1, 9, 1, 5]
    assert held_out["label"][:12].tolist() == [9, 0, 1, 0, 7, 6, 8, 5, 4, 7, 0, 1]


@pytest.mark.parametrize("indices", [[0], [5, 3, 3, 897]])
def test_rows_come_whole_or_one_by_one(digits, indices):
    whole = digits.train.__getitems__(indices)
    stacked = collate([digits.train[i] for i in indices])
    assert whole.keys() == stacked.keys() == {"x0", "label", "index"}
    for name in whole:
        assert whole[name].equal(stacked[name])


def test_loader_takes_whole_batches(digits):
    sampler = GlobalBatches(len(digits.train), 8, 0, 2, 0, "a")
    batches = list(DataLoader(digits.train, batch_sampler=sampler, collate_fn=collate))
    assert [batch["index"].tolist() for batch in batches] == list(sampler)
    assert batches[0]["x0"].shape == (8, 1, 8, 8)


def test_mixture_data(gm2):
    config = MixtureConfig(samples=4000, held_out=1000)
    data = Mixture(config)
    assert (len(data.train), len(data.held_out)) == (4000, 1000)
    assert config.shape == (2,)
    points, labels = data.train.columns["x0"], data.train.columns["label"]
    for k in range(config.classes):
        own = points[labels == k].double()
        assert len(own) / 4000 == pytest.approx(gm2.weights[k].item(), abs=0.03)
        torch.testing.assert_close(own.mean(0), gm2.means[k], rtol=0, atol=0.03)
        torch.testing.assert_close(
            own.std(0), gm2.stds[k].expand(2), rtol=0.1, atol=0, check_dtype=False
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [[0.0], [1.0]], [1.0]), "must be"),
        (([1.0], [0.0], [1.0]), "must be"),
        (([-1.0], [[0.0]], [1.0]), "positive"),
        (([1.0], [[0.0]], [0.0]), "positive"),
    ],
)
def test_impossible_mixtures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


def test_rows_slice_like_tensors():
    rows = Rows(x0=torch.arange(6.0))
    assert len(rows) == 6
    assert rows[4]["x0"] == 4
    assert rows[4]["index"] == 4
