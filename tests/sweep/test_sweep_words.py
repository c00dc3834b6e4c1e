"""A trial's words as W&B's agent writes them, and what gendiff run reads in them."""

from __future__ import annotations

import pytest
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from gendiff.cli import main
from gendiff.config import compose
from gendiff.errors import UserError
from gendiff.sweep.command import args_no_hyphens, fill, read_command
from gendiff.yaml_files import _plain, merge, read_overrides

RAW = {
    "data": {"name": "mixture"},
    "networks": {"student": {"name": "mlp", "width": 16}},
    "method": {"name": "diffusion"},
}
TEXTS = [
    *(
        "plain",
        "",
        "two words",
        " spaces ",
        "ünïcode 🌀 日本",
        "a=b",
        "=",
        "a=b=c",
        "comma, separated",
    ),
    *("'quoted'", '"quoted"', "it's", 'say "it"', "back\\slash", "a: b", "1:30", "# no comment"),
    *(
        "tab\there",
        "line\nbreak",
        "- item",
        "* star",
        "&and",
        "!bang",
        "| bar",
        "> fold",
        "%",
        "@x",
    ),
    *("`tick`", "?", "2026-01-01", "--flag", "+plus", "a/b.c", "nan", "inf", "1e-05", "yes sir"),
]
KINDS = [
    *(("logging.project", text) for text in TEXTS),
    *(("optim.lr", n) for n in (1e-05, 1e-300, 0.1 + 0.2, 3, 1.0, -1.5, float("inf"), "inf", 1e22)),
    *(("seed", n) for n in (0, -7, 2**62, 10**30)),
    *(("logging.tensorboard", n) for n in (True, False)),
    *(("evaluation.extractor", n) for n in (None, "digits_classifier")),
    *(("evaluation.steps", n) for n in ([], [1], [1, 2, 4], [8.0])),
    ("evaluation.guidance", [0.0, 1e-05, -2, 3.5]),
    ("evaluation.samplers", ["heun(churn=10)@edm", "ddim"]),
    (
        "evaluation.samplers",
        ["it's", 'say "it"', "both '\"", "a\nb", "back\\slash", "", "None", "é"],
    ),
    ("evaluation.roles", ["a, b", "[c]", "{d: e}", "1e-05", "true", "null", "'q'", " s "]),
    ("optim.betas", [0.9, 0.99]),
    ("optim", {"lr": 1e-05, "ema_decay": 0.5, "clip_norm": None}),
    ("optim", {"lr_by_role": {"student": 0.25}}),
    ("data", {"name": "moons", "batch_size": 64}),
    ("method", {"name": "flow", "coupling": "independent"}),
]


def nested(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.fixture
def unchecked(monkeypatch):
    """Configs are typed but their choices not judged."""
    monkeypatch.setattr("gendiff.config.check", lambda run, where: None)


def result(over):
    try:
        return compose(merge(RAW, over), "x")
    except UserError as error:
        return str(error)


@pytest.mark.parametrize(("key", "value"), KINDS, ids=lambda v: ascii(v)[:40])
def test_a_value_by_the_agents_words_is_the_value(unchecked, key, value):
    words = create_sweep_command_args({"args": {key: {"value": value}}})["args_no_hyphens"]
    assert words == args_no_hyphens({key: value})
    assert result(read_overrides(words)) == result(_plain(nested(key, value), key))


def test_they_are_of_fifty_kinds():
    assert len(KINDS) >= 50


@pytest.mark.parametrize(
    "form",
    [
        *("args", "args_no_equals", "args_no_boolean_flags", "args_json", "args_append_hydra"),
        "args_override_hydra",
    ],
)
@pytest.mark.parametrize("value", [0.5, True, [1, 2], "a=b"])
def test_other_forms_are_refused_in_a_line(capsys, form, value):
    args = {"stages.teacher.optim.lr": {"value": value}}
    words = create_sweep_command_args({"args": args})[form]
    assert main(["run", "mixture_roads", *words, "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "override is written" in told or form == "args_no_equals"


@pytest.mark.parametrize(
    "command",
    [
        ["${env}", "${interpreter}", "-m", "gendiff", "run", "x", "${args_no_hyphens}"],
        ["${env}", "${program}", "run", "x", "${args_no_hyphens}", "--only", "${envvar:STAGE}"],
        ["torchrun", "--standalone", 4, "-m", "gendiff", "run", "x", "${args_no_hyphens}"],
        ["a${envvar:STAGE}b/gendiff", "run", "x", "${args_no_hyphens}", "d=${envvar:UNKNOWN}"],
    ],
)
def test_a_command_line_is_the_agents(monkeypatch, command):
    monkeypatch.setenv("STAGE", "teacher")
    values = {"a": 1e-05, "b": None, "c": [True, "x y"]}
    filled = create_sweep_command_args({"args": {k: {"value": v} for k, v in values.items()}})
    filled |= {"interpreter": ["python"], "program": ["gendiff"], "env": ["/usr/bin/env"]}
    wanted = []  # as wandb_agent.Agent._command_run puts them together
    for word in map(str, create_sweep_command(list(command))):
        macro = word.startswith("${") and word.endswith("}")
        wanted += filled.get(word[2:-1]) or [] if macro else [word]
    ours = read_command({"command": command, "program": "gendiff"})
    assert fill(ours, "gendiff", args_no_hyphens(values)) == wanted
