"""Sweep files: distributions, proposals and brackets in closed form; and what is refused."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import yaml

from gendiff.cli import main
from gendiff.errors import UserError
from gendiff.sweep.check import check_first
from gendiff.sweep.file import read_sweep
from gendiff.sweep.hyperband import Hyperband, read_hyperband
from gendiff.sweep.propose import Seen, propose, trials_of
from gendiff.sweep.reading import read_parameters

COMMAND = ["gendiff", "run", "{stages}", "${args_no_hyphens}"]


@pytest.fixture
def write(tmp_path, two):
    """``write(**keys)`` -> path of a good sweep file over them, changed by the keys."""

    def sweep(**keys):
        whole = {
            "method": "grid",
            "metric": {"name": "student/frechet_distance", "goal": "minimize"},
            "command": [word.format(stages=two) if "{s" in word else word for word in COMMAND],
            "parameters": {
                "stages.student.optim.lr": {"values": [0.1, 1e-05]},
                "stages.student.trainer.max_steps": {"min": 8, "max": 10},
            },
        }
        whole = {key: value for key, value in {**whole, **keys}.items() if value is not None}
        (tmp_path / "rate.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
        return tmp_path / "rate.yaml"

    return sweep


def parameter(**given):
    (found,) = read_parameters({"x": given})
    return found


def test_a_grid_is_all_of_it_the_last_fastest(write):
    sweep = read_sweep(write())
    values = [propose(sweep, n, 0, [])[0] for n in range(trials_of(sweep))]
    wanted = itertools.product([0.1, 1e-05], [8, 9, 10])
    assert [tuple(v.values()) for v in values] == list(wanted)
    assert [*values[0]] == [p.name for p in sweep.parameters]


@pytest.mark.parametrize(
    ("given", "u", "value"),
    [
        ({"min": 2.0, "max": 4.0}, 0.25, 2.5),
        ({"min": 1, "max": 4}, 0.24, 1),
        ({"min": 1, "max": 4}, 1 - 1e-12, 4),
        ({"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}, 0.5, 1e-2),
        ({"min": 0, "max": 2, "distribution": "log_uniform"}, 0.5, math.e),
        ({"min": 0, "max": 2, "distribution": "inv_log_uniform"}, 0.5, 1 / math.e),
        ({"min": 1, "max": 2, "distribution": "q_uniform", "q": 0.25}, 0.3, 1.25),
        ({"mu": 3, "sigma": 2, "distribution": "normal"}, 0.5, 3.0),
        ({"mu": 0, "sigma": 1, "distribution": "log_normal"}, 0.8413447460685429, math.e),
        ({"mu": 7, "sigma": 1, "q": 5, "distribution": "q_normal"}, 0.5, 5),
        ({"a": 1, "b": 1, "distribution": "beta"}, 0.3, 0.3),
        ({"values": ["a", "b", "c", "d"]}, 0.6, "c"),
        ({"values": ["a", "b"], "probabilities": [0.9, 0.1]}, 0.89, "a"),
        ({"values": ["a", "b"], "probabilities": [0.9, 0.1]}, 0.91, "b"),
        ({"value": None}, 0.5, None),
    ],
)
def test_distributions_are_their_inverses(given, u, value):
    found = parameter(**given).at(u)
    assert found == (pytest.approx(value) if isinstance(value, float) else value)
    assert type(found) is type(value) or isinstance(value, float)


def test_random_is_the_same_again_and_spread(write):
    sweep = read_sweep(write(method="random", parameters={"seed": {"min": 0.0, "max": 1.0}}))
    drawn = [propose(sweep, n, 3, [])[0]["seed"] for n in range(400)]
    assert drawn == [propose(sweep, n, 3, [])[0]["seed"] for n in range(400)]
    assert drawn[0] != propose(sweep, 0, 4, [])[0]["seed"]
    assert abs(statistics.fmean(drawn) - 0.5) < 5 * math.sqrt(1 / 12 / 400)
    assert 0 < min(drawn) < 0.02
    assert 0.98 < max(drawn) < 1


def test_bayes_goes_where_it_was_better(write):
    pytest.importorskip("optuna")
    axes = {"seed": {"min": 0.0, "max": 1.0}, "optim.name": {"values": ["a", "b", "c"]}}
    sweep = read_sweep(write(method="bayes", parameters=axes))
    seen = []
    for number in range(20):
        values, places = propose(sweep, number, 0, seen)
        loss = abs(values["seed"] - 0.8) + (values["optim.name"] != "b")
        # what was stopped early counts as well
        seen.append(Seen(places, loss, 4 if loss > 1.5 else None))
    late = [propose(sweep, n, 0, seen)[0] for n in range(20, 35)]
    assert statistics.fmean(abs(v["seed"] - 0.8) for v in late) < 0.17  # at random 0.34
    assert sum(v["optim.name"] == "b" for v in late) > 9
    assert propose(sweep, 21, 0, seen) == propose(sweep, 21, 0, seen)


def test_bayes_without_optuna_says_what_to_install(write, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert main(["sweep", str(write(method="bayes")), "--count", "1"]) == 2
    told = capsys.readouterr().err
    assert told == (
        "gendiff: method: bayes without a server needs optuna: pip install 'gendiff[sweep]'.\n"
    )


def test_nested_parameters_go_over_as_one_mapping(write):
    inner = {"lr": {"value": 0.5}, "betas": {"parameters": {"first": {"values": [1, 2]}}}}
    sweep = read_sweep(write(parameters={"stages.student.optim": {"parameters": inner}}))
    values, _ = propose(sweep, 1, 0, [])
    assert [p.name for p in sweep.parameters][1] == "stages.student.optim.betas.first"
    assert sweep.args(values) == ["stages.student.optim={'lr': 0.5, 'betas': {'first': 2}}"]


def test_brackets_are_wandbs():
    assert read_hyperband({"type": "hyperband", "min_iter": 3}).brackets[:4] == (3, 9, 27, 81)
    given = {"type": "hyperband", "max_iter": 27, "s": 2}
    assert read_hyperband(given).brackets == (3, 9)
    assert read_hyperband({**given, "eta": 9}).brackets == (3,)
    assert read_hyperband({**given, "s": 5}).brackets == (1, 3, 9)  # 1/3 is no iteration


@pytest.mark.parametrize(
    ("mine", "others", "bracket"),
    [
        ([5.0], [[1.0, 1.0]], None),  # not there yet
        ([5.0, 5.0], [], None),  # alone
        ([5.0, 5.0], [[1.0]], None),  # nobody else is there
        ([5.0, 5.0], [[1.0, 1.0]], 2),
        ([5.0, 1.0], [[1.0, 1.0]], None),  # a tie goes on
        ([0.5, 5.0], [[1.0, 1.0]], None),  # its best counts
        ([3.0] * 5, [[1.0] * 2, [2.0] * 2, [4.0] * 2], 2),  # the last bracket that it has reached
        ([2.0] * 2, [[1.0] * 2, [3.0] * 2, [4.0] * 2], None),  # the second of four goes on
        ([3.0] * 6, [[9.0, 9.0], [1.0] * 6], 6),
    ],
)
def test_a_trial_that_falls_behind_is_stopped(mine, others, bracket):
    assert Hyperband((2, 6), 3).stops(mine, others) == bracket


def test_strict_takes_the_value_at_the_bracket():
    assert Hyperband((2,), 3, strict=True).stops([0.5, 5.0], [[1.0, 1.0]]) == 2


LR = "stages.student.optim.lr"
BAD = [
    ({"method": "grdi"}, "method: 'grdi'. Did you mean 'grid'?"),
    ({"methods": "grid"}, "methods: unknown key. Did you mean 'method'?"),
    ({"parameters": {}}, "parameters: must map"),
    ({"parameters": {LR: {"vals": [1]}}}, f"parameters.{LR}.vals: unknown key. Did you mean 'valu"),
    ({"parameters": {LR: {"values": []}}}, f"parameters.{LR}.values: must be a list"),
    ({"parameters": {LR: {"min": 2, "max": 1}}}, f"parameters.{LR}: needs min and max, min the"),
    ({"parameters": {LR: {"min": 0.1}}}, f"parameters.{LR}: needs value, values"),
    ({"parameters": {LR: {"min": 0.1, "max": 1.0}}}, f"parameters.{LR}: a grid takes values"),
    ({"parameters": {LR: {"min": "a", "max": 1}}}, f"parameters.{LR}.min: 'a' must be a number"),
    (
        {"parameters": {LR: {"min": 0, "max": 1, "distribution": "log_uniform_values"}}},
        f"parameters.{LR}.min: 0 has no logarithm",
    ),
    (
        {"parameters": {LR: {"min": 1, "max": 2, "distribution": "unifrom"}}},
        f"parameters.{LR}.distribution: 'unifrom'. Did you mean 'uniform'?",
    ),
    (
        {"parameters": {LR: {"values": [1, 2], "probabilities": [0.5, 0.6]}}},
        f"parameters.{LR}.probabilities: must be one a value",
    ),
    ({"parameters": {LR: {"values": [math.inf]}}}, f"parameters.{LR}: a number that is not finite"),
    ({"method": "bayes", "metric": None}, "metric: missing; bayes"),
    ({"metric": {"name": "loss"}}, "metric.name: 'loss' must be STAGE/FIGURE"),
    (
        {"metric": {"name": "a/b", "goal": "minimise"}},
        "metric.goal: 'minimise'. Did you mean 'minimize'?",
    ),
    ({"metric": {"name": "studnet/loss"}}, "no stage 'studnet'. Did you mean 'student'?"),
    ({"metric": {"name": "student/frechet_distanc"}}, "Did you mean 'frechet_distance'?"),
    ({"metric": {"name": "student/recall@3"}}, "evaluation.steps of student are [1, 2]."),
    ({"early_terminate": {"type": "hyperban"}}, "early_terminate.type: must be hyperband"),
    ({"early_terminate": {"type": "hyperband"}}, "early_terminate: needs min_iter, or max_iter"),
    ({"early_terminate": {"type": "hyperband", "min_iter": 0}}, "early_terminate.min_iter: 0 must"),
    ({"early_terminate": {"type": "hyperband", "mini": 1}}, "early_terminate.mini: unknown key."),
    ({"run_cap": 0}, "run_cap: 0 must be a number of trials"),
    ({"command": None}, "command: missing; e.g."),
    ({"command": ["gendiff", "run", "x"]}, "command: must hold ${args_no_hyphens}, once"),
    ({"command": ["gendiff", "run", "x", "${args}"]}, "${args}: gendiff run reads its arguments"),
    ({"command": ["python", "train.py", "${args_no_hyphens}"]}, "command: must name gendiff run"),
    ({"command": ["gendiff", "run", "nowhere", "${args_no_hyphens}"]}, "nowhere: no such stage"),
    (
        {"parameters": {"stages.student.optim.lrr": {"value": 1}}},
        "parameters.stages.student.optim.lrr: student: optim.lrr: unknown key.",
    ),
    (
        {"parameters": {LR: {"value": 0.1}, "stages.studnet.seed": {"value": 1}}},
        "parameters.stages.studnet.seed: ",
    ),
    *(
        ({"parameters": parameters}, f"parameters.{key}: trials share stages that differ in {part}")
        for parameters, key, part in [
            (
                {"stages.student.hardware.precision": {"values": ["fp32", "bf16"]}},
                "stages.student.hardware.precision",
                "hardware",
            ),
            ({"logging.every_steps": {"min": 1, "max": 2}}, "logging.every_steps", "logging"),
            (
                {"stages.student": {"parameters": {"hardware": {"values": [{"accumulate": 2}]}}}},
                "stages.student.hardware",
                "hardware",
            ),
            (
                {"stages.student": {"values": [{"seed": 1, "logging": {"every_steps": 1}}]}},
                "stages.student",
                "logging",
            ),
        ]
    ),
    ({"parameters": {LR: {"value": "fast"}}}, f"parameters.{LR}: student: optim.lr: "),
]


@pytest.mark.parametrize(("keys", "told"), BAD, ids=lambda v: ascii(v)[:50])
def test_a_bad_file_is_refused_in_a_line_before_anything(
    write, keys, told, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(write(**keys))]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert told in err
    assert "rate.yaml: " in err
    assert not (tmp_path / "runs").exists()


def test_what_all_trials_have_alike_may_be_anything(write, two):
    alike = {"stages.student.hardware.accumulate": {"value": 2}}
    steps = {"stages.student.evaluation.steps": {"values": [[1], [2]]}}
    path = write(parameters={**alike, **steps}, metric={"name": "student/frechet_distance"})
    pipeline = check_first(read_sweep(path), two, [], 0)
    assert pipeline.stages["student"].run.hardware.accumulate == 2


def test_no_end_of_trials(write, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(write(method="random"))]) == 2
    assert "random has no end: give --count, or run_cap" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"parameters\.a: needs value"):
        read_parameters({"a": None})
