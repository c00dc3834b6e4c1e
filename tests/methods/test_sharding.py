"""Two processes that share a network out train as one that holds it, and hold half of it each."""

from __future__ import annotations

import copy
import os
import socket
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.multiprocessing as mp
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback
from small import fit, make, poison
from table import config_of
from torch import nn
from torch.distributed.tensor import DTensor

from gendiff.denoiser import Denoiser, network_of
from gendiff.networks.dit import DiT, DiTConfig
from gendiff.networks.mlp import MLP, MLPConfig
from gendiff.networks.unet import UNet, UNetConfig
from gendiff.networks.uvit import UViT, UViTConfig
from gendiff.optim import OptimConfig, make_optimizer
from gendiff.paths import VP
from gendiff.ranks import joined
from gendiff.sharding import Sharded, blocks, gathered, mine, restore

STEPS, FEW = 20, 4
CONFIGS = {
    MLP: MLPConfig(width=16, depth=2, conditions={"label": 3}),
    UNet: UNetConfig(channels=16, multipliers=[1], conditions={"label": 3}),
    DiT: DiTConfig(width=16, depth=1, heads=2, conditions={"label": 3}),
}
CUT = {
    UNet: UNetConfig(channels=8, multipliers=[1, 2]),
    DiT: DiTConfig(width=8, depth=3, heads=1),
    UViT: UViTConfig(width=8, depth=3, heads=1),
}


def small(method, cls=MLP, **settings):
    """A method for labelled images of one channel, or for points."""
    shape, out = ((2,), 2) if cls is MLP else ((1, 8, 8), 1)
    config = config_of(method)
    if method == "flow":
        config = replace(config, straightness_every=10)
    torch.manual_seed(0)
    student, teacher = (cls(CONFIGS[cls], shape, out) for _ in range(2))
    if method == "online_reflow":
        settings["frozen"] = {"teacher": Denoiser(teacher, VP(), "v")}
    networks = {"student": student}
    return make(method, config=config, networks=networks, shape=shape, classes=3, **settings)


def spoilt(batches, **settings):
    method = small("diffusion", **settings)
    poison(method, "student", batches)
    return method


CASES = {
    "clipped": partial(small, "diffusion", clip=0.3, accumulate=2, max_steps=STEPS),
    "unet": partial(small, "diffusion", UNet, name="adamw", clip=0.3, max_steps=STEPS),
    "dit": partial(small, "flow", DiT, max_steps=STEPS),
    "teacher": partial(small, "online_reflow", max_steps=FEW),
    "nan": partial(spoilt, {1, 2}, clip=0.5, accumulate=2, max_steps=FEW),
    "nan radam": partial(spoilt, {0, 3}, name="radam", clip=0.5, max_steps=FEW),
    "bf16": partial(small, "diffusion", DiT, max_steps=FEW),
}


class Losses(Callback):
    """Those of every batch on this rank, and how much of the networks it holds meanwhile."""

    def __init__(self):
        self.all = []

    def on_train_batch_end(self, trainer, method, *rest):
        self.all.append({name: float(value) for name, value in method.losses.items()})
        frozen = {role: network_of(module) for role, module in method.frozen_roles.items()}
        networks = {**method.networks, **method.averaged, **frozen}
        self.held = {role: held(network.parameters()) for role, network in networks.items()}
        moments = [v for s in trainer.optimizers[0].state.values() for v in s.values() if v.dim()]
        self.held["moments"] = held(moments)


def held(tensors):
    """Numbers on this rank, and in all."""
    tensors = list(tensors)
    assert all(isinstance(tensor, DTensor) for tensor in tensors)
    return sum(mine(t).numel() for t in tensors), sum(t.numel() for t in tensors)


class Plain(Losses):
    def on_train_batch_end(self, trainer, method, *rest):
        self.all.append({name: float(value) for name, value in method.losses.items()})


def train(case, losses, **settings):
    """What came of a case: losses, weights and the optimizer's state."""
    precision = "bf16-mixed" if case == "bf16" else "32-true"
    method = CASES[case]()
    moments = fit(method, losses, precision=precision, **settings)
    return {"losses": losses.all, **gathered({"state": method.state_dict(), "moments": moments})}


def work(rank, port, folder):
    """Train all cases on this rank of two; what came of them is saved."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    found = {}
    with joined(minutes=1):
        for case in CASES:
            losses = Losses()
            settings = {"strategy": Sharded(), "devices": 2}
            found[case] = train(case, losses, plugins=[TorchElasticEnvironment()], **settings)
            found[case]["held"] = losses.held
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What came of all cases on each rank of two."""
    folder = tmp_path_factory.mktemp("shares")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mp.start_processes(work, (port, folder), 2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_shares_train_as_the_whole(case, found):
    one, other = (results[case] for results in found)
    alone = train(case, Plain())
    exact = {"rtol": 1e-6, "atol": 0} if case != "bf16" else {"rtol": 0.02, "atol": 0}
    for batch, wanted in enumerate(alone["losses"]):
        losses = [rank["losses"][batch] for rank in (one, other)]
        assert losses[0].keys() == wanted.keys()
        means = {name: (value + losses[1][name]) / 2 for name, value in losses[0].items()}
        torch.testing.assert_close(means, wanted, equal_nan=True, **exact)
    near = 5e-5 if case != "bf16" else 2e-2
    torch.testing.assert_close(one["moments"], alone["moments"], rtol=0, atol=5 * near)
    assert [*one["state"]] == [*alone["state"]]
    for name, value in alone["state"].items():
        if not name.endswith("qkv.bias"):  # keys' has no gradient but rounding, which Adam scales
            torch.testing.assert_close(one["state"][name], value, rtol=0, atol=near)
    assert all(torch.equal(x, other["state"][name]) for name, x in one["state"].items())
    assert one["state"]["skipped"][:, 1].sum() == (2 if case.startswith("nan") else 0)


@pytest.mark.parametrize("case", CASES)
def test_each_rank_holds_half(case, found):
    names = {"student", "ema", "moments", *(["teacher"] if case == "teacher" else [])}
    assert found[0][case]["held"].keys() == names
    for name in names:
        (one, total), (other, same) = (results[case]["held"][name] for results in found)
        assert one + other == total == same
        assert one < 0.56 * total, name  # less even the more layers have an odd length


def test_moments_follow_the_memory_of_weights():
    """Those of shares lie in plain order, and fused kernels go by memory alone."""
    layer, x = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), torch.randn(2, 3, 5, 5)

    def step(layer, optimizer):
        layer(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    optimizer = make_optimizer(OptimConfig("adam", lr=0.1), layer.parameters())
    step(layer, optimizer)
    twin, saved = copy.deepcopy(layer), copy.deepcopy(optimizer.state_dict())
    for moments in saved["state"].values():
        moments |= {name: value.contiguous() for name, value in moments.items()}
    resumed = make_optimizer(OptimConfig("adam", lr=0.1), twin.parameters())
    restore(resumed, saved)
    assert resumed.state[twin.weight]["exp_avg"].stride() == layer.weight.stride()
    step(layer, optimizer)
    step(twin, resumed)
    assert torch.equal(layer.weight, twin.weight)


def test_a_network_is_cut_at_its_blocks():
    cut = {cls: len([*blocks(cls(config, (1, 8, 8), 1))]) for cls, config in CUT.items()}
    assert cut == {UNet: 2 * 2 + 2 + 2, DiT: 3, UViT: 3 + 1}
