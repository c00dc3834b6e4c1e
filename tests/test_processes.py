"""Two real processes of one group: what one decides or refuses, both do."""

from __future__ import annotations

import os
import signal
import socket
from datetime import timedelta
from threading import Timer
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from gendiff import launch, lost, ranks
from gendiff.errors import Interrupted, Lost, UserError
from gendiff.ranks import Ranks, Vote, from_slurm, joined
from gendiff.signals import Stop


def refuse(kind):
    raise kind("no")


def raised(kind, work):
    try:
        work()
    except kind as error:
        return str(error), getattr(error, "shared", False)
    return None


def talk(rank, port, folder):
    """All that two ranks say to each other; what each of them has heard is saved."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
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


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mp.start_processes(talk, (port, str(folder)), 2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


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


def test_who_has_gone_is_named(heard):
    assert heard[0]["lost"] == "teacher: rank 0 of 2 hears nothing from rank 1."


def test_who_has_gone_is_named_though_a_launcher_ends_all(monkeypatch):
    """Its SIGTERM comes while the others are still asked."""
    store = SimpleNamespace(set=lambda *_: None, check=lambda _: False)
    monkeypatch.setattr(lost, "SECONDS", 0.2)
    with Stop().listening():
        Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        assert lost.silence(store, 0, 2) == "hears nothing from rank 1."


@pytest.mark.parametrize(
    ("codes", "end"),
    [
        ({0: 75, 1: 75}, 75),
        ({0: 2, 1: -signal.SIGTERM}, 2),  # one has said why, the launcher has ended the other
        ({0: 75, 1: -signal.SIGKILL}, "rank 1 of 2 was killed by SIGKILL; run again to go on."),
        ({0: 1, 1: -signal.SIGSEGV}, "rank 1 of 2 was killed by SIGSEGV; run again to go on."),
        ({1: 3}, "rank 1 of 2 left with 3; run again to go on."),
    ],
)
def test_a_launcher_says_who_was_killed(codes, end, monkeypatch):
    ended = {r: ProcessFailure(r, 1, code, "") for r, code in codes.items()}

    def launched(*words):
        raise ChildFailedError("", ended)

    monkeypatch.setattr(launch, "elastic_launch", lambda *_: launched)
    if isinstance(end, int):
        assert launch.launch(["run"], 2) == end
        return
    with pytest.raises(Lost) as told:
        launch.launch(["run"], 2)
    assert str(told.value) == end


def test_alone_nothing_is_said_or_asked():
    alone = Ranks()
    assert alone.decide(lambda: 3) == alone.agree(3) == 3
    assert alone.mean({"a": 1.0}) == {"a": 1.0}
    assert Vote(alone)(True, False) == [True, False]
    with pytest.raises(UserError) as refused:
        alone.decide(lambda: refuse(UserError))
    assert not refused.value.shared


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
    words = words | {word: "x"} if word == "WORLD_SIZE" else {**words, word: None}
    for name, value in words.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(
            name, value
        )
    with pytest.raises(UserError, match=f"but {word} is (missing|x); "), joined():
        pass


def test_slurms_words_are_torchruns(monkeypatch):
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
    from_slurm()
    assert [os.environ[name] for name in names] == ["6", "16", "2", "4", "1", "gpu07"]
    assert 10_000 < int(os.environ["MASTER_PORT"]) < 65_536
