"""The house rules that a reader could break by accident: imports, size, what runs foreign code."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gendiff

HOUSE = Path(gendiff.__file__).parent
FILES = {str(p.relative_to(HOUSE)): p for p in sorted(HOUSE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}

ORDER = [
    "errors",
    "papers",
    "seeding",
    "progress",
    "signals",
    "streams",
    "following",
    "registry",
    "storage",
    "lost",
    "ranks",
    "provenance",
    "values",
    "yaml_files",
    "weights",
    "averages",
    "optim",
    "paths",
    "predictions",
    "curricula",
    "denoiser",
    "sharding",
    "data",
    "guidance",
    "samplers",
    "sampling",
    "couplings",
    "straightness",
    "loss_weights",
    "adversarial",
    "training_times",
    "gaussianity",
    "methods",
    "extractors",
    "sections",
    "citations",
    "checks",
    "config",
    "checkpoint",
    "build",
    "settle",
    "wandb_files",
    "lineage",
    "products",
    "model",
    "report",
    "tracking",
    "evaluation",
    "keeper",
    "train",
    "pipeline",
    "launch",
    "sweep",
    "commands",
    "cli",
    "__main__",
]
"""Each module imports only from those before it, and from its own package."""
ONLY = {
    "errors": set(),
    "seeding": set(),
    "progress": set(),
    "papers": set(),
    "paths": {"papers"},
    "curricula": set(),
    "averages": set(),
    "adversarial": set(),
    "optim": set(),
    "networks": {"errors", "papers"},
    "metrics": {"papers"},
    "signals": {"errors"},
    "sections": {"extractors", "optim", "registry"},
    "lost": {"errors"},
    "ranks": {"errors", "lost", "storage"},
    "following": set(),
    "launch": {"errors", "following"},
    "cli": {"commands", "errors", "signals", "streams"},
    "extractors": {"errors", "papers", "registry", "storage", "weights"},
    "registry": {"errors"},
    "storage": {"errors"},
    "values": set(),
    "yaml_files": {"errors", "values"},
    "weights": {"errors", "storage"},
    "predictions": {"paths"},
    "denoiser": {"paths", "predictions"},
    "guidance": {"denoiser", "paths", "predictions"},
    "samplers": {"papers", "paths", "denoiser"},
    "loss_weights": {"paths", "predictions"},
    "training_times": {"paths", "seeding"},
    "gaussianity": {"paths", "data"},
    "data": {"papers", "paths", "predictions", "denoiser", "seeding", "ranks", "errors", "storage"},
    "checkpoint": {"errors", "ranks", "storage", "weights"},
    "wandb_files": {"errors"},
    "lineage": {"build", "checkpoint", "data", "errors", "storage", "wandb_files"},
    "report": {"errors", "storage"},
}
"""All that these may import of gendiff, besides their own package."""


def imported(tree):
    """Top modules of gendiff that a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            bare = node.module == "gendiff"
            names = [f"gendiff.{a.name}" for a in node.names] if bare else [node.module]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("gendiff."))


def test_imports_run_one_way():
    up = {}
    for name in FILES.keys() - {"__init__.py"}:
        own = Path(name).parts[0].removesuffix(".py")
        allowed = ONLY[own] if own in ONLY else {*ORDER[: ORDER.index(own)], "metrics"}
        if own == "pipeline":  # which compares their parts before anything is trained
            allowed = {*allowed, "networks"}
        up[name] = set(imported(TREES[name])) - {own} - allowed
    assert not {name: uses for name, uses in up.items() if uses}


def test_every_module_has_its_place():
    tops = {Path(name).parts[0].removesuffix(".py") for name in FILES} - {"__init__"}
    assert tops == {*ORDER, "networks", "metrics"}


def test_every_folder_of_modules_is_in_the_wheel():
    config = tomllib.loads((HOUSE.parent / "pyproject.toml").read_text())
    listed = set(config["tool"]["setuptools"]["packages"]) - {"gendiff.configs", "gendiff.stages"}
    assert listed == {".".join(["gendiff", *Path(name).parent.parts]) for name in FILES}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


FORBIDDEN = {
    *("eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "load_from_checkpoint"),
}


def runs_foreign_code(function, keywords):
    loads = function == "torch.load" and keywords.get("weights_only") != "True"
    named = function in FORBIDDEN or function.endswith(".load_from_checkpoint")
    return named or loads or keywords.get("shell") is not None


def test_no_file_runs_what_it_reads():
    found = [(name, *call) for name in FILES for call in calls(TREES[name])]
    assert not [row for row in found if runs_foreign_code(*row[1:])]


def test_files_are_short_and_say_what_they_are():
    lengths = {name: len(path.read_text().split("\n")) for name, path in FILES.items()}
    assert not {name: length for name, length in lengths.items() if length > 301}
    assert not [name for name, tree in TREES.items() if not ast.get_docstring(tree)]


HEAVY = ("torch", "lightning", "omegaconf", "numpy", "matplotlib", "wandb", "tensorboard")
ASK = f"""
import sys
from gendiff.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
assert code == 0, code
print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules))
"""


def loaded(folder, *words):
    result = subprocess.run(
        [sys.executable, "-c", ASK, *words], capture_output=True, text=True, cwd=folder
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("loaded:")[1].split()


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["list"],
    ],
)
def test_help_and_list_are_light(tmp_path, words):
    assert loaded(tmp_path, *words) == []
