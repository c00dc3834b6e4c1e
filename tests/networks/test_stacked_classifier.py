"""The classifier of stacked digits: its modes are its digits, channel by channel."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gendiff.build import build_method
from gendiff.config import compose
from gendiff.errors import UserError
from gendiff.networks.stacked_classifier import StackedClassifier, StackedClassifierConfig

SMALL = {"members": 2, "channels": 4, "features": 7}


@pytest.fixture(params=[8, 32])
def network(request):
    config = StackedClassifierConfig(**SMALL)
    return StackedClassifier(config, (3, request.param, request.param)).eval()


def images(network, n=5):
    side = 8 if len(network.digit.convs) == 2 else 32
    return torch.randn(n, 3, side, side)


def test_logits_are_sums_of_the_digits_log_probabilities(network):
    x = images(network)
    logits = network(x, torch.zeros(5), {})
    assert logits.shape == (5, 2, 1000)
    digits = [network.digit(x[:, i : i + 1]).log_softmax(-1) for i in range(3)]
    for a, b, c in [(0, 0, 0), (9, 9, 9), (1, 2, 3), (7, 0, 4), (0, 8, 1)]:
        expected = digits[0][..., a] + digits[1][..., b] + digits[2][..., c]
        torch.testing.assert_close(logits[..., 100 * a + 10 * b + c], expected)
    torch.testing.assert_close(logits.logsumexp(-1), torch.zeros(5, 2), rtol=0, atol=1e-5)


def test_cross_entropy_of_a_mode_is_that_of_its_digits(network):
    x, digits = images(network), torch.randint(10, (5, 3))
    whole = F.cross_entropy(network(x)[:, 1], digits @ torch.tensor([100, 10, 1]))
    own = network.digit(x.view(15, 1, *x.shape[2:]))[:, 1]
    torch.testing.assert_close(whole, 3 * F.cross_entropy(own, digits.flatten()))


def test_features_are_the_digits_side_by_side(network):
    x = images(network)
    features = network.features(x)
    assert features.shape == (5, 2, 21)
    for i in range(3):
        own = network.digit.features(x[:, i : i + 1])
        torch.testing.assert_close(features[..., 7 * i : 7 * i + 7], own)


@pytest.mark.parametrize(
    ("settings", "shape", "line"),
    [
        (
            {},
            (2,),
            r"name: stacked_classifier takes 3 channels of 8 to 32 pixels, not shape \(2,\)",
        ),
        ({}, (1, 8, 8), "name: stacked_classifier takes 3 channels"),
        ({}, (3, 7, 8), "name: stacked_classifier takes 3 channels"),
        ({}, (3, 8, 33), "name: stacked_classifier takes 3 channels"),
        ({"members": 0}, (3, 8, 8), "members: "),
        ({"channels": 0}, (3, 8, 8), "channels: "),
        ({"features": 0}, (3, 8, 8), "features: "),
        ({"dropout": 1.0}, (3, 8, 8), "dropout: "),
    ],
)
def test_check(settings, shape, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        StackedClassifier(StackedClassifierConfig(**settings), shape)


RUN = {
    "data": {"name": "stackeddigits", "samples": 64, "held_out": 32},
    "networks": {"student": {"name": "stacked_classifier", **SMALL, "dropout": 0.0}},
    "method": {"name": "classifier"},
}


def test_an_evaluator_is_composed_and_extracts():
    method = build_method(compose(RUN, "here")).eval()
    features, logits = method.features(torch.randn(4, 3, 8, 8))
    assert (features.shape, logits.shape) == ((4, 2, 21), (4, 2, 1000))


def test_digits_have_too_few_channels():
    with pytest.raises(UserError, match=r"networks\.student\.name: stacked_classifier takes 3"):
        compose({**RUN, "data": {"name": "digits"}}, "here")
