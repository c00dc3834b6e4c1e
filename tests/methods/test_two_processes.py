"""Two processes under DDP train as one does on the same global batches, whoever's turn it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy
from small import JUDGED, STEPS, fit, make, poison

from gendiff.methods.consistency import Consistency, ConsistencyConfig
from gendiff.methods.consistency_training import ConsistencyTraining
from gendiff.methods.continuous_consistency import (
    ContinuousConsistency,
    ContinuousConsistencyTraining,
)
from gendiff.methods.denoising_gan import DenoisingGAN, DenoisingGANConfig
from gendiff.methods.diffusion import Diffusion
from gendiff.methods.distribution_matching import DistributionMatching
from gendiff.methods.easy_consistency import EasyConsistency
from gendiff.methods.flow import Flow
from gendiff.methods.mean_flow import MeanFlow, MeanFlowConfig
from gendiff.methods.online_reflow import OnlineReflow
from gendiff.methods.pair_distillation import PairDistillation
from gendiff.methods.progressive import Progressive
from gendiff.methods.reflow import Reflow
from gendiff.methods.score_identity import ScoreIdentity
from gendiff.methods.shortcut import Shortcut
from gendiff.methods.truncated import (
    Truncated,
    TruncatedConfig,
    TruncatedPlus,
)
from gendiff.networks.discriminator import Discriminator, DiscriminatorConfig
from gendiff.networks.unet import UNet, UNetConfig
from gendiff.paths import Cosine


def images(**settings):
    """Networks for images: weights channels last, and a critic that compares neighbours."""
    torch.manual_seed(0)
    networks = {
        "student": UNet(UNetConfig(channels=8, multipliers=[1]), (1, 8, 8), 1),
        "critic": Discriminator(DiscriminatorConfig(64, 8, time=True), (1, 8, 8), 1),
    }
    config = TruncatedConfig(truncation=0.3, penalty_every=2)
    return make(Truncated, config=config, networks=networks, shape=(1, 8, 8), **settings)


def spoilt(cls, role, batches, **settings):
    method = make(cls, **settings)
    poison(method, role, batches)
    return method


PENALTIES = {"r1_gamma": 0.5, "r2_gamma": 0.5, "gradient_penalty": 0.5, "penalty_every": 3}
LAGGING = ConsistencyConfig(
    intervals=8, first_intervals=2, solver="heun", curriculum="cm", target_decay=0.7
)
CASES = {
    "diffusion-nan": lambda: spoilt(Diffusion, "student", {1, 5}, clip=0.5, accumulate=2),
    "gan-penalties": lambda: make(DenoisingGAN, config=DenoisingGANConfig(latent=2, **PENALTIES)),
    "gan-critic-nan": lambda: spoilt(DenoisingGAN, "critic", {2, 3}, clip=0.5, accumulate=2),
    "mean-flow": lambda: make(MeanFlow, config=MeanFlowConfig(apart=0.6), clip=0.5, accumulate=2),
    "shortcut-nan": lambda: spoilt(Shortcut, "student", {2, 3}, accumulate=4),
    "consistency-nan": lambda: spoilt(Consistency, "student", {1, 3}, accumulate=2, config=LAGGING),
    "consistency-training": lambda: make(ConsistencyTraining),
    "easy-consistency": lambda: make(EasyConsistency, path=Cosine()),
    "continuous-consistency": lambda: make(ContinuousConsistency, clip=0.5, accumulate=2),
    "continuous-training": lambda: make(ContinuousConsistencyTraining),
    "score-identity": lambda: make(ScoreIdentity, accumulate=2),
    "matching-nan": lambda: spoilt(DistributionMatching, "student", {3, 5}, config=JUDGED),
    "progressive": lambda: make(Progressive, path=Cosine()),
    "flow": lambda: make(Flow, accumulate=2),
    "reflow": lambda: make(Reflow),
    "online-reflow": lambda: make(OnlineReflow),
    "pair-distillation": lambda: make(PairDistillation),
    "truncated": lambda: make(Truncated, config=TruncatedConfig(truncation=0.3, r1_gamma=0.0)),
    "truncated-images": lambda: images(accumulate=2),
    "truncated-plus-nan": lambda: spoilt(TruncatedPlus, "generator", {0, 4}, name="radam"),
}


class Losses(Callback):
    """Those of every batch, on this rank."""

    def __init__(self):
        self.all = []

    def on_train_batch_end(self, trainer, pl_module, *rest):
        self.all.append(pl_module.losses)


def work(rank, ranks, folder):
    """Train all cases on this rank of so many; what came of them is saved."""
    torch.set_num_threads(1)
    settings = {}
    with pytest.MonkeyPatch.context() as patch:
        if ranks > 1:
            for name, value in {"LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_PORT": 0}.items():
                patch.setenv(name, str(value))
            patch.setenv("MASTER_ADDR", "127.0.0.1")
            place, wait = f"file://{folder}/meet", timedelta(seconds=60)
            dist.init_process_group(
                "gloo", init_method=place, rank=rank, world_size=ranks, timeout=wait
            )
        try:
            found = {}
            for name, build in CASES.items():
                method, losses = build(), Losses()
                if ranks > 1:
                    strategy = DDPStrategy(find_unused_parameters=False)
                    settings = {"strategy": strategy, "devices": ranks}
                fit(method, losses, **settings)
                found[name] = {"losses": losses.all, "state": method.state_dict()}
            torch.save(found, f"{folder}/{rank}-of-{ranks}.pt")
        finally:
            if ranks > 1:
                dist.destroy_process_group()


def work_as_second(index, folder):
    work(1, 2, folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What came of all cases: in one process, and on each rank of two."""
    folder = tmp_path_factory.mktemp("ranks")
    other = mp.spawn(work_as_second, args=(str(folder),), join=False)
    work(0, 1, folder)
    work(0, 2, folder)
    assert other.join()
    names = ("0-of-1", "0-of-2", "1-of-2")
    return [torch.load(folder / f"{name}.pt", weights_only=True) for name in names]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case, found):
    alone, *ranks = (results[case] for results in found)
    state = alone["state"]
    for rank in ranks:
        assert rank["state"].keys() == state.keys()
        # in step with each other, to the bit
        assert all(torch.equal(x, ranks[0]["state"][name]) for name, x in rank["state"].items())
    for name, value in state.items():
        torch.testing.assert_close(ranks[0]["state"][name], value, rtol=0, atol=2e-5)
    for batch in range(STEPS):
        losses = [rank["losses"][batch] for rank in ranks]
        assert losses[0].keys() == alone["losses"][batch].keys()
        for name, value in alone["losses"][batch].items():
            mean = (losses[0][name] + losses[1][name]) / 2
            torch.testing.assert_close(mean, value, rtol=0, atol=2e-5, equal_nan=True)
            assert not losses[0][name].isnan()
    assert state["skipped"][:, 1].sum() == (2 if case.endswith("nan") else 0)
