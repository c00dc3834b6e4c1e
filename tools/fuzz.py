"""Mutated stages files, configs and overrides: each ends in exit code 0, or 2 and a line or two.

    python tools/fuzz.py 2000 [--first 0] [--processes 20]

reads each by `gendiff status` in this process, and some more by real ones. A case is a function of
its number alone, so that one that fails can be made again: `--first NUMBER 1`. Prints what failed,
and a line of figures for ``docs/robustness.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import yaml

from gendiff.cli import main as gendiff

SECONDS = 20
"""Most of the processor's time that one case may take."""
MEMORY = 2**32
"""Address space that all cases may take beyond what the imports have."""

DATA = {"name": "mixture", "batch_size": 32, "samples": 200, "held_out": 50}
MLP = {"name": "mlp", "width": 8, "depth": 1}
COMMON = {"data": DATA, "optim": {"lr": 0.01}, "trainer": {"max_steps": 12}}
CONFIGS: dict[str, Any] = {
    "plain": {**COMMON, "networks": {"student": MLP}, "method": {"name": "diffusion"}},
    "halved": {
        **COMMON,
        "networks": {"student": MLP},
        "path": {"name": "cosine"},
        "method": {"name": "progressive", "student_steps": 4},
        "evaluation": {"steps": [2], "samplers": ["ddim"], "draws": 1},
    },
    "pairs": {"data": DATA, "networks": {}, "method": {"name": "pairs", "count": 64}},
    "gan": {
        **COMMON,
        "networks": {
            "generator": {**MLP, "conditions": {"label": 3, "z": 4}},
            "critic": {"name": "mlp"},
        },
        "path": {"name": "vp"},
        "method": {"name": "denoising_gan", "latent": 4},
    },
}
STAGES: dict[str, Any] = {
    "stages": {
        "teacher": {"config": "plain", "seed": 3},
        "halve": {
            "config": "halved",
            "init": {"student": "teacher.ema", "teacher": "teacher.ema"},
            "chain": {
                "key": "method.student_steps",
                "values": [4, 2],
                "carry": {"student": "ema", "teacher": "ema"},
            },
        },
        "couples": {"config": "pairs", "init": {"teacher": {"from": "teacher.ema", "new": []}}},
    }
}
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2.5, -0.0, 1e308, 10**12, 10**30, -(10**19), 2**31, 2**63),
    *(float("nan"), float("inf"), -float("inf"), "", " ", "nan", "None", "null", "1", "-1"),
    *("1e400", "${oc.env:HOME}", "${x}", "$", "%s", "{}", "{0}", "../../x", "/", ".", ".."),
    *("a.b.c", "\x00", "\u202e", "𝔘", "é" * 300, "x" * 5000, "'", '"', "#", "&a", "*a", "\x1b[2J"),
    *("!!python/name:os.system", [], {}, [[]], [{}], {"": ""}, {"name": None}, {"name": "mlp"}),
    *([1, "a", None], {"a": {"b": 1}}, {1: 2}, {None: 1}, {True: 2}, {1.5: []}, [None], [10**9]),
    *([-1], [[1]], {"_target_": "os.system"}, "teacher.ema", "halve.ema", "halve-4.ema"),
    *("couples.pairs", "teacher.student", "/tmp.ema", "./x/y.ema", "digits", "unet", "edm", "trig"),
    *("discrete_cosine", "truncated", "heun(churn=9)", "heun(churn=nan)", "ddim@log_snr"),
    *("ddim@ddim9999999", "dpm_solver(order=[])", "a(b", "10,15"),
]
WORDS = [
    *("=", "a", "a=", "=a", "a.=1", ".a=1", "a..b=1", "a[0]=1", "a[99999999]=1", "a[=1", "a]=1"),
    *("stages=1", "stages=[]", "stages={}", "stages.teacher=", "stages.teacher.init={}", "\\=1"),
    *("stages.teacher.seed=!!python/name:os.system", "stages.teacher.seed=*a", "seed=&a 1"),
    *("a=${b}", "a=[1,", "a={b", "a='", 'a="', "a=\x00", "é=1", "a=: :", "a=- -", "a=? ", "a=%"),
    *("a=@", "a=`", "stages.teacher.data.means[0][0]=1", "stages.halve.chain.values[0]=8"),
    *("stages.teacher.seed=1e3", "stages.teacher.seed=0x10", "stages.teacher.seed=1_000"),
    *("stages.teacher.seed=1:30", "stages.teacher.config=1", "stages.teacher.config=/dev/zero"),
    *("a" + ".a" * 3000 + "=1", "a=" + "[" * 3000, "a=" + "9" * 5000, "__class__.x=1"),
    *("_metadata=1", "stages.teacher.networks.student.conditions={z: 1}", "--x=1", "-x"),
    *("stages.x={config: plain}", "stages.x.config=halved", "stages.teacher.optim.lr=1e-3"),
]


def paths_in(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each value of a tree lies, as keys from its top."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in inner:
        found.append((*at, key))
        if isinstance(value, dict | list):
            found += paths_in(value, (*at, key))
    return found


def mutate_tree(tree: Any, choose: random.Random) -> None:
    """Change one value, key or place of a tree."""
    places = paths_in(tree)
    if not places:
        return
    *way, last = choose.choice(places)
    holder = tree
    for key in way:
        holder = holder[key]
    value = holder[last]
    kind = choose.randrange(8)
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, dict):
        odd = choose.choice(["nmae", "", 3, None, f"{last}s", str(last)[:-1], "_target_", "a.b"])
        holder[odd] = holder.pop(last)
    elif kind == 2:
        holder[last] = [copy.deepcopy(value)] * choose.choice([1, 2, 40])
    elif kind == 3:
        holder[last] = {"name": copy.deepcopy(value)}
    elif kind == 4:
        holder[last] = str(value)
    elif kind == 5 and isinstance(value, int | float):
        holder[last] = value * choose.choice([-1, 0, 0.5, 3, 10**9, 10**18])
    elif kind == 6:  # another part of the tree, e.g. a config in place of an init
        other = tree
        for key in choose.choice(places):
            other = other[key]
        holder[last] = copy.deepcopy(other)
    else:
        holder[last] = copy.deepcopy(choose.choice(ODD))


