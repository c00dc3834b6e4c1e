"""Seeding: numbers depend on what they are for and on the sample's place, on nothing else."""

from __future__ import annotations

import pytest
import torch

from gendiff.seeding import MAX_BLOCKS, Draws, block_size, key, reseed

PARTS = (0, "stage", 7, "student")


def numbers(first, count, block=4):
    """One of each kind, in the order a loss might draw them."""
    draw = Draws(PARTS, first, count, block)
    return [
        draw.normal(3),
        draw.uniform(),
        draw.integers(1, 100),
        draw.normal(2, 2, dtype=torch.float64),
    ]


@pytest.mark.parametrize("cuts", [(16, 16), (8, 8, 8, 8), (4, 20, 8), (4,) * 8])
def test_numbers_do_not_depend_on_the_split(cuts):
    """Over ranks, or over accumulated parts."""
    firsts = [sum(cuts[:i]) for i in range(len(cuts))]
    parts = [numbers(first, count) for first, count in zip(firsts, cuts, strict=True)]
    for whole, *pieces in zip(numbers(0, 32), *parts, strict=True):
        assert whole.equal(torch.cat(pieces))


@pytest.mark.parametrize("count", [1, 6, 17])
def test_short_last_block_sees_the_same_numbers(count):
    for short, whole in zip(numbers(16, count, 16), numbers(16, 32, 16), strict=True):
        assert short.equal(whole[:count])


def test_first_sample_must_begin_a_block():
    with pytest.raises(ValueError, match="first sample 6 is not a multiple of the block 4"):
        numbers(6, 4)


def test_nothing_repeats():
    """Over batches, roles, blocks and calls: 10^5 draws."""
    drawn = []
    for batch in range(25):
        for role in ("critic", "generator"):
            draw = Draws((0, "stage", batch, role), 0, 100, 4)
            drawn += [draw.uniform(10, dtype=torch.float64) for _ in range(2)]
    assert torch.cat(drawn).unique().numel() == 100_000


def test_moments_across_blocks():
    """Numbers of different blocks are independent, as far as their averages tell."""
    x = Draws(PARTS, 0, 20_000, 2).normal(2).reshape(-1, 4)
    torch.testing.assert_close(x.T.cov(), torch.eye(4), rtol=0, atol=0.06)
    torch.testing.assert_close(x.mean(0), torch.zeros(4), rtol=0, atol=0.04)


def test_integers_fill_their_range_evenly():
    counts = torch.bincount(Draws(PARTS, 0, 70_000, 1000).integers(3, 10), minlength=11)
    assert counts[:3].sum() == counts[10:].sum() == 0
    # chi-squared of 6 degrees of freedom: 22.5 is the 0.999 quantile
    assert ((counts[3:10] - 10_000).square() / 10_000).sum() < 22.5


def test_block_size_divides_the_batch():
    for batch in range(1, 1000):
        assert batch % block_size(batch) == 0
    assert 512 // block_size(512) == MAX_BLOCKS


def test_key_is_fixed_and_keeps_parts_apart():
    # stored splits and finished runs rest on this number
    assert key("digits", "halves") == 6_047_355_278_037_904_780
    assert key("ab", "c") != key("a", "bc") != key("abc")
    assert all(0 <= key(i) < 2**63 for i in range(200))


def test_reseed_sets_the_global_generator():
    draws = []
    for seed in (5, 5, 6):
        reseed(seed, torch.device("cpu"))
        draws.append(torch.rand(4))
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])
