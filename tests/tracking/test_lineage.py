"""Stages' nodes: what is read of folders and runs, what of outside, and which lines they bring."""

from __future__ import annotations

import pytest

from gendiff.checkpoint import file_name
from gendiff.data.pairs import STAMP
from gendiff.errors import UserError
from gendiff.lineage import (
    as_plain,
    damage,
    from_plain,
    in_order,
    nodes_of,
    problems,
    read_lineage,
    roles_of,
    short,
)
from gendiff.storage import make_folder, write_json
from gendiff.wandb_files import Logged

EMA = "weights/ema.safetensors"


def node(name, parents=(), digests=None, **other):
    """Of a stage whose student's role is seeded with ``stage.ema`` of each parent, by index."""
    told = {str(i): {"from": f"{p}.ema", "digests": {EMA: "a"}} for i, p in enumerate(parents)}
    own = {"stage": name, "method": "flow", "data": "mixture", "fingerprint": "f", "done": True}
    digests = {EMA: "a"} if digests is None else digests
    return from_plain({**own, "steps": 8, "parents": told, "digests": digests, **other})


def nodes(*made):
    return in_order({each.name: each for each in made})


def begun(folder, *init, saved=()):
    """A stage's folder with its record and the manifest of its checkpoints."""
    make_folder(folder / "checkpoints")
    identity = {"method": {"name": "flow"}, "data": {"name": "mixture"}}
    told = {str(i): {"from": ref, "digests": {EMA: "a"}} for i, ref in enumerate(init)}
    write_json(folder / "stage.json", {"identity": identity, "fingerprint": "f", "init": told})
    listed = [{"file": file_name(n), "sha256": "", "batches_done": n} for n in saved]
    write_json(folder / "checkpoints" / "manifest.json", listed)


def test_parents_come_first_else_names_in_order():
    made = [node(name) for name in "zyxwv"] + [node("a", ["w", "x"]), node("b.c", ["a"])]
    assert list(nodes(*made)) == [*"vwxyz", "a", "b.c"]
    assert node("d", ["b.c"]).parents == {"0": "b.c"}


def test_a_folder_holds_what_has_begun_and_was_not_put_aside(tmp_path):
    begun(tmp_path / "teacher", saved=(10, 5))
    begun(tmp_path / "teacher.old-1", saved=(20,))
    found = read_lineage(tmp_path)
    assert {name: (each.done, each.steps) for name, each in found.items()} == {
        "teacher": (False, 10)
    }
    assert not damage(tmp_path, found)
    empty = tmp_path / "empty"
    make_folder(empty)
    write_json(tmp_path / "teacher" / "stage.json", {"init": {}})
    with pytest.raises(UserError, match=r"teacher/stage.json: is not what gendiff wrote"):
        read_lineage(tmp_path)
    with pytest.raises(UserError, match="empty: no run folder, as no stage has begun in it"):
        read_lineage(empty)


def test_only_folders_tell_of_outside(tmp_path, monkeypatch):
    """Each by the name that it is called; of one that is gone, or of a name alone, nothing."""
    far, near, run = (tmp_path / name for name in ("far", "near", "run"))
    begun(far / "teacher")
    begun(near / "middle", f"{far}/teacher.ema", f"{near}/gone.ema")
    begun(run / "student", f"{near}/middle.ema", "teacher.ema")
    write_json(far / "teacher" / "done.json", {"digests": {EMA: "a"}, "steps": 8})
    monkeypatch.chdir(far)
    found = read_lineage(run)
    assert list(found) == [f"{far}/teacher", f"{near}/middle", "student"]
    assert damage(run, found) == [f"{far}/teacher/{EMA}: missing; the stage had written it."]


def test_of_runs_those_with_a_lineage_count():
    """One that is not done has come as far as its rows; with it comes what lies outside."""
    outside = as_plain(node("/far/teacher"))
    told = {
        "done": {**as_plain(node("done")), "outside": []},
        "going": {**as_plain(node("going", done=False)), "outside": [outside]},
    }
    runs = [
        Logged(name, "run", config={"lineage": each}, rows={3: {}, 5: {}})
        for name, each in told.items()
    ]
    found = nodes_of([Logged("other", "another", config={"lr": 1}), *runs], None)
    steps = {name: each.steps for name, each in found.items()}
    assert steps == {"done": 8, "going": 5, "/far/teacher": 8}


@pytest.mark.parametrize(
    ("parent", "lines"),
    [
        ([node("p")], []),
        ([], ["c: init.0: the stage p is missing."]),
        ([node("p", done=False)], ["c: init.0: the stage p is not done, though something was ma"]),
        ([node("p", digests={EMA: "b"})], [f"c: init.0: p {EMA}: a was used, b is there."]),
        ([node("p", digests={})], [f"c: init.0: p {EMA}: a was used, unknown is there."]),
    ],
)
def test_a_parent_that_is_not_what_was_used_is_told(parent, lines):
    found = problems(nodes(*parent, node("c", ["p"])))
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


def test_no_digest_of_a_parent_is_told():
    parents = {"student": {"from": "p.ema", "digests": {}}}
    child = from_plain({**as_plain(node("c")), "parents": parents})
    found = problems(nodes(node("p"), child))
    assert found == ["c: init.student: no digest of p.ema was recorded."]


def test_of_roles_and_products_a_digest_is_shown():
    digests = {EMA: "a" * 64, f"products/pairs/{STAMP}": "b" * 64}
    assert roles_of(digests) == {"ema": "a" * 64, "pairs": "b" * 64}
    assert short("a" * 64) == "a" * 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": True},
        {"done": 1},
        {"digests": {EMA: None}},
        {"parents": {"student": {"from": 3, "digests": {}}}},
        {"parents": {"student": {"from": "p.ema", "digests": {EMA: 1}}}},
    ],
)
def test_a_node_is_of_words_and_counts(wrong):
    with pytest.raises((TypeError, AttributeError)):
        from_plain({**as_plain(node("a")), **wrong})
