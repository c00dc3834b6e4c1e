"""What networks are told: each condition counts, none may be missing, and all is learned from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from told import ALL_CONDITIONS, BATCH, randomize, values
from torch import Tensor

from gendiff.networks.embeddings import Conditioning
from gendiff.networks.uvit import ConditionTokens


@pytest.mark.parametrize("kind", ["unet", "mlp", "dit", "uvit"])
@pytest.mark.parametrize("name", [*ALL_CONDITIONS, "noise_level"])
def test_each_condition_changes_the_output(small: Any, kind: str, name: str) -> None:
    network, x = small(kind, conditions=ALL_CONDITIONS)
    randomize(network)
    noise_level, cond = torch.full((BATCH,), 0.5), values(ALL_CONDITIONS)
    before = network(x, noise_level, cond)
    if name == "noise_level":
        after = network(x, noise_level + 0.1, cond)
    else:
        other = (cond["label"] + 1) % 10 if name == "label" else cond[name] + 0.5
        after = network(x, noise_level, {**cond, name: other})
    assert (after - before).flatten(1).abs().amax(1).min() > 1e-7  # 0 where it has no effect


@pytest.mark.parametrize("kind", ["unet", "mlp", "dit", "uvit"])
def test_time_scale_is_a_factor_on_both_times(small: Any, kind: str) -> None:
    """Not on guidance; and derivatives in time shrink by it."""
    conditions = {"second_time": 1, "guidance": 1}
    found = []
    for settings, faster in (({}, 1), ({"time_scale": 10.0}, 100)):
        network, x = small(kind, conditions=conditions, **settings)
        torch.manual_seed(1)
        randomize(network.double())
        t, s, g = torch.rand(3, BATCH).double()

        def by_times(t: Tensor, s: Tensor) -> Tensor:
            return network(x.double(), t, {"second_time": s, "guidance": g})  # noqa: B023

        out, slopes = by_times(faster * t, faster * s), []
        for one, other in ((1, 0), (0, 1)):
            turned = (one * torch.ones_like(t), other * torch.ones_like(t))
            result: Any = torch.func.jvp(by_times, (faster * t, faster * s), turned)
            slopes.append(faster * result[1])
        found.append((out, *slopes))
    assert all(slope.abs().max() > 1e-6 for slope in found[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", ["unet", "dit", "uvit"])
def test_null_label_is_a_missing_label(small: Any, kind: str) -> None:
    network, x = small(kind, conditions={"label": 10})
    randomize(network)
    noise_level = torch.rand(BATCH)
    null = network(x, noise_level, {"label": torch.full((BATCH,), 10)})
    assert torch.equal(null, network(x, noise_level, {}))
    assert not torch.equal(null, network(x, noise_level, {"label": torch.full((BATCH,), 9)}))


@pytest.mark.parametrize("embedding", [Conditioning, ConditionTokens])
@pytest.mark.parametrize("name", ["z", "second_time", "guidance"])
def test_a_missing_condition_is_an_error(embedding: Any, name: str) -> None:
    network = embedding(8, ALL_CONDITIONS)
    cond = values(ALL_CONDITIONS)
    del cond[name]
    with pytest.raises(ValueError, match=f"^{name}: the network needs"):
        network(torch.rand(BATCH), cond)


@pytest.mark.parametrize(
    ("kind", "first"), [("unet", "input"), ("dit", "patches.proj"), ("uvit", "patches.proj")]
)
def test_start_at_zero_and_learning_with_all_parameters(small: Any, kind: str, first: str) -> None:
    network, x = small(kind, conditions=ALL_CONDITIONS)
    noise_level, cond = torch.rand(BATCH), values(ALL_CONDITIONS)
    assert torch.all(network(x, noise_level, cond) == 0) == (kind != "uvit")
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for step in range(3):  # zero layers open one after the other: output, blocks, inside of blocks
        optimizer.zero_grad()
        torch.autograd.backward((network(x, noise_level, cond) - x).square().mean())
        if step == 1:
            grad = network.get_submodule(first).weight.grad
            assert grad is not None
            assert grad.abs().sum() > 0
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
