"""Stages files: order, chains, references, evaluators, overrides; and what is refused."""

from __future__ import annotations

import pytest

from gendiff.cli import main
from gendiff.errors import UserError
from gendiff.pipeline.plan import make_plan
from gendiff.pipeline.stages import load_pipeline

CHAIN = """
stages:
  last: {config: small, init: {student: halve.ema}}
  halve:
    config: small_progressive
    init: {student: teacher.ema, teacher: teacher.student}
    chain: {key: method.student_steps, values: [8, 4, 2], carry: {student: ema}}
  teacher: {config: small}
"""


def load(files, text, *words):
    path = files / "given.yaml"
    path.write_text(text)
    return load_pipeline(str(path), list(words))


def init(stage):
    return {role: str(ref) for role, ref in stage.init.items()}


def test_order_is_derived(files):
    names = ["teacher", "halve-8", "halve-4", "halve-2", "last"]
    assert list(load(files, CHAIN).stages) == names


def test_chain_is_written_out(files):
    stages = load(files, CHAIN).stages
    assert [stages[f"halve-{k}"].run.method.student_steps for k in (8, 4, 2)] == [8, 4, 2]
    assert init(stages["halve-8"]) == {"student": "teacher.ema", "teacher": "teacher.student"}
    assert init(stages["halve-4"]) == {"student": "halve-8.ema", "teacher": "teacher.student"}
    assert init(stages["last"]) == {"student": "halve-2.ema"}


def test_a_value_with_a_dot_is_part_of_a_links_name(files):
    chain = "a: {config: small, chain: {key: optim.lr, values: [0.5], carry: {}}}"
    stages = load(files, f"stages: {{{chain}, b: {{config: small, init: {{student: a-0.5.ema}}}}}}")
    assert init(stages.stages["b"]) == {"student": "a-0.5.ema"}


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("stages.teacher.optim.lr=0.5", {"teacher"}),
        ("stages.halve.optim.lr=0.5", {"halve-8", "halve-4", "halve-2"}),
    ],
)
def test_override_of_a_stage(files, word, changed):
    stages = load(files, CHAIN, word).stages
    assert {name for name, stage in stages.items() if stage.run.optim.lr == 0.5} == changed


def test_override_of_a_chains_values(files):
    names = list(load(files, CHAIN, "stages.halve.chain.values=[4,1]").stages)
    assert names == ["teacher", "halve-4", "halve-1", "last"]


def test_stage_is_merged_over_its_config(files):
    text = "stages: {a: {config: small, path: {name: linear}, optim: {clip_norm: 0}}}"
    run = load(files, text).stages["a"].run
    assert (run.path.name, run.optim.clip_norm, run.optim.lr) == ("linear", 0, 0.01)


def test_a_section_for_all_stages_gives_way_to_their_own(files):
    """And changes what their configs say."""
    text = "hardware: {accumulate: 2}\nstages: {a: {config: small}, b: {config: small, %s}}"
    stages = load(files, text % "hardware: {accumulate: 4}").stages
    assert [stage.run.hardware.accumulate for stage in stages.values()] == [2, 4]


def test_config_alone_is_a_pipeline_of_one(files):
    pipeline = load_pipeline(str(files / "small.yaml"), ["seed=3"])
    assert [*pipeline.stages] == [pipeline.name] == ["small"]
    assert pipeline.stages["small"].run.seed == 3


def test_outside_reference_seeds_a_config(files, finished, tmp_path, weights):
    from safetensors.torch import load_file

    source = finished / "teacher"
    words = [f"init.student={source}.ema", "optim.lr=1e-12", "optim.ema_decay=0"]
    folder = tmp_path / "run"
    assert main(["run", str(files / "small.yaml"), *words, "--dir", str(folder)]) == 0
    old = load_file(source / "weights/ema.safetensors")
    new = load_file(folder / "small/weights/student.safetensors")
    assert all((new[name] - old[name]).abs().max() < 1e-6 for name in old)
    assert str(source) in (folder / "small/stage.json").read_text()


NEW = "stages: {teacher: {config: small}, b: {config: small, networks: {student: {conditions: \
{label: 3}}}, init: {student: %s}}}"


