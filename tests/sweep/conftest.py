"""A small pipeline of a teacher and its student, as trials of a sweep."""

from __future__ import annotations

import pytest
import yaml
from trials import RATES

from gendiff.cli import main

CONFIG = """
data: {name: mixture, batch_size: 32, samples: 200, held_out: 50}
networks:
  student: {name: mlp, width: 8, depth: 1}
method: %s
optim: {lr: 1.0e-2}
trainer: {max_steps: 8, checkpoint_steps: 4}
logging: {every_steps: 2}
evaluation: {steps: [%s], draws: 2, metrics: [frechet_distance], watch_times: 0}
"""
STAGES = """
stages:
  teacher: {config: base}
  student:
    config: few
    init: {student: teacher.ema, teacher: teacher.ema}
"""


@pytest.fixture(scope="module", autouse=True)
def _without_pictures():
    """Pictures of samples and curves have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gendiff.evaluation.stage.save_samples", lambda *_: None)
        patch.setattr("gendiff.pipeline.quality.draw_curve", lambda *args: None)
        yield


@pytest.fixture(scope="session")
def two(tmp_path_factory):
    """The stages file: student <- teacher."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "base.yaml").write_text(CONFIG % ("{name: diffusion}", "4"))
    (folder / "few.yaml").write_text(CONFIG % ("{name: consistency}", "1, 2"))
    (folder / "two.yaml").write_text(STAGES)
    return str(folder / "two.yaml")


@pytest.fixture
def trial(two, tmp_path, monkeypatch, capsys):
    """``trial(id, *words)`` -> exit code, stdout, stderr of that trial of sweep s in tmp_path."""

    def run(name, *words):
        with monkeypatch.context() as patch:
            patch.setenv("WANDB_SWEEP_ID", "s")
            patch.setenv("WANDB_RUN_ID", name)
            code = main(["run", two, "--dir", str(tmp_path), *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def write(tmp_path, two):
    """``write(**keys)`` -> path of a sweep over the student's rate, changed by the keys."""

    def sweep(**keys):
        whole = {
            "method": "grid",
            "metric": {"name": "student/frechet_distance"},
            "program": "gendiff",
            "command": ["python", "-m", "gendiff", "run", two, "${args_no_hyphens}"],
            "parameters": {"stages.student.optim.lr": {"values": RATES}},
        }
        (tmp_path / "rate.yaml").write_text(yaml.safe_dump({**whole, **keys}, sort_keys=False))
        return tmp_path / "rate.yaml"

    return sweep
