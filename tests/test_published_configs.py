"""Published configs: batches pass through their networks, whose sizes are the papers'."""

from __future__ import annotations

import pytest
import torch

from gendiff.build import build_network
from gendiff.config import compose
from gendiff.networks.pyramid import widths
from gendiff.pipeline.shipped import shipped_folder, shipped_names
from gendiff.yaml_files import read_yaml

PUBLISHED = [
    name
    for name in shipped_names("configs")
    if name.startswith(("stackedmnist", "cifar10", "celebahq", "lsunchurch"))
]
DDGAN = {32: [128, 256, 512, 512], 256: [128, 256, 512, 512, 512, 512, 512]}
TDPM = {32: [512] * 4, 256: DDGAN[256]}
"""Widths of the authors' critics, largest side first; DDGAN's lists are of its code."""


def published(name):
    return compose(read_yaml(shipped_folder("configs") / f"{name}.yaml"), name)


def test_all_are_there():
    methods = [published(name).method.name for name in PUBLISHED]
    assert [methods.count(m) for m in ("denoising_gan", "truncated", "truncated_plus")] == [4, 2, 1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_batch_passes_through_every_network(name):
    run = published(name)
    with torch.device("meta"):
        for role, network in run.networks.items():
            (channels, *sides), out = run.network_shape(role)
            x, cond = torch.zeros(4, channels, *sides), {}
            if "z" in getattr(network, "conditions", {}):
                cond["z"] = torch.zeros(4, network.conditions["z"])
            judged = build_network(run, role)(x, torch.zeros(4), cond)
            if role != "student" or run.method.name != "classifier":
                assert judged.shape == ((4, 1) if role == "critic" else (4, out, *sides))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "classifier" not in name])
def test_critics_are_as_wide_as_the_authors(name):
    run = published(name)
    theirs = DDGAN if run.method.name == "denoising_gan" else TDPM
    side = run.data.shape[-1]
    assert widths(run.networks["critic"], side)[::-1] == theirs[side]
    assert run.networks["critic"].time == (run.method.name == "denoising_gan")