def test_new_parameters_are_named(files, tmp_path):
    fits = NEW % '{from: teacher.ema, new: ["conditioning.*"]}'
    pipeline = load(files, fits)
    assert pipeline.stages["b"].init["student"].new == ("conditioning.*",)
    assert [step.state for step in make_plan(pipeline, tmp_path)] == ["missing", "missing"]
    with pytest.raises(UserError, match=r"b: init.student: teacher.ema does not fit: missing cond"):
        make_plan(load(files, NEW % "teacher.ema"), tmp_path)


SCALED = "stages: {teacher: {config: mixture_mean_flow, networks: {student: {time_scale: 1000}}}, \
b: {config: mixture_mean_flow, networks: {student: {time_scale: %s}}, \
init: {student: {from: teacher.ema, new: [%s]}}}}"
LEVEL, SECOND = "conditioning.noise_level.*", "conditioning.conditions.second_time.*"


@pytest.mark.parametrize(
    ("scale", "new", "kept"),
    [
        (1000, "", ""),
        (10, f"{LEVEL}, {SECOND}", ""),
        (10, "", LEVEL),
        (10, LEVEL, SECOND),
        (10, f"{SECOND}, conditioning.noise_level.mlp.0.*", LEVEL),
    ],
)
def test_embeddings_of_times_are_taken_with_their_scale(files, tmp_path, scale, new, kept):
    pipeline = load(files, SCALED % (scale, new))
    if not kept:
        assert len(make_plan(pipeline, tmp_path)) == 2
        return
    with pytest.raises(UserError) as error:
        make_plan(pipeline, tmp_path)
    assert str(error.value) == (
        "b: init.student: teacher was told times with networks.student.time_scale: 1000, not 10; "
        f"new: [{kept}] learns them anew."
    )


def test_evaluators_become_stages_before_all(files):
    text = "stages: {t: {config: digits_diffusion}, s: {config: digits_diffusion}}"
    stages = load(files, text).stages
    assert list(stages) == ["digits_classifier", "t", "s"]
    assert stages["digits_classifier"].init == {}


def test_an_evaluator_has_the_data_and_machines_of_whom_it_measures(files):
    """But its own batches, in one part on whole networks."""
    more = "data: {split: 1, batch_size: 32}, logging: {every_steps: 7}"
    machines = "hardware: {accelerator: cpu, accumulate: 2, devices: 2, strategy: fsdp}"
    text = f"stages: {{t: {{config: digits_diffusion, {more}, {machines}}}}}"
    run = load(files, text).stages["digits_classifier"].run
    assert (run.data.split, run.data.batch_size, run.logging.every_steps) == (1, 128, 7)
    asked = run.hardware
    found = asked.accelerator, asked.devices, asked.accumulate, asked.strategy
    assert found == ("cpu", 2, 1, "ddp")


def test_an_evaluator_of_ones_own_stays_as_it_is(files):
    own = "digits_classifier: {config: digits_classifier, seed: 5}"
    stages = load(files, f"stages: {{t: {{config: digits_diffusion}}, {own}}}").stages
    assert list(stages) == ["digits_classifier", "t"]
    assert stages["digits_classifier"].run.seed == 5


