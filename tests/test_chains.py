"""A model of a discrete chain, end to end: trained, sampled, read along other paths, a teacher."""

from __future__ import annotations

import pytest
import torch

import gendiff
from gendiff.cli import main
from gendiff.errors import UserError

STAGES = """
stages:
  chain:
    config: mixture_diffusion
    path: {name: discrete_linear, steps: 30}
    method: {prediction: eps}
    trainer: {max_steps: 4}
    evaluation: {steps: []}
  couples:
    config: mixture_pairs
    init: {teacher: chain.ema}
    method: {count: 8, solver_steps: 31}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    (folder / "chain.yaml").write_text(STAGES)
    words = ["run", str(folder / "chain.yaml"), "--dir", str(folder / "run")]
    assert main([*words, "--only", "chain"]) == 0
    return folder, words


def test_steps_are_at_most_the_chains_own(run):
    model = gendiff.load(run[0] / "run" / "chain")
    assert model.default_steps == 30
    assert model.sample(3, 30).isfinite().all()
    with pytest.raises(UserError, match="31 steps are more than the 30 of the chain"):
        model.sample(3, 31)
    with pytest.raises(UserError, match="Run it along another path"):
        model.sample(3, 8, sampler="heun")


@pytest.mark.parametrize("sampler", ["heun@vp", "dpmpp_2m@edm", "ddim@ddim10"])
def test_it_is_sampled_in_other_ways(run, sampler):
    model = gendiff.load(run[0] / "run" / "chain")
    out = model.sample(3, 10, sampler=sampler)
    assert out.shape == (3, 2)
    assert torch.isfinite(out).all()


def test_a_teacher_is_not_asked_for_more_steps_than_it_has(run, capsys):
    assert main(run[1]) == 2
    error = capsys.readouterr().err
    assert "method.solver_steps: steps is 31" in error
    assert error.count("\n") == 1
