"""What came of what: the stages of a run folder from data to student, with their digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from gendiff.build import check_done, check_file
from gendiff.checkpoint import Checkpoints
from gendiff.data.pairs import STAMP
from gendiff.errors import UserError
from gendiff.storage import known_sha256, read_json
from gendiff.wandb_files import Logged, files_in, read_runs

Digests = dict[str, str]
"""File of a stage, relative to its folder -> SHA-256 in hex."""
SHORT = 12
"""Hex digits of a digest that is shown."""
LINEAGE = "lineage"
"""Key of a W&B run's config that holds its stage's node."""
OWN = ("method", "data", "fingerprint", "done", "steps")
"""What plain values call as `Node` does."""


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
    """Weights of a stage that is done; of a product its stamp, which holds its files' digests."""

    @property
    def parents(self) -> dict[str, str]:
        """My role -> name of the stage it comes from."""
        return {role: ref.rpartition(".")[0] for role, ref in self.init.items()}


def read_lineage(folder: Path) -> dict[str, Node]:
    """All stages that have begun, each after its parents, those outside the folder among them.

    Args:
        folder: a run folder; or one without stages that holds W&B's files, which then tell.

    Raises:
        UserError: no stage has begun in it, or a stage's record is damaged.
    """
    if not folder.exists():
        raise UserError(f"{folder}: no such run folder.")
    nodes: dict[str, Node] = {}
    for path in sorted(folder.glob("*/stage.json")):
        if ".old-" not in path.parent.name:  # which --rerun has put aside
            nodes[path.parent.name] = read_node(path.parent, path.parent.name)
    if nodes:
        return in_order(nodes | outside_of(nodes))
    if not files_in(folder):
        raise UserError(f"{folder}: no run folder, as no stage has begun in it.")
    return in_order(nodes_of(read_runs(folder).values(), folder))


def nodes_of(runs: Iterable[Logged], folder: Path) -> dict[str, Node]:
    """The stages that W&B's runs are of; of one that was trained anew, its last run's.

    Raises:
        UserError: what gendiff logs of a stage is in none of them, or they are of several run
            folders.
    """
    nodes: dict[str, Node] = {}
    groups = set()
    for run in runs:
        if LINEAGE not in run.config:
            continue  # a sweep's trial, or a run of another program
        groups.add(run.group)
        try:
            told = run.config[LINEAGE]  # as the stage began, then as it was done
            node = from_plain(told)
            if not node.done:
                node = replace(node, steps=max(run.rows, default=0))
            others = [from_plain(other) for other in told["outside"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{folder}: run {run.id}: its lineage is not gendiff's.") from None
        nodes |= {found.name: found for found in (node, *others)}
    if not nodes:
        raise UserError(f"{folder}: no run of gendiff's is in W&B's files.")
    if len(groups) > 1:
        raise UserError(f"{folder}: runs of several run folders ({', '.join(sorted(groups))}).")
    return nodes


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
    return node_of(folder, name, record, done)


def node_of(folder: Path, name: str, record: Any, done: Mapping[str, Any] | None) -> Node:
    """`read_node` of what its files hold.

    Args:
        done: None of a stage that is not done.

    Raises:
        UserError: they do not hold what gendiff writes.
    """
    try:
        node = Node(
            name=name,
            method=record["identity"]["method"]["name"],
            data=record["identity"]["data"]["name"],
            fingerprint=record["fingerprint"],
            done=done is not None,
            steps=done["steps"] if done else saved(folder),
            init={role: entry["from"] for role, entry in record["init"].items()},
            used={role: telling(entry["digests"]) for role, entry in record["init"].items()},
            digests=telling(done["digests"]) if done else {},
        )
        return near(node, folder.parent) if "/" in name else node
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder / 'stage.json'}: is not what gendiff wrote.") from None


def telling(digests: Mapping[str, str]) -> Digests:
    """Those of weights and of products' stamps."""
    parts = {name: name.split("/") for name in digests}
    return {
        name: digests[name]
        for name, part in parts.items()
        if part[0] == "weights" or part[-1] == STAMP
    }


def near(node: Node, run_folder: Path) -> Node:
    """A node of another run folder, its parents named by their folders."""
    init = {r: ref if "/" in ref else f"{run_folder}/{ref}" for r, ref in node.init.items()}
    return replace(node, init=init)


def saved(folder: Path) -> int:
    """Global batches done at the newest checkpoint."""
    listed = Checkpoints(folder).listed()
    return int(listed[0]["batches_done"]) if listed else 0


def in_order(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """Parents before children, else by name.

    Raises:
        UserError: stages descend from each other, which no run writes.
    """
    parents = {name: {*node.parents.values()} & {*nodes} for name, node in nodes.items()}
    order, names = TopologicalSorter(parents), list[str]()
    try:
        order.prepare()
    except CycleError as error:
        told = ", ".join(sorted({*error.args[1]}))
        raise UserError(f"{told}: stages that descend from each other.") from None
    while order.is_active():
        names += (ready := sorted(order.get_ready()))
        order.done(*ready)
    return {name: nodes[name] for name in names}


def role_digest(digests: Digests, role: str) -> str | None:
    """The digest of a role's weights, or of the stamp of a product, which lists its files."""
    names = (f"weights/{role}.safetensors", f"products/{role}/{STAMP}")
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


def damage(folder: Path, nodes: Mapping[str, Node]) -> list[str]:
    """A line for each file of a stage's that is not what the stage wrote, by its digest.

    Args:
        folder: that the nodes were read of. Out of W&B's files there is nothing to check.
    """
    if not any(folder.glob("*/stage.json")):
        return []
    lines = []
    for name in nodes:
        place = Path(name) if "/" in name else folder / name
        done = check_done(place) if (place / "done.json").is_file() else {"digests": {}}
        for file in done["digests"]:
            try:
                check_file(place, file, done, known_sha256)
            except UserError as error:
                lines.append(str(error))
    return lines


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
    parents = {r: {"from": ref, "digests": node.used[r]} for r, ref in node.init.items()}
    own = {name: getattr(node, name) for name in OWN}
    return {"stage": node.name, **own, "parents": parents, "digests": node.digests}


def from_plain(plain: Mapping[str, Any]) -> Node:
    """The node that plain values tell of.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are not what `as_plain` gives.
    """
    parents = plain["parents"].items()
    node = Node(
        name=plain["stage"],
        **{name: plain[name] for name in OWN},
        init={role: entry["from"] for role, entry in parents},
        used={role: dict(entry["digests"]) for role, entry in parents},
        digests=dict(plain["digests"]),
    )
    words = [node.name, node.method, node.data, node.fingerprint, *node.init.values()]
    for digests in (node.digests, *node.used.values()):
        words += [*digests, *digests.values()]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("not a word")
    if type(node.done) is not bool or type(node.steps) is not int:
        raise TypeError("not a state")
    return node
