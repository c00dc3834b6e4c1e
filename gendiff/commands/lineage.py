"""Which stage came of which, from data to student, every digest checked; touches nothing."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any


def arguments(command: ArgumentParser) -> None:
    """The options."""
    told = "run folder, or the name of one in runs/; or a folder with W&B's offline files"
    command.add_argument("run", metavar="RUN", help=told)


def call(args: Any) -> int:
    """The tree, then a line for each digest that is not the parent's or the file's; 1 if any."""
    from rich.markup import escape
    from rich.tree import Tree

    from gendiff.errors import printable
    from gendiff.lineage import Node, damage, problems, read_lineage, role_digest, roles_of, short
    from gendiff.progress import Reporter

    folder = Path(args.run)
    if not folder.exists() and "/" not in args.run:
        folder = Path("runs") / args.run
    nodes, reporter = read_lineage(folder), Reporter()

    def words(node: Node) -> str:
        state = f"{'done' if node.done else 'not done'} at {node.steps}"
        lines = [f"{node.name}  {node.method}  {state}  [{short(node.fingerprint)}]"]
        took = [f"{r} <- {ref} {given(node, r, ref)}" for r, ref in node.init.items()]
        gave = [f"{role} {short(digest)}" for role, digest in roles_of(node.digests).items()]
        return "\n  ".join([*lines, *took, *([", ".join(gave)] if gave else [])])

    def given(node: Node, role: str, ref: str) -> str:
        return short(role_digest(node.used[role], ref.rpartition(".")[2]))

    def text(line: str) -> str:
        return escape(printable(line))

    tree, branches = Tree(text(folder.resolve().name)), dict[str, Tree]()
    roots: dict[str, Tree] = {}
    for name, node in nodes.items():
        above = [parent for parent in dict.fromkeys(node.parents.values()) if parent in branches]
        if above:
            branches[name] = branches[above[0]].add(text(words(node)))
        else:
            if node.data not in roots:
                roots[node.data] = tree.add(text(f"data: {node.data}"))
            branches[name] = roots[node.data].add(text(words(node)))
        for other in above[1:]:
            branches[other].add(text(f"{name}, shown under {above[0]}"))
    reporter.console.print(tree)
    wrong = [*problems(nodes), *damage(folder, nodes)]
    for line in wrong:
        reporter.say(printable(line))
    return 1 if wrong else 0
