"""Mistakes on the command line: code 2, a line or two, nothing that passes for complete."""

from __future__ import annotations

import pytest

from gendiff.pipeline.shipped import find


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["rum"], "invalid choice: 'rum'"),
        (["run"], "required: STAGES|CONFIG"),
        (["run", "mixture_difusion"], "no such stage or config. Did you mean 'mixture_diffusion'?"),
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["run", "mixture_diffusion", "--frob"], "--frob: no such option"),
        (["run", "mixture_diffusion", "optim.lrr=1"], "mixture_diffusion: optim.lrr: "),
        (["run", "digits_consistency"], "init.teacher: missing"),
        (["status", "mixture_diffusion", "seed"], "'seed': an override is written"),
        (
            ["status", "mixture_interfaces", "seed=1"],
            "key. Of one stage it is stages.NAME.seed.",
        ),
        (["list", "method"], "method: no such kind. Did you mean 'methods'?"),
        (["sample", "none"], "none: not a stage folder"),
        (["sample", "none", "-n", "0"], "-n: 0 is too small; at least 1"),
        (["sample", "none", "--steps", "two"], "--steps: 'two' is not an integer"),
        (["sample", "none", "--stepz", "4"], "of gendiff sample. Did you mean '--steps'?"),
        (["status", "mixture_diffusion", "--dri=x"], "--dri=x: no such option"),
        (["status", "mixture_diffusion", "--a.b=x"], "An override is written key=value: "),
        (["evaluate", "none", "--a.b=x"], "of gendiff evaluate. Allowed: "),
        (["status", "mixture_diffusion", "--dri=x"], "Did you mean '--dir'?"),
        (["evaluate", "none", "--steps", "4,x"], "--steps: 'x' is not an integer"),
        (["evaluate", "none", "--steps", "4,0"], "--steps: 0 is too small; at least 1"),
        (["evaluate", "none", "--steps", "4,"], "--steps: '' is not an integer"),
        (["evaluate", "none", "--draws", "-1"], "--draws: -1 is too small; at least 1"),
        (["evaluate", "none"], "none: not a stage folder"),
    ],
)
def test_mistake_is_told_and_leaves_nothing(refuse, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuse(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "steps: 0"),
        (["--steps", "-2"], "steps: -2"),
        (
            ["--sampler", "posterior"],
            "does not fit this model. Allowed: ancestral, ddim, dpm_solver",
        ),
        (["--role", "emma"], "has no 'emma'. Did you mean 'ema'?"),
        (["--label", "3"], "this model takes no labels"),
        (["--label", "-1"], "this model takes no labels"),
        (["-o", "x.jpg"], "x.jpg: samples are saved as"),
    ],
)
def test_sample_mistakes(refuse, model, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuse("sample", model, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "--steps: 0 is too small"),
        (["--sampler", "x"], "evaluation.samplers: no sampler 'x'"),
        (["--role", "critic"], "evaluation.roles: unknown 'critic'. Allowed: ema, student"),
        (["--metric", "recal"], "evaluation.metrics: unknown 'recal'"),
        (["--samples", "1"], "evaluation.samples: 1 is too small"),
        (["--samples", "100000"], "evaluation.samples: 100000; "),
        (["-o", "x.png"], "-o: x.png: points are written as .json"),
        (["-o", "/proc/version/x.json"], "/proc/version: "),  # before anything is computed
    ],
)
def test_evaluate_mistakes(refuse, model, words, message):
    assert message in refuse("evaluate", model, *words)
    assert not (model / "evaluation.json").exists()


@pytest.mark.parametrize(
    "words", [("report",), ("sample",), ("lineage",), ("run", "mixture_diffusion", "--dir")]
)
def test_a_name_too_long(refuse, words):
    long = "/tmp/" + 300 * "x"
    told = refuse(*words, long)
    assert told.startswith(f"gendiff: {long}")
    assert told.endswith(": File name too long.\n")


@pytest.mark.parametrize("name", ["..yaml", ".x.yaml", "x.old-1.yaml"])
def test_a_config_whose_stage_would_not_be_seen(refuse, tmp_path, name):
    (tmp_path / name).write_text("seed: 1")
    assert "cannot be the name of a stage" in refuse("status", tmp_path / name)


def test_a_working_folder_that_is_gone(refuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert "the working folder: No such file" in refuse("status", "mixture_diffusion")
    tmp_path.mkdir()


def test_run_folder_for_a_stage_folder(refuse, model):
    message = refuse("sample", model.parent)
    assert "Finished stages in it: mixture_diffusion" in message


def test_only_waits_for_the_evaluator(refuse, tmp_path):
    told = refuse("run", "digits_fewstep", "--only", "teacher", "--dir", tmp_path)
    assert "teacher: waits for digits_classifier" in told


def test_a_config_edited_by_hand_is_not_read(refuse, model):
    path = model / "config.yaml"
    text = path.read_text()
    try:
        path.write_text(text.replace("prediction: v", "prediction: eps").replace("cosine", "vp"))
        assert "config.yaml: damaged" in refuse("sample", model, "--steps", 1)
    finally:
        path.write_text(text)


def test_a_latent_the_generator_does_not_take(refuse, tmp_path):
    told = refuse("run", "mixture_denoising_gan", "method.latent=16", "--dir", tmp_path)
    assert "networks.generator.conditions.z: 8; denoising_gan tells its generator" in told


def test_a_path_nearly_right(refuse, tmp_path, monkeypatch):
    """Of a stages file, and of a config within one, which is looked for beside it."""
    monkeypatch.chdir(tmp_path)
    for kind in ("configs", "stages"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "digits_roads.yaml").write_text(
            "stages: {a: {config: ../configs/digit_roads.yaml}}"
        )
    told = refuse("status", "stages/digits_rods.yaml")
    assert told == (
        "gendiff: stages/digits_rods.yaml: no such file. Did you mean 'stages/digits_roads.yaml'?\n"
    )
    told = refuse("status", "stages/digits_roads.yaml")
    assert told.endswith("Did you mean 'stages/../configs/digits_roads.yaml'?\n")
    (tmp_path / "stages" / "a.yaml").touch()
    told = refuse("status", "stages/x.yaml")  # of the same ending, and no more
    assert told == "gendiff: stages/x.yaml: no such file.\n"


def test_a_name_of_two_files(refuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("configs", "stages"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "digits_roads.yaml").write_text("seed: 1")
        if kind == "configs":  # mine comes before what is shipped, whichever kind that is
            found, as_kind = find("digits_roads", ("stages", "configs"))
            assert (str(found), as_kind) == ("configs/digits_roads.yaml", "configs")
    told = refuse("status", "digits_roads")
    both = "stages/digits_roads.yaml and configs/digits_roads.yaml"
    assert f"digits_roads: there are {both}; write the path" in told
    assert find("digits_roads", ("configs",))[1] == "configs"
