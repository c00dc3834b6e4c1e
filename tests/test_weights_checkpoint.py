"""Weight files load strictly; checkpoints keep two generations and never use a damaged one."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gendiff.build import check_done, check_file
from gendiff.checkpoint import Checkpoints
from gendiff.errors import UserError
from gendiff.storage import sha256, write_json
from gendiff.weights import differences, explain, load_weights, read_tensors, save_tensors


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.fixture
def file(network, tmp_path):
    """The network's weights, in a stage's place."""
    path = tmp_path / "weights" / "ema.safetensors"
    digest = save_tensors(network.state_dict(), path)
    digests = {"weights/ema.safetensors": digest}
    write_json(tmp_path / "done.json", {"fingerprint": "", "steps": 1, "digests": digests})
    return path


def test_round_trip_keeps_bits_and_buffers(network, file):
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    other[1].running_mean += 7
    load_weights(other, file)
    wanted = network.state_dict()
    assert other.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in other.state_dict().items())
    assert sha256(file) == save_tensors(other.state_dict(), file.with_name("again.safetensors"))


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_truncated_file_is_named(network, file, size):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match=r"ema.safetensors: damaged weight file"):
        load_weights(network, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("place", [0, 20, -1])
def test_flipped_bit_is_found_by_the_digest(file, place):
    folder = file.parent.parent
    assert check_file(folder, "weights/ema.safetensors", check_done(folder)) == file
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"ema.safetensors: damaged, its digest"):
        check_file(folder, "weights/ema.safetensors", check_done(folder))


def test_file_that_the_stage_never_wrote(file):
    with pytest.raises(UserError, match=r"has no 'emma'. Did you mean 'ema'"):
        check_file(file.parent.parent, "weights/emma.safetensors", check_done(file.parent.parent))


def test_missing_file(network, file):
    with pytest.raises(UserError, match=r"none.safetensors: no such file"):
        load_weights(network, file.with_name("none.safetensors"))


@pytest.mark.parametrize(
    ("other", "new", "message"),
    [
        (nn.Sequential(nn.Linear(2, 4)), [], r"0.weight: \(3, 2\) -> \(4, 2\); .*, and 4 more"),
        (nn.Sequential(nn.Linear(2, 3)), [], "network: unexpected 1\\."),
        (nn.ModuleList([nn.Linear(2, 3), nn.BatchNorm1d(3), nn.PReLU()]), [], "missing 2.weight"),
        (nn.ModuleList([nn.Linear(2, 3), nn.BatchNorm1d(3), nn.PReLU()]), ["3.*"], "missing 2.we"),
    ],
)
def test_what_does_not_fit_is_listed(file, other, new, message):
    with pytest.raises(UserError, match=message):
        load_weights(other, file, new)


def test_new_parameters_keep_their_init(network, file):
    """Those that the file has as well."""
    wider = nn.Sequential(*network, nn.Linear(3, 1))
    fresh = wider[2].weight.clone()
    wider[0].weight.data.zero_()
    wider[0].bias.data.fill_(7)
    load_weights(wider, file, ["2.*", "0.bias"])
    assert torch.equal(wider[2].weight, fresh)
    assert torch.equal(wider[0].weight, read_tensors(file)["0.weight"])
    assert (wider[0].bias == 7).all()


def test_new_excuses_another_shape():
    assert differences({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, ["*"]) == []
    lines = differences({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, ["b"])
    assert lines == ["shape of a: (3,) -> (2,)"]


def test_long_lists_are_cut():
    assert explain(["a", "b"]) == "a; b"
    assert explain(["a", "b", "c", "d", "e"]) == "a; b; c, and 2 more"


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path):
    """Three generations saved, at 1, 2 and 3."""
    made = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        made.save({"batches_done": step, "x": torch.full((50,), float(step))}, step)
    return made


def path(checkpoints, step):
    return checkpoints.folder / f"step-{step:09d}.ckpt"


def test_two_generations_are_kept(checkpoints):
    assert [entry["batches_done"] for entry in checkpoints.listed()] == [3, 2]
    assert [path(checkpoints, step).exists() for step in (1, 2, 3)] == [False, True, True]
    assert checkpoints.newest() == 3
    assert checkpoints.load(pytest.fail)["x"][0] == 3


def test_a_generation_that_is_gone_is_not_one_of_two(checkpoints):
    path(checkpoints, 3).unlink()
    checkpoints.save({"batches_done": 4}, 4)
    assert [entry["batches_done"] for entry in checkpoints.listed()] == [4, 2]


def test_same_step_is_one_generation(checkpoints):
    checkpoints.save({"batches_done": 3, "x": torch.zeros(1)}, 3)
    assert [entry["batches_done"] for entry in checkpoints.listed()] == [3, 2]
    assert checkpoints.load(pytest.fail)["x"].tolist() == [0]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted"])
def test_damaged_generation_is_kept_aside(checkpoints, damage):
    newest, warnings = path(checkpoints, 3), []
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "deleted":
        newest.unlink()
    else:
        newest.write_bytes(data if damage == "flipped" else data[:-9])
    assert checkpoints.newest() == 2
    assert checkpoints.load(warnings.append)["batches_done"] == 2
    kept = damage != "deleted"
    assert newest.with_suffix(".damaged").exists() == kept
    assert [str(newest) in line for line in warnings] == [True] * kept


def test_no_whole_generation(checkpoints):
    for step in (2, 3):
        path(checkpoints, step).write_bytes(b"")
    assert checkpoints.newest() is None
    assert checkpoints.load(lambda line: None) is None


def test_unlisted_file_is_no_checkpoint(checkpoints):
    path(checkpoints, 9).write_bytes(path(checkpoints, 3).read_bytes())
    assert checkpoints.newest() == 3


def test_nothing_saved(tmp_path):
    assert Checkpoints(tmp_path).newest() is None
    assert Checkpoints(tmp_path).load(pytest.fail) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '[{"file": "x"}]',
        "[3]",
    ],
)
def test_damaged_manifest_is_named(checkpoints, text):
    checkpoints.manifest.write_text(text)
    with pytest.raises(UserError, match=r"manifest.json: damaged"):
        checkpoints.listed()


def test_checkpoint_runs_no_code(checkpoints, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("touched").touch, ())

    file = path(checkpoints, 3)
    file.write_bytes(pickle.dumps(Evil()))
    entries = checkpoints.listed()
    entries[0]["sha256"] = sha256(file)  # as an attacker who rewrites the manifest too
    checkpoints.manifest.write_text(json.dumps(entries))
    with pytest.raises(UserError, match="cannot be read"):
        checkpoints.load(pytest.fail)
    assert not (tmp_path / "touched").exists()
