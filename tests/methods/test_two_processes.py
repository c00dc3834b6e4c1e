"""Two processes under DDP train as one does on the same global batches, whoever's turn it is."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cases import CASES
from lightning.pytorch.strategies import DDPStrategy
from seen import Seen, gathered
from small import STEPS, fit


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
                method, seen = build(), Seen()
                if ranks > 1:
                    strategy = DDPStrategy(find_unused_parameters=False)
                    settings = {"strategy": strategy, "devices": ranks}
                fit(method, seen, **settings)
                drawn = dict(seen.drawn), dict(seen.told)
                found[name] = {"losses": seen.losses, "state": method.state_dict(), "drawn": drawn}
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
    rest = work_as_second, (str(folder),)
    other = mp.start_processes(*rest, join=False, start_method="fork")
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
        torch.testing.assert_close(ranks[0]["state"][name], value, rtol=0, atol=1e-4)
    for batch in range(STEPS):
        losses = [rank["losses"][batch] for rank in ranks]
        assert losses[0].keys() == alone["losses"][batch].keys()
        for name, value in alone["losses"][batch].items():
            mean = (losses[0][name] + losses[1][name]) / 2
            assert mean == pytest.approx(value, rel=0, abs=2e-5, nan_ok=True)
            assert not math.isnan(losses[0][name])
    assert state["skipped"][:, 1].sum() == (2 if case.endswith("nan") else 0)


@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn_is_the_same_to_the_bit(case, found):
    """Sample indices, random numbers, and noise levels as the networks are told them."""
    alone, *ranks = (results[case]["drawn"] for results in found)
    for ours, wanted in zip(gathered(ranks), gathered([alone]), strict=True):
        assert ours.keys() == wanted.keys()
        for note, numbers in wanted.items():
            assert torch.equal(ours[note], numbers), note
