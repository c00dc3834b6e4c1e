"""Two nodes on one machine: a run over a virtual link, a node killed, and the link cut.

    python tools/two_nodes.py [--dir runs/two_nodes]

Needs to be root on Linux, for two network namespaces. torchrun starts one process in each. Says
what came of it, and ends with code 1 if it is not what it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

NODES = ("gendiff_a", "gendiff_b")
LINKS = ("gdlink_a", "gdlink_b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
STAGE = {
    "config": "mixture_diffusion",
    "data": {"batch_size": 64},
    "trainer": {"max_steps": 600, "checkpoint_steps": 50},
    "evaluation": {"steps": []},
}
WAIT_SECONDS = 12.0
"""That a process waits for another, where the link is cut."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def network() -> Iterator[None]:
    """Two namespaces with a link between them."""
    try:
        for node in NODES:
            ip("netns", "add", node)
        ip("link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1])
        for node, link, address in zip(NODES, LINKS, ADDRESSES, strict=True):
            ip("link", "set", link, "netns", node)
            ip("-n", node, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", node, "link", "set", link, "up")
            ip("-n", node, "link", "set", "lo", "up")
        yield
    finally:
        for node in NODES:
            subprocess.run(["ip", "netns", "del", node], capture_output=True)


def start(folder: Path, stages: Path, restarts: int, words: list[str]) -> list[Any]:
    """torchrun on both nodes."""
    agents = []
    for number, (node, link, address) in enumerate(zip(NODES, LINKS, ADDRESSES, strict=True)):
        command = ["ip", "netns", "exec", node, sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes=2", "--nproc-per-node=1", f"--max-restarts={restarts}"]
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={ADDRESSES[0]}:29420"]
        command += ["--rdzv-id=gendiff", f"--local-addr={address}"]
        command += [f"--rdzv-conf=is_host={1 - number},join_timeout=60"]
        command += ["-m", "gendiff", "run", str(stages), "--dir", str(folder), *words]
        said = {"GLOO_SOCKET_IFNAME": link, "OMP_NUM_THREADS": "1"}
        with (folder.parent / f"{folder.name}-{number}.log").open("w") as log:
            agents.append(
                subprocess.Popen(command, env={**os.environ, **said}, stdout=log, stderr=log)
            )
    return agents


def worker_of(agent: Any) -> int:
    """The training process that an agent has started."""
    command = ["pgrep", "-P", str(agent.pid)]
    found = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return int(found[-1])


def steps_logged(folder: Path) -> int:
    path = folder / "teacher" / "metrics.csv"
    return path.read_text().count("\n") if path.exists() else 0


def training(folder: Path) -> None:
    """Wait until a run is in the middle of its stage."""
    until(lambda: steps_logged(folder) >= 4)


def until(done: Callable[[], bool], seconds: float = 300) -> float:
    """Seconds that it took, at most as many as given."""
    begun = time.monotonic()
    while not done() and time.monotonic() - begun < seconds:
        time.sleep(0.05)
    return time.monotonic() - begun


def ended(agents: list[Any]) -> tuple[list[int | None], float]:
    """Exit codes of both nodes, and the seconds until then."""
    seconds = until(lambda: all(agent.poll() is not None for agent in agents))
    codes = [agent.poll() for agent in agents]
    for agent in agents:
        agent.kill()
    return codes, seconds


def told(folder: Path) -> list[str]:
    """The line that each node's process has ended with, or nothing."""
    said = [(folder.parent / f"{folder.name}-{number}.log").read_text() for number in range(2)]
    return [next((w for w in text.splitlines() if w.startswith("gendiff: ")), "") for text in said]


def weights(folder: Path) -> dict[str, str]:
    done = folder / "teacher" / "done.json"
    return json.loads(done.read_text())["digests"] if done.exists() else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("runs/two_nodes"))
    root = parser.parse_args().dir.absolute()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    stages = root / "stages.yaml"
    stages.write_text(yaml.safe_dump({"stages": {"teacher": STAGE}}))
    right = []
    with network():
        codes, seconds = ended(start(root / "plain", stages, 0, []))
        wanted = weights(root / "plain")
        right.append(codes == [0, 0] and bool(wanted))
        print(f"two nodes train: exit codes {codes}, {seconds:.0f} s")

        agents = start(root / "killed", stages, 2, [])
        training(root / "killed")
        os.kill(worker_of(agents[1]), signal.SIGKILL)
        codes, seconds = ended(agents)
        same = weights(root / "killed") == wanted
        right.append(codes == [0, 0] and same)
        print(f"a node's process killed: {codes}, done after {seconds:.0f} s, same weights: {same}")

        words = [f"hardware.timeout_minutes={WAIT_SECONDS / 60:g}"]
        agents = start(root / "cut", stages, 0, words)
        training(root / "cut")
        ip("-n", NODES[1], "link", "set", LINKS[1], "down")
        seconds = until(lambda: all(told(root / "cut")))
        right.append(seconds < WAIT_SECONDS + 30)
        print(f"link cut: both have given up after {seconds:.0f} s:", *told(root / "cut"), sep="\n")
        for agent in agents:  # torchrun's own tries to meet again are not waited for
            agent.kill()
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
