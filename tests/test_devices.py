"""Where a process computes: on its GPU, on the CPU, or nowhere, with a line."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gendiff.build import device_of
from gendiff.config import compose
from gendiff.errors import UserError
from gendiff.pipeline.shipped import find
from gendiff.yaml_files import read_yaml


@pytest.fixture
def run():
    return compose(read_yaml(find("mixture_diffusion", ("configs",))[0]), "run")


@pytest.mark.parametrize(
    ("asked", "gpus", "local", "needed", "wanted"),
    [
        ("auto", 0, 1, True, "cpu"),
        ("auto", 2, 1, True, "cuda:1"),
        ("auto", 2, 2, True, "process 3 of this node has no GPU; it sees 2"),
        ("gpu", 1, 0, True, "cuda:0"),
        ("gpu", 0, 0, True, "finds no GPU here"),
        ("gpu", 0, 0, False, "cpu"),  # trained on a cluster, sampled on a laptop
        ("gpu", 2, 0, False, "cuda:0"),
        ("cpu", 2, 2, True, "cpu"),
    ],
)
def test_a_process_has_its_device(run, monkeypatch, asked, gpus, local, needed, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    run = replace(run, hardware=replace(run.hardware, accelerator=asked))
    if " " not in wanted:
        assert device_of(run, local, needed) == torch.device(wanted)
        return
    with pytest.raises(UserError, match=wanted):
        device_of(run, local, needed)
