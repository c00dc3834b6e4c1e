"""What came of what: the stages of a run folder from data to student, with their digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendiff.build import check_done
from gendiff.checkpoint import Checkpoints
from gendiff.errors import UserError
from gendiff.storage import read_json

Digests = dict[str, str]
"""File of a stage, relative to its folder -> SHA-256 in hex."""
SHORT = 12
"""Hex digits of a digest that is shown."""


@dataclass(frozen=True)
class Node:
    """A stage, what it took and what it gave."""

    name: str
    """Its own, or of one outside the run folder its folder, with a ``/`` in it."""
    method: str
    data: str
    fingerprint: str
    done: bool
    steps: int
    """Global batches done as far as is saved; of a stage that makes rows, those made."""
    init: dict[str, str]
    """My role -> ``stage.role``."""
    used: dict[str, Digests]
    """My role -> files of the parent's that it was seeded with."""
    digests: Digests
    """Weights and products of a stage that is done."""

    @property
    def parents(self) -> dict[str, str]:
        """My role -> name of the stage it comes from."""
        return {role: ref.rpartition(".")[0] for role, ref in self.init.items()}


def read_lineage(run_folder: Path) -> dict[str, Node]:
    """All stages that have begun, each after its parents, those outside the folder among them.

    Raises:
        UserError: no stage has begun in it, or a stage's record is damaged.
    """
    if not run_folder.is_dir():
        raise UserError(f"{run_folder}: no such run folder.")
    nodes: dict[str, Node] = {}
    for path in sorted(run_folder.glob("*/stage.json")):
        if ".old-" not in path.parent.name:  # which --rerun has put aside
            nodes[path.parent.name] = read_node(path.parent, path.parent.name)
    if not nodes:
        raise UserError(f"{run_folder}: no run folder, as no stage has begun in it.")
    return in_order(nodes | outside_of(nodes))


def outside_of(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The stages outside the run folder that those in it descend from, as far as they are there."""
    found: dict[str, Node] = {}
    waiting = [name for node in nodes.values() for name in node.parents.values()]
    for name in waiting:
        if "/" in name and name not in found and (Path(name) / "stage.json").is_file():
            found[name] = read_node(Path(name), name)
            waiting += found[name].parents.values()
    return found


def read_node(folder: Path, name: str) -> Node:
    """A stage as its folder's ``stage.json`` and ``done.json`` tell.

    Args:
        name: what the tree calls it; with a ``/`` its parents are outside too.

    Raises:
        UserError: one of them is damaged.
    """
    record = read_json(folder / "stage.json")
    done = check_done(folder) if (folder / "done.json").is_file() else None
    try:
        node = Node(
            name=name,
            method=record["identity"]["method"]["name"],
            data=record["identity"]["data"]["name"],
            fingerprint=record["fingerprint"],
            done=done is not None,
            steps=done["steps"] if done else saved(folder),
            init={role: entry["from"] for role, entry in record["init"].items()},
            used={role: dict(entry["digests"]) for role, entry in record["init"].items()},
            digests={n: d for n, d in done["digests"].items() if "/" in n} if done else {},
        )
        return near(node, folder.parent) if "/" in name else node
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder / 'stage.json'}: is not what gendiff wrote.") from None


def near(node: Node, run_folder: Path) -> Node:
    """A node of another run folder, its parents named by their folders."""
    init = {r: ref if "/" in ref else f"{run_folder}/{ref}" for r, ref in node.init.items()}
    return Node(**{**vars(node), "init": init})


def saved(folder: Path) -> int:
    """Global batches done at the newest checkpoint."""
    listed = Checkpoints(folder).listed()
    return int(listed[0]["batches_done"]) if listed else 0


def in_order(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Parents before children, else by name.

    Raises:
        UserError: stages descend from each other, which no run writes.
    """
    ordered: dict[str, Node] = {}
    waiting = sorted(nodes)
    while waiting:
        late = {*waiting}
        ready = [name for name in waiting if not late & {*nodes[name].parents.values()}]
        if not ready:
            raise UserError(f"{', '.join(waiting)}: stages that descend from each other.")
        ordered |= {name: nodes[name] for name in ready}
        waiting = [name for name in waiting if name not in ordered]
    return ordered


def role_digest(digests: Digests, role: str) -> str | None:
    """The digest of a role's weights, or of the stamp of a product, which lists its files."""
    names = (f"weights/{role}.safetensors", f"products/{role}/stamp.json")
    return next((digests[name] for name in names if name in digests), None)


def roles_of(digests: Digests) -> dict[str, str]:
    """Role, average or product -> its digest."""
    roles = dict.fromkeys(name.split("/")[1].removesuffix(".safetensors") for name in digests)
    return {role: digest for role in roles if (digest := role_digest(digests, role))}


def short(digest: str | None) -> str:
    """As many digits of a digest as are shown."""
    return (digest or "unknown")[:SHORT]


def problems(nodes: Mapping[str, Node]) -> list[str]:
    """A line for each recorded digest of a parent's that is not the parent's own."""
    return [line for node in nodes.values() for line in _problems_of(node, nodes)]


def _problems_of(node: Node, nodes: Mapping[str, Node]) -> Iterator[str]:
    for role, name in node.parents.items():
        where, parent, used = f"{node.name}: init.{role}", nodes.get(name), node.used.get(role)
        if parent is None:
            yield f"{where}: the stage {name} is missing."
        elif not parent.done:
            yield f"{where}: the stage {name} is not done, though something was made of it."
        elif not used:
            yield f"{where}: no digest of {node.init[role]} was recorded."
        else:
            for file, digest in used.items():
                own = parent.digests.get(file)
                if own != digest:
                    told = f"{short(digest)} was used, {short(own)} is there"
                    yield f"{where}: {name} {file}: {told}."


def as_plain(node: Node) -> dict[str, Any]:
    """A node as plain values, as W&B keeps it."""
    return {**vars(node)}