BAD = [
    ("a: {config: small, init: {student: b.ema}}", "a: init.student: no stage 'b'"),
    ("abc: {config: small}, b: {config: small, init: {student: abd.ema}}", "Did you mean 'abc'"),
    (
        "abc: {config: small, chain: {key: seed, values: [1], carry: {}}},"
        " b: {config: small, init: {student: abd.ema}}",
        "Did you mean 'abc'",
    ),
    ("a: {config: small}, b: {config: small, init: {student: a.nope}}", "a has no role 'nope'"),
    ("a: {config: small, init: {studen: b.ema}}", "a: init.studen: .* Did you mean 'student'"),
    ("a: {config: small, init: {student: ema}}", "must be stage.role"),
    ("a: {config: small, init: {student: .ema}}", "'.ema' must be stage.role"),
    ("a: {config: small, init: {student: b.}}", "'b.' must be stage.role"),
    ("a: {config: small, init: {student: {of: a.ema}}}", "takes the keys from"),
    ("a: {config: small, init: {student: {from: a.ema, nwe: []}}}", "takes the keys from"),
    ("a: {config: small, init: {student: {from: a.ema, new: x}}}", "takes the keys from"),
    ("a: {config: small, init: {student: no/where.ema}}", "no/where: not a finished stage"),
    ("a: {config: small, init: 3}", "a: init: must map"),
    ("a: {config: small, init: {student: a.ema}}", "cycle: a -> a"),
    (
        "a: {config: small, init: {student: b.ema}}, b: {config: small, init: {student: a.ema}}",
        "cycle: (a -> b -> a|b -> a -> b)",
    ),
    ("a: {config: small_progressive}", "a: init.teacher: missing"),
    ("a: {config: mixture_reflow}", "a: init.pairs: missing"),
    ("a: {config: smal}", "smal: no such config"),
    ("a: {config: small_progresive}", "Did you mean"),
    ("a: {}", "stages.a: needs a config. Keys"),
    ("teacher: {config: small}, teachr: {}", "teachr: no such stage, .* Did you mean .teacher"),
    ("../a: {config: small}", "a stage's name is made of"),
    ("a: {config: small, optm: {lr: 1}}", "a: optm: unknown key. Did you mean 'optim'"),
    ("a: {config: small, evaluation: {extractor: small}}", "small is no evaluator"),
    (
        "a: {config: digits_diffusion}, b: {config: digits_diffusion, data: {split: 1}}",
        "b: evaluation.extractor: digits_classifier is trained on other data than b",
    ),
    (
        "a: {config: small}, b: {config: small, method: {prediction: x0}, init: {student: a.ema}}",
        "b: init.student: a predicts v, but method.prediction is x0",
    ),
    (
        "a: {config: small}, b: {config: small, networks: {student: {width: 16}},"
        " init: {student: a.ema}}",
        r"does not fit: shape of .*: \(8.*\) -> \(16.*\), and \d+ more",
    ),
    (
        "a: {config: small}, b: {config: small, networks: {student: {depth: 2}},"
        " init: {student: a.ema}}",
        r"missing first.1.weight",
    ),
    ("a: {config: small}, b: {config: mixture_reflow, init: {pairs: a.ema}}", "a makes no 'ema'"),
    ("a: {config: small, chain: {key: optim.lr, values: [1]}}", "chain: has the keys"),
    ("a: {config: small, chain: {key: optim.lr, values: [], carry: {}}}", "chain.values"),
    ("a: {config: small, chain: {key: seed, values: [1, 1], carry: {}}}", "different values"),
    ("a: {config: small, chain: {key: optim.lr, values: [x/y], carry: {}}}", "part of a stage's"),
    ("a: {config: small, chain: {key: seed, values: [1], carry: [ema]}}", "chain.carry: must map"),
    (
        "a: {config: small, init: [b], chain: {key: seed, values: [1], carry: {}}}",
        "stages.a.init: must map my role",
    ),
    ("a: {config: small, chain: {key: '[', values: [1], carry: {}}}", r"chain.key: '\[' is no key"),
    (
        "a-b: {config: small, chain: {key: seed, values: [1], carry: {}}},"
        " a: {config: small, chain: {key: logging.project, values: [b-1], carry: {}}}",
        "stages.a: its link 'a-b-1' is the name of another stage",
    ),
    (
        "a: {config: small, chain: {key: seed, values: [1], carry: {}}}, a-1: {config: small}",
        "'a-1' is the name of another stage",
    ),
    (
        "a: {config: small, chain: {key: seed, values: [1, 2], carry: {studen: ema}}}",
        "Did you mean 'student'|has no such role",
    ),
]


@pytest.mark.parametrize(("stages", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_stages_are_refused_in_a_line(files, tmp_path, stages, message):
    with pytest.raises(UserError, match=message) as error:
        make_plan(load(files, f"stages: {{{stages}}}"), tmp_path)
    assert str(error.value).count("\n") == 0


def test_unknown_top_level_key(files):
    with pytest.raises(UserError, match=r"given.yaml: stage: unknown key. Did you mean 'stages'"):
        load(files, "stage: {}\nstages: {a: {config: small}}")


@pytest.mark.parametrize("option", ["--only", "--rerun", "--accept"])
def test_unknown_stage_of_an_option(gendiff, tmp_path, option):
    code, _, err = gendiff("run", tmp_path / "run", option, "techer")
    assert code == 2
    assert "techer: no such stage. Did you mean 'teacher'?" in err
    assert not (tmp_path / "run").exists()