def mutate_text(text: str, choose: random.Random) -> bytes:
    """Cut, doubled or sprinkled with odd characters or bytes."""
    kind, data = choose.randrange(5), text.encode()
    at = choose.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        lines = text.split("\n")
        lines.insert(choose.randrange(len(lines)), choose.choice(lines))
        return "\n".join(lines).encode()
    if kind == 2:
        return data[:at] + bytes(choose.randrange(256) for _ in range(4)) + data[at:]
    if kind == 3:
        odds = ("\t", "\x00", "\x85", "\u2028", "\ufeff", ": ", "- ", "[", "}", "&a ", "*a")
        odd = choose.choice(odds)
        return data[:at] + odd.encode() + data[at:]
    swapped = bytearray(data)
    swapped[at] ^= 1 << choose.randrange(8)
    return bytes(swapped)


def override(choose: random.Random) -> str:
    """A word of the command line."""
    if choose.random() < 0.4:
        return choose.choice(WORDS)
    keys = [".".join(map(str, place)) for place in paths_in(STAGES)]
    keys += [f"stages.teacher.{key}" for key in ("optim.lr", "optim.betas", "path.name", "seed")]
    keys += [
        f"stages.halve.evaluation.{key}" for key in ("steps", "samplers", "guidance", "samples")
    ]
    value = choose.choice(ODD)
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
    return f"{choose.choice(keys)}={text.removesuffix('...' + chr(10)).strip()}"


def write_files(folder: Path, target: str, changed: dict[str, bytes]) -> list[str]:
    """The stages file and the configs, some of them changed, and the command that reads one."""
    for name, tree in {"stages": STAGES, **CONFIGS}.items():
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode()
        (folder / f"{name}.yaml").write_bytes(changed.get(name, text))
    return ["status", str(folder / f"{target}.yaml"), "--dir", str(folder / "run")]


def write_case(folder: Path, number: int) -> list[str]:
    """Files of a case, and the words of the command that reads them."""
    choose = random.Random(number)
    target = "stages" if choose.random() < 0.6 else choose.choice(["plain", "gan"])
    victim = choose.choice([target, *CONFIGS]) if target == "stages" else target
    tree = copy.deepcopy(STAGES if victim == "stages" else CONFIGS[victim])
    kind = choose.randrange(10)
    for _ in range(choose.choice([1, 1, 1, 2, 5]) if kind < 6 else 0):
        mutate_tree(tree, choose)
    data = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode()
    if kind in (6, 7):
        data = mutate_text(data.decode(), choose)
    words = [override(choose) for _ in range(choose.randint(1, 3))] if kind >= 8 else []
    return [*write_files(folder, target, {victim: data}), *words]


def verdict(code: Any, err: str) -> str:
    """What is wrong with how a command ended, or nothing."""
    if "Traceback" in err:
        return "a traceback"
    if code == 0:
        return "words on stderr" if err else ""
    if code != 2:
        return f"exit code {code}"
    lines = err.count("\n")
    return "" if err.startswith("gendiff: ") and 1 <= lines <= 2 else f"{lines} lines on stderr"


def in_process(words: list[str], seconds: float = SECONDS) -> tuple[Any, str]:
    """Exit code, and what went to stderr; no limit of time if 0."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            code: Any = gendiff(words)
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            code = 1
            err.write(traceback.format_exc())
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return code, err.getvalue()


def too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def fuzz(first: int, count: int, say: Any = print) -> tuple[dict[int, int], list[int]]:
    """How many cases ended with each exit code, and the numbers of those that failed."""
    codes: dict[int, int] = {}
    failed = []
    for number in range(first, first + count):
        with tempfile.TemporaryDirectory() as name:
            words = write_case(Path(name), number)
            code, err = in_process(words)
            wrong = verdict(code, err)
            if list(Path(name).glob("run/*")):
                wrong = wrong or "something was written"
        codes[code] = codes.get(code, 0) + 1
        if wrong:
            failed.append(number)
            say(f"case {number}: {wrong}: {' '.join(words[4:])[-300:]}\n{err[-1500:]}")
    return codes, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=0)
    asked = parser.parse_args()
    signal.signal(signal.SIGPROF, too_long)
    with tempfile.TemporaryDirectory() as name:  # imports are no part of the memory allowed
        in_process(write_files(Path(name), "stages", {}), 0)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
    begun = time.process_time()
    codes, failed = fuzz(asked.first, asked.count)
    seconds = time.process_time() - begun
    for number in range(asked.first, asked.first + asked.processes):
        with tempfile.TemporaryDirectory() as name:
            words = [sys.executable, "-m", "gendiff", *write_case(Path(name), number)]
            done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        if wrong := verdict(done.returncode, done.stderr):
            failed.append(number)
            print(f"process {number}: {wrong}\n{done.stderr[-1500:]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{asked.count} cases and {asked.processes} processes: exit codes {codes}, {len(failed)} "
        f"failed; {seconds:.0f} s, peak memory {peak} MB"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
