"""Kill a small pipeline again and again, run it again, and compare what it ends in.

    python tools/kills.py [--dir runs/kills] [--processes 1] [--instants 100] [--fresh 10]

SIGKILL to one process of ``tests/kill/pipeline.yaml`` (diffusion, consistency, stored pairs and
reflow, a denoising GAN) at random instants, and at every boundary of a write: before and after
each fsync and rename, of checkpoints, manifests and all else. Most kills hit forks of this process,
which has imported everything; ``--fresh`` ones hit ``python -m gendiff run``, its launcher
included. Of several processes any one is killed, at an instant, or in a write of its own or a
checkpoint's, and the others have to notice. Says what came of it, writes
``report.json``, and ends with code 1 if a process hung or anything differs from an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "tests" / "kill"))
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # the lost are told in gendiff's own words

from forkserver import HUNG, PIPELINE, attempt, digests, pids_of, wait

from gendiff import storage

Strike = Callable[[], None]
CHAIN = 12
"""Kills on the way of one pipeline at random instants, then it may end."""
PATIENCE = 60.0
"""Seconds in which what is left of a killed run has to end."""


def at_boundaries(do: Callable[[str], None]) -> Strike:
    """Do something at every boundary of a write, named ``FOLDER/FILE PLACE``, places from 1 to 6.

    They are before and after the fsync of the temporary file, its rename, the fsync of the folder.
    """

    def install() -> None:
        name, last, place = "", "", 0

        def watched(call: Any) -> Any:
            def wrapper(*args: Any) -> Any:
                nonlocal name, last, place
                if (
                    call is fsync
                    and (path := Path(os.readlink(f"/proc/self/fd/{args[0]}"))).is_file()
                ):
                    file = path.name.removeprefix(".").rsplit(".", 2)[0]
                    # a manifest is known by the checkpoint that it lists
                    name = f"{path.parent}/{last + ' ' if file == 'manifest.json' else ''}{file}"
                    last, place = file, 0
                place += 1
                do(f"{name} {place}")
                result = call(*args)
                place += 1
                do(f"{name} {place}")
                return result

            return wrapper

        fsync, replace = os.fsync, os.replace
        storage.os.fsync, storage.os.replace = watched(fsync), watched(replace)  # type: ignore  # in its place

    return install


class Boundary(NamedTuple):
    """Where a kill falls: a place of a write, named as `at_boundaries` does."""

    writer: int
    victim: int
    name: str


class Kills:
    """A folder of runs that are killed, and what came of them.

    Args:
        world: processes of a run.
    """

    def __init__(self, root: Path, world: int, seed: int) -> None:
        self.root, self.world, self.choose = root, world, random.Random(seed)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        begun = time.monotonic()
        codes = wait(attempt(root / "undisturbed", world, {}))
        self.seconds = time.monotonic() - begun
        """That an undisturbed run takes."""
        self.wanted = digests(root / "undisturbed")
        self.report: dict[str, Any] = {"undisturbed": self.wanted, "killed": [], "codes": codes}
        self.report |= dict.fromkeys(("instants", "boundaries", "fresh", "hung", "unmet"), 0)
        self.runs = 0

    def folder(self) -> Path:
        """Of a new run."""
        self.runs += 1
        return self.root / f"killed-{self.runs}"

    def strike(self, kind: str, codes: list[int]) -> bool:
        """Count a kill by how the processes ended, the victim first; whether it was one."""
        killed = codes[0] == -signal.SIGKILL
        self.report[kind] += killed
        self.report["hung"] += HUNG in codes
        return killed

    def finish(self, folder: Path) -> None:
        """Run it to its end, and keep what it ended in."""
        self.report["codes"] += wait(attempt(folder, self.world, {}))
        self.report["killed"].append(digests(folder))

    def at_instants(self, kills: int) -> None:
        """Kill any rank at random instants, several times on the way of a pipeline."""
        while self.report["instants"] < kills:
            folder = self.folder()
            for _ in range(min(CHAIN, kills - self.report["instants"])):
                victim = self.choose.randrange(self.world)
                seconds = self.choose.uniform(0.05, 0.6) * self.seconds
                if not self.strike(
                    "instants", wait(attempt(folder, self.world, {}), victim, seconds)
                ):
                    break
            self.finish(folder)

    def boundaries(self) -> list[Boundary]:
        """Of all writes, where who writes is killed; of checkpoints, where any other is as well."""
        folder, found = self.root / "named", []
        files = [self.root / f"names-{rank}.txt" for rank in range(self.world)]

        def note(name: str, file: Path) -> None:
            with file.open("a") as open_file:
                open_file.write(name.replace(f"{folder}/", "") + "\n")

        strikes = {rank: at_boundaries(partial(note, file=file)) for rank, file in enumerate(files)}
        wait(attempt(folder, self.world, strikes))
        for writer, file in enumerate(files):
            names = dict.fromkeys(file.read_text().splitlines()) if file.exists() else {}
            found += [
                Boundary(writer, victim, name)
                for victim in range(self.world)
                for name in names
                if victim == writer or "/checkpoints/" in name
            ]
        return found

    def at_writes(self, most: int | None) -> None:
        """Kill at all boundaries, a run for those of a rank and a place; or at so many of them."""
        every = self.boundaries()
        chosen = every if most is None else self.choose.sample(every, min(most, len(every)))
        chosen = sorted(chosen, key=every.index)
        chains: dict[Any, list[Boundary]] = {}
        for boundary in chosen:
            # whoever outlives the other has written the manifest too: it has runs of its own
            kind = boundary.name[-1], "manifest" in boundary.name
            key = boundary.writer, boundary.victim, *(kind if most is None else ())
            chains.setdefault(key, []).append(boundary)
        for chain in chains.values():
            folder = self.folder()
            for boundary in chain:
                if not self.at_write(boundary, folder):
                    folder = self.folder()  # a new run meets all of them
                    self.report["unmet"] += not self.at_write(boundary, folder)
            self.finish(folder)

    def at_write(self, boundary: Boundary, folder: Path) -> bool:
        """Kill a run there; whether it came by. If not, it has run to its end."""
        writer, victim, name = boundary

        def die(here: str) -> None:
            if here == f"{folder}/{name}":
                os.kill(json.loads(pids_of(folder).read_text())[victim], signal.SIGKILL)

        codes = wait(attempt(folder, self.world, {writer: at_boundaries(die)}), victim)
        if not (killed := self.strike("boundaries", codes)):
            self.report["codes"] += codes
            self.report["killed"].append(digests(folder))
        return killed

    def at_fresh(self, kills: int) -> None:
        """Kill real commands, the launcher of several or any of what it has started."""
        if not kills:
            return
        begun = time.monotonic()
        self.report["codes"].append(command(self.root / "fresh", self.world).wait())
        seconds = time.monotonic() - begun
        while self.report["fresh"] < kills:
            folder = self.folder()
            for _ in range(min(4, kills - self.report["fresh"])):
                run = command(folder, self.world)
                time.sleep(self.choose.uniform(0.4, 0.9) * seconds)
                family = [run.pid, *children(run.pid)]
                # only once the ranks are there: a launcher alone has nothing to lose
                if run.poll() is not None or len(family) < self.world + (self.world > 1):
                    run.wait()
                    break
                victim = self.choose.choice(family)
                os.kill(victim, signal.SIGKILL)
                self.report["fresh"] += 1
                self.report["hung"] += not all_end(run, family)
            self.report["codes"].append(command(folder, self.world).wait())
            self.report["killed"].append(self.under_forks_name(folder))

    def under_forks_name(self, folder: Path) -> dict[str, Any]:
        """What a fresh run ended in, but for its config, which says by how many processes."""
        found = digests(folder)
        for stage, files in found.items():
            files["config.yaml"] = self.wanted[stage]["config.yaml"]
        return found


def command(folder: Path, world: int) -> subprocess.Popen[bytes]:
    """The pipeline in a process of its own, or in those that it starts."""
    words = [sys.executable, "-m", "gendiff", "run", str(PIPELINE), "--dir", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        return subprocess.Popen(
            [*words, f"hardware.devices={world}"],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def all_end(run: subprocess.Popen[bytes], family: list[int]) -> bool:
    """Whether all processes of a command end by themselves; those that do not are killed."""
    deadline = time.monotonic() + PATIENCE
    left = family
    while left and time.monotonic() < deadline:
        run.poll()
        left = [pid for pid in left if alive(pid)]
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    run.wait()
    return not left


def alive(pid: int) -> bool:
    """Whether a process runs still; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("runs/kills"))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--instants", type=int, default=100)
    parser.add_argument("--boundaries", type=int, default=None, help="so many, by default all")
    parser.add_argument("--fresh", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    begun = time.monotonic()
    kills = Kills(asked.dir.absolute(), asked.processes, asked.seed)
    parts = {
        "instants": lambda: kills.at_instants(asked.instants),
        "boundaries": lambda: kills.at_writes(asked.boundaries),
        "fresh": lambda: kills.at_fresh(asked.fresh),
    }
    report = kills.report
    for kind, part in parts.items():
        part()
        seconds = time.monotonic() - begun
        print(f"{kind}: {report[kind]} kills, {seconds:.0f} s so far", flush=True)
    others = [ended for ended in report["killed"] if ended != kills.wanted]
    (kills.root / "report.json").write_text(json.dumps(report))
    print(
        f"{len(report['killed'])} runs ended, {len(others)} in other weights; {report['hung']} "
        f"hung; {report['unmet']} boundaries not met; exit codes {sorted(set(report['codes']))}"
    )
    right = set(report["codes"]) == {0} and len(kills.wanted) == 5 and not report["unmet"]
    return 0 if right and not others and not report["hung"] else 1


if __name__ == "__main__":
    sys.exit(main())
