"""Configs: every shipped one builds, overrides merge, and what is wrong is named by its key."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gendiff.build import build_network
from gendiff.config import compose, to_plain, to_yaml
from gendiff.errors import UserError
from gendiff.pipeline.plan import make_plan
from gendiff.pipeline.shipped import shipped_folder, shipped_names
from gendiff.pipeline.stages import load_pipeline
from gendiff.yaml_files import merge, read_overrides, read_yaml

RAW = {
    "data": {"name": "mixture"},
    "networks": {"student": {"name": "mlp", "width": 16}},
    "method": {"name": "diffusion"},
}


def shipped(name):
    return compose(read_yaml(shipped_folder("configs") / f"{name}.yaml"), name)


def given(*words):
    return compose(merge(RAW, read_overrides(list(words))), "x")


@pytest.mark.parametrize("name", shipped_names("configs"))
def test_shipped_config_builds_and_comes_back_from_its_own_file(name, tmp_path):
    run = shipped(name)
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in build_network(run, r).parameters()) for r in run.networks]
    assert all(sizes)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(run))
    assert compose(read_yaml(path), "again") == run
    assert (shipped_folder("configs") / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", shipped_names("stages"))
def test_shipped_stages_fit_one_another(name, tmp_path):
    plan = make_plan(load_pipeline(name, []), tmp_path)
    assert len(plan) > 1
    assert {step.state for step in plan} == {"missing"}


def test_digits_networks_map_images_to_images():
    run = shipped("digits_diffusion")
    x, level = torch.zeros(2, *run.data.shape), torch.zeros(2)
    with torch.no_grad():
        out = build_network(run, "student")(x, level, {"label": torch.tensor([0, 10])})
    assert out.shape == x.shape


def test_network_weights_are_a_function_of_seed_and_role():
    first, again, other = (build_network(given(f"seed={s}"), "student") for s in (1, 1, 2))
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["optim.lr=3e-4"], "optim.lr", 3e-4),
        (["trainer.max_steps=1e6"], "trainer.max_steps", 1_000_000),
        (["optim.lr=1"], "optim.lr", 1.0),
        (["evaluation.extractor=None"], "evaluation.extractor", None),
        (["evaluation.extractor=null"], "evaluation.extractor", None),
        (["logging.wandb=off"], "logging.wandb", "off"),
        (["logging.wandb=offline"], "logging.wandb", "offline"),
        (["networks.student.depth=2"], "networks.student.width", 16),
        (["networks.student.name=classifier"], "networks.student.channels", 24),
        (["evaluation.steps=[1,2]"], "evaluation.steps", [1, 2]),
        (["optim.lr_by_role.student=0.5"], "optim.lr_by_role.student", 0.5),
        (["seed=-1"], "seed", -1),
    ],
)
def test_override(words, key, value, monkeypatch):
    monkeypatch.setattr("gendiff.config.check", lambda run, where: None)
    found = to_plain(given(*words))
    for part in key.split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "value"), [("off", "off"), ("false", "off"), ("'off'", "off")])
def test_off_in_yaml(tmp_path, text, value):
    path = tmp_path / "x.yaml"
    path.write_text(f"logging: {{wandb: {text}}}")
    assert compose({**RAW, **read_yaml(path)}, "x").logging.wandb == value


@pytest.mark.parametrize(
    ("over", "merged"),
    [
        ({"a": {"name": "z", "y": 3}}, {"a": {"name": "z", "y": 3}, "b": 1}),
        ({"a": {"name": "u", "y": 3}}, {"a": {"name": "u", "x": 2, "y": 3}, "b": 1}),
        ({"a": {"x": 4}}, {"a": {"name": "u", "x": 4}, "b": 1}),
        ({"b": {"c": 1}}, {"a": {"name": "u", "x": 2}, "b": {"c": 1}}),
        ({"a": None}, {"a": None, "b": 1}),
        ({"a": {}}, {"a": {}, "b": 1}),
    ],
)
def test_merge(over, merged):
    base = {"a": {"name": "u", "x": 2}, "b": 1}
    assert merge(base, over) == merged
    assert base == {"a": {"name": "u", "x": 2}, "b": 1}


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_name_of_the_optimizer_keeps_the_other_keys(name):
    raw = merge({**RAW, "optim": {"lr": 0.5}}, read_overrides([f"optim.name={name}"]))
    assert compose(raw, "x").optim.lr == 0.5


def test_runs_are_frozen():
    run = given()
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.optim.lr = 3


BAD = [
    ("optim.lrr=1", "x: optim.lrr: unknown key. Did you mean 'lr'"),
    ("optm.lr=1", "x: optm: unknown key. Did you mean 'optim'"),
    ("networks.student.widht=3", "x: networks.student.widht: unknown key. Did you mean 'width'"),
    ("_target_=os.system", "x: _target_: unknown key"),
    ("networks.student._target_=os.system", "x: networks.student._target_: "),
    ("data.name=mixtures", "x: data.name: .* Did you mean 'mixture'"),
    ("method.name=foo", "x: method.name: unknown .* Allowed: classifier"),
    ("trainer.max_steps=many", "x: trainer.max_steps: 'many' must be a whole number.$"),
    ("trainer.max_steps=1.5", "x: trainer.max_steps: 1.5 must be a whole number.$"),
    ("trainer.max_steps=None", "x: trainer.max_steps: None must be a whole number.$"),
    ("trainer.max_steps=[1]", r"x: trainer.max_steps: \[1\] must be a whole number.$"),
    ("optim.lr_by_role={a: [1]}", r"x: optim.lr_by_role.a: \[1\] must be a number.$"),
    ("optim.lr_by_role={a: {b: 1}}", r"x: optim.lr_by_role.a: \{'b': 1\} must be a number.$"),
    ("networks.student.conditions={z: [1]}", r"conditions.z: \[1\] must be a whole number.$"),
    (f"optim.betas=[1{'0' * 309},1]", r"^overrides: optim: betas: a number larger than 1.8e\+308"),
    ("evaluation.samples=few", "x: evaluation.samples: 'few' must be a whole number.$"),
    ("evaluation.steps=[1,b]", r"x: evaluation.steps\[1\]: 'b' must be a whole number.$"),
    ("optim.lr=fast", "x: optim.lr: 'fast' must be a number.$"),
    ("optim.lr_by_role.student=x", r"x: optim.lr_by_role.student: 'x' must be a number.$"),
    ("optim.betas=[0.9,None]", r"x: optim.betas\[1\]: None must be a number.$"),
    ("data.means=[[0,x],[1,1]]", r"x: data.means\[0\]\[1\]: 'x' must be a number.$"),
    ("logging.tensorboard=maybe", "x: logging.tensorboard: 'maybe' must be true or false.$"),
    ("logging.project=[1]", r"x: logging.project: \[1\] must be a word.$"),
    ("method.times=[]", r"x: method.times: \[\] must be one of uniform, antithetic, "),
    ("method.discriminator=3", "x: method.discriminator: unknown key. Allowed: .*times"),
    ("trainer.max_steps=0", "x: trainer.max_steps: 0 is too small"),
    ("trainer.max_steps=-3", "x: trainer.max_steps: -3 is too small"),
    ("trainer.skip_limit=-1", "x: trainer.skip_limit: -1 is too small; at least 0"),
    ("hardware.workers=-1", "x: hardware.workers: -1 is too small"),
    ("trainer.checkpoint_steps=0", "x: trainer.checkpoint_steps: 0 is too small"),
    ("evaluation.steps=[4,0]", "x: evaluation.steps: 0 is too small"),
    ("evaluation.steps=4", r"x: evaluation.steps: 4 must be a list, e.g. \[4\]"),
    ("evaluation.steps=None", r"x: evaluation.steps: None must be a list\.$"),
    ("evaluation.steps.a=4", r"x: evaluation.steps: \{'a': 4\} must be a list\.$"),
    ("evaluation.samplers=ddim", r"x: evaluation.samplers: 'ddim' must be a list, e.g. \[ddim\]"),
    ("evaluation.draws=0", "x: evaluation.draws: 0 is too small"),
    ("evaluation.watch_times=-1", "x: evaluation.watch_times: -1 is too small"),
    ("evaluation.metrics=[precision]", "x: evaluation.metrics: unknown 'precision'.*precision_rec"),
    ("evaluation.weights=w.pth", "x: evaluation.weights: only a pretrained extractor"),
    ("evaluation.extractor=dinov2", "x: evaluation.weights: dinov2 needs a file of weights"),
    ("evaluation.extractor=timm/vit_x", "x: evaluation.extractor: timm has no model 'vit_x'"),
    ("evaluation.samplers=[dim]", "x: evaluation.samplers: .* Did you mean 'ddim'"),
    ("logging.wandb=maybe", "x: logging.wandb: 'maybe' must be one of online, offline, off.$"),
    ("hardware.precision=fp16", "x: hardware.precision: 'fp16' must be one of fp32, bf16.$"),
    ("hardware.accumulate=3", "x: data.batch_size: 128 does not split into 3 parts"),
    ("data.batch_size=0", "x: data.batch_size: 0 is too small"),
    ("data.weights=[1,1]", r"x: data.weights: weights \(2,\)"),
    ("seed=None", "x: seed: None must be an integer"),
    ("seed=true", "x: seed: True must be an integer"),
    ("optim.lr=0", "x: optim.lr: "),
    ("optim.betas=[1]", "x: optim.betas: "),
    ("method.prediction=eps", "x: method.prediction: eps does not fit Cosine"),
    ("method.label_dropout=2", "x: method.label_dropout: 2"),
    ("networks.student.conditions.label=7", "conditions.label: 7; diffusion tells .* label: 3"),
    ("networks.teacher.name=mlp", "x: networks.teacher: diffusion has no such role to train"),
    ("networks=None", "x: networks.student: missing"),
    ("networks=3", "x: networks: must map each role"),
    ("networks.student.width=0", "x: networks.student.width: "),
    ("optim=3", "x: optim: 3 must be a mapping of keys"),
    ("optim=[adam]", r"x: optim: \['adam'\] must be a mapping of keys"),
    ("networks.student.conditions=3", "x: networks.student.conditions: 3 must be a mapping"),
    ("networks.student.conditions={3: 1}", "x: networks.student.conditions.3: Key 3 "),
    ("data=None", "x: data: missing its name. Allowed: checkerboard, cifar10, digits, "),
    ("optim.lr=${oc.env:HOME}", "interpolations are not allowed"),
    ("optim.lr=[1", "overrides: "),
    ("optim.lr", "'optim.lr': an override is written key.sub=value"),
    ("=3", "'=3': an override is written key.sub=value"),
]
NOT_YET = ["optim.lr=nan", "optim.lr=inf", "data.samples=0", "data.samples=-5", "data.held_out=-1"]


@pytest.mark.parametrize("word", [*NOT_YET, "data.means=[]"])
def test_impossible_number_is_named(word):
    key = word.partition("=")[0]
    with pytest.raises(UserError, match=f"x: {key}"):
        given(word)


@pytest.mark.parametrize(("word", "message"), BAD, ids=[word for word, _ in BAD])
def test_bad_value_is_named_in_a_line(word, message):
    with pytest.raises(UserError, match=message) as error:
        given(word)
    assert "\n" not in str(error.value)


def test_a_key_that_is_no_word_is_named():
    with pytest.raises(UserError, match=r"x: optim.lr_by_role.3: Key 3 \(int\) is"):
        compose({**RAW, "optim": {"lr_by_role": {3: 0.1}}}, "x")


CHAIN = {"path": {"name": "discrete_linear", "steps": 30}, "method": {"prediction": "eps"}}


def chain(**evaluation):
    return {**CHAIN, "evaluation": evaluation}


CLASHES = [
    ({"path": {"name": "linear"}, "method": {"prediction": "score"}}, "method.prediction: score"),
    (chain(steps=[8, 31]), "evaluation.steps: 31 steps are more than the 30 of the chain"),
    (chain(steps=[8], samplers=["heun"]), "evaluation.samplers: 'heun' needs a path continuous"),
    (chain(steps=[8], samplers=["ddim@ddim7"]), "evaluation.samplers: ddim7: no stride"),
    (
        {"path": {"name": "discrete_cosine"}, "method": {"prediction": "velocity"}},
        "method.prediction: velocity does not fit DiscreteCosine, which has no derivative",
    ),
    ({"path": {"name": "discrete_linear", "steps": 9}}, "path.steps: 9"),
    ({"path": {"name": "ve", "sigma_min": 60.0}}, "path.sigma_min: 60"),
    ({"path": {"name": "trig", "sigma_data": 0.0}}, "path.sigma_data: 0"),
    ({"method": {"sigma_data": 0.0}}, "method.sigma_data: 0"),
    ({"method": {"times_std": 0.0}}, "method.times_std: 0"),
    ({"method": {"times_mean": float("nan")}}, "method.times_mean: nan"),
    ({"method": {"sigma_data": float("inf")}}, "method.sigma_data: inf"),
    (
        {"path": {"name": "ve", "sigma_max": float("inf")}},
        "path.sigma_min: .* below sigma_max, inf",
    ),
    ({"path": {"name": "discrete_cosine", "steps": 10**15}}, "path.steps: 1000000000000000"),
    ({"method": {"min_snr_gamma": 0.0}}, "method.min_snr_gamma: 0"),
    ({"method": {"weight": "elbo"}}, "method.weight: elbo does not fit Cosine"),
    (
        {"path": {"name": "vp"}, "method": {"weight": "elbo", "times": "log_normal"}},
        "method.weight: elbo is a bound for uniform times",
    ),
    ({"path": {"name": "edm"}, "method": {"weight": "elbo"}}, "method.weight: elbo is a bound"),
    ({"path": {"name": "cosin"}}, "path.name: unknown paths name 'cosin'. Did you mean 'cosine'"),
    ({"method": {"times": "normal"}}, "method.times: "),
]


@pytest.mark.parametrize(
    ("name", "over", "message"),
    [
        (
            "digits_diffusion",
            {"networks": {"student": {"multipliers": [1] * 5}}},
            "networks.student.multipliers: 5 levels",
        ),
        ("digits_diffusion", {"networks": {"student": {"name": "mlp"}}}, "networks.student.name"),
        ("digits_consistency", {"method": {"first_intervals": 99}}, "method.first_intervals: 99"),
        ("mixture_progressive", {"method": {"student_steps": 0}}, "method.student_steps: 0"),
        ("mixture_denoising_gan", {"method": {"steps": 0}}, "method.steps: 0"),
        ("mixture_pairs", {"method": {"count": 0}}, "method.count: 0"),
        (
            "digits_truncated",  # its critic compares four samples
            {"data": {"batch_size": 32}, "hardware": {"devices": 4, "accumulate": 4}},
            "data.batch_size: 32 .* 16 parts .* of whole groups of 4, which the critic compares",
        ),
        # choices of path, prediction, times, weight and sampler that do not go together
        *(("mixture_diffusion", over, message) for over, message in CLASHES),
        (
            "digits_consistency",
            {"path": {"name": "discrete_linear"}, "method": {"solver": "heun"}},
            "method.solver: heun needs a path continuous",
        ),
        (
            "mixture_progressive",
            {"path": {"name": "discrete_linear", "steps": 30}, "method": {"student_steps": 16}},
            "method.student_steps: its teacher's steps is 32: a uniform grid visits",
        ),
        (
            "mixture_progressive",
            {"evaluation": {"samplers": ["ddim@log_snr"]}},
            "evaluation.samplers: 'ddim' runs on this model's own path and grid alone",
        ),
    ],
)
def test_impossible_choice_is_named(name, over, message):
    raw = merge(read_yaml(shipped_folder("configs") / f"{name}.yaml"), over)
    with pytest.raises(UserError, match=f"{name}: {message}"):
        compose(raw, name)
