"""Two real processes of one group: what one decides or refuses, both do."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from datetime import timedelta
from threading import Timer
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from gendiff import lost, ranks
from gendiff.errors import Interrupted, Lost, UserError
from gendiff.ranks import Ranks, Vote, for_all, from_slurm, joined
from gendiff.signals import Stop


def refuse(kind):
    raise kind("no")


def raised(kind, work):
    try:
        work()
    except kind as error:
        return str(error), getattr(error, "shared", False)
    return None


def be(rank, port):
    """One of two."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})


def talk(rank, port, folder):
    """All that two ranks say to each other; what each of them has heard is saved."""
    be(rank, port)
    lost.SECONDS, heard = 0.2, {}

    def part_of_one():
        return refuse(UserError) if rank else 1

    with joined(minutes=0.5) as here:
        heard["place"] = here.rank, here.world, here.local, here.nodes
        heard["decided"] = here.decide(lambda: f"by {rank}")
        heard["refused"] = raised(UserError, lambda: here.decide(lambda: refuse(UserError)))
        heard["stopped"] = raised(Interrupted, lambda: here.decide(lambda: refuse(Interrupted)))
        heard["together"] = here.together(lambda: rank)
        heard["one refused"] = raised(UserError, lambda: here.together(part_of_one))
        heard["mean"] = here.mean({"a": float(rank), "b": 3.0})
        heard["any"] = here.any(rank == 1), here.any(False)
        vote = Vote(here)
        asked = [(False, False), (rank == 1, False), (False, rank == 0), (False, False)]
        heard["votes"] = [vote(*words) for words in asked]
        torch.save(heard, f"{folder}/{rank}.pt")
        if rank == 1:
            os._exit(0)  # as if killed
        try:
            with here.losing("teacher"):
                here.agree(1)
                here.together(lambda: 1)
        except Lost as error:
            heard["lost"] = str(error)
    torch.save(heard, f"{folder}/{rank}.pt")


def both(what, folder, *words):
    """What two processes have saved."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mp.start_processes(what, (port, str(folder), *words), 2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return both(talk, tmp_path_factory.mktemp("ranks"))


def test_what_the_first_decides_all_learn(heard):
    for words in heard:
        assert words["decided"] == "by 0"
        assert words["refused"] == words["stopped"] == ("no", True)


def test_what_one_of_them_cannot_do_all_learn(heard):
    for words in heard:
        assert words["together"] == [0, 1]
        assert words["one refused"] == ("no", True)
        assert words["mean"] == {"a": 0.5, "b": 3.0}
        assert words["any"] == (True, False)
    assert [words["place"] for words in heard] == [(0, 2, 0, 1), (1, 2, 1, 1)]


def test_a_vote_is_answered_one_step_later(heard):
    for words in heard:
        assert words["votes"] == [[False, False], [False, False], [True, False], [False, True]]


def leave(rank, port, folder, shared):
    """Both of them fail, the first a little later; when each has left is saved."""
    be(rank, port)
    ranks.START, ranks.LEAVE, ranks.SECONDS = timedelta(seconds=20), timedelta(seconds=5), 0.1
    with suppress(UserError), joined(minutes=0.5):
        dist.barrier()
        begun = time.monotonic()
        cpu = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        patience = cpu.options._timeout.total_seconds()
        time.sleep(0 if rank else 0.5)  # to close its files
        raise for_all(UserError, "no") if shared else UserError("no")
    torch.save((time.monotonic() - begun, patience), f"{folder}/{rank}.pt")


@pytest.mark.parametrize("shared", [True, False])
def test_of_an_error_of_all_the_first_leaves_first(tmp_path, shared):
    """A launcher ends all when one has left; who fails alone says so at once."""
    (first, patience), (second, _) = both(leave, tmp_path, shared)
    assert (first < second) == shared
    assert max(first, second) < 4
    assert patience == 30


def test_who_has_gone_is_named(heard):
    assert heard[0]["lost"] == "teacher: rank 0 of 2 hears nothing from rank 1."


def test_who_has_gone_is_named_though_a_launcher_ends_all(monkeypatch):
    """Its SIGTERM comes while the others are still asked."""
    store = SimpleNamespace(set=lambda *_: None, check=lambda _: False)
    monkeypatch.setattr(lost, "SECONDS", 0.2)
    with Stop().listening():
        Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        assert lost.silence(store, 0, 2) == "hears nothing from rank 1."


def test_who_hears_from_all_has_lost_its_connections(monkeypatch):
    store = dist.HashStore()
    store.set("lost/1", "")  # which has noticed too
    monkeypatch.setattr(lost, "SECONDS", 0.0)
    assert lost.silence(store, 0, 2) == "has lost its connections; all ranks are alive."
    assert store.check(["lost/0"])


def test_an_error_of_ones_own_is_no_silence():
    with pytest.raises(RuntimeError, match="out of memory"), lost.losing(None, 0, 2, "teacher"):
        raise RuntimeError("CUDA out of memory")


@pytest.mark.parametrize("rows", [0, 3, 10, 11])
def test_shares_are_as_equal_as_can_be_and_leave_no_row(rows):
    shares = [Ranks(rank, 4).share(rows) for rank in range(4)]
    assert [row for share in shares for row in range(*share)] == [*range(rows)]
    assert {last - first for first, last in shares} <= {rows // 4, rows // 4 + 1}


def test_alone_nothing_is_said_or_asked():
    alone = Ranks()
    assert alone.decide(lambda: 3) == alone.agree(3) == 3
    assert alone.mean({"a": 1.0}) == {"a": 1.0}
    assert Vote(alone)(True, False) == [True, False]
    with pytest.raises(UserError) as refused:
        alone.decide(lambda: refuse(UserError))
    assert not refused.value.shared


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_that_never_comes_is_told(monkeypatch):
    words = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}
    for name, value in words.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(ranks, "START", timedelta(seconds=0.5))
    with pytest.raises(Lost, match="start: rank 0 of 2 cannot reach the others"), joined():
        pass


@pytest.mark.parametrize("word", ["WORLD_SIZE", "RANK", "MASTER_PORT", "MASTER_ADDR"])
def test_half_of_torchruns_words(word, monkeypatch):
    """As a job's environment may have them for something else."""
    words = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in words.items():
        monkeypatch.setenv(name, "x" if name == word == "WORLD_SIZE" else value)
    if word != "WORLD_SIZE":  # without it a process is alone
        monkeypatch.delenv(word)
    with pytest.raises(UserError, match=f"^{word} is (missing|x); torchrun"), joined():
        pass


@pytest.mark.parametrize("address", [None, "10.0.0.1"])
def test_slurms_words_are_torchruns(monkeypatch, address):
    said = {
        "SLURM_STEP_NUM_TASKS": "16",
        "SLURM_STEP_NUM_NODES": "4",
        "SLURM_PROCID": "6",
        "SLURM_LOCALID": "2",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NODELIST": "gpu[07-10]",
        "SLURM_JOB_ID": "123456",
    }
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR")
    for name in (*names, "MASTER_PORT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    from_slurm()
    assert "RANK" not in os.environ  # a script that sbatch runs is one process
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "4")
    from_slurm()
    assert "RANK" not in os.environ  # a torchrun of its own in each task
    monkeypatch.delenv("WORLD_SIZE")
    if address:  # one's own choice
        monkeypatch.setenv("MASTER_ADDR", address)
    from_slurm()
    assert [os.environ[name] for name in names] == ["6", "16", "2", "4", "1", address or "gpu07"]
    assert 10_000 < int(os.environ["MASTER_PORT"]) < 65_536
