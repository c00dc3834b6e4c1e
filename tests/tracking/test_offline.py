"""W&B's offline files of a run that was killed twice on its way, read back."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

import gendiff
from gendiff.cli import main
from gendiff.errors import UserError
from gendiff.lineage import problems, read_lineage, read_node
from gendiff.storage import read_json, write_json
from gendiff.wandb_files import files_in, read_frames, read_records, read_runs, values

SECRET = "k3y-0123456789abcdef"
STAGES = ("teacher", "couples", "reflow")


@pytest.fixture(scope="module")
def runs(killed):
    """Stage -> what W&B was given of it."""
    found = read_runs(killed / "run")
    assert len(found) == len(STAGES)
    return {run.name: run for run in found.values()}


def test_a_run_a_stage_under_one_id_in_one_group(killed, runs):
    assert set(runs) == set(STAGES)
    assert {run.group for run in runs.values()} == {"run"}
    for name, run in runs.items():
        folders = {path.parent.name for path in files_in(killed / "run" / name)}
        assert len(folders) >= {"teacher": 3, "couples": 1, "reflow": 3}[name]
        assert all(f"-{run.id}" in folder for folder in folders)
        assert (killed / "run" / name / "wandb" / "id").read_text() == run.id


@pytest.mark.parametrize("stage", ["teacher", "reflow"])
def test_every_row_once(killed, runs, stage):
    """Of the killed processes' rows and of their successors', as they lie in the files."""
    steps, killed_first = [], None
    for path in files_in(killed / "run" / stage):
        rows = [r.history for r in read_records(path) if r.WhichOneof("record_type") == "history"]
        steps += [row["step"] for row in map(values, (h.item for h in rows)) if "step" in row]
        killed_first = killed_first or len(steps)
    assert steps == list(range(1, 21))
    assert killed_first == {"teacher": 10, "reflow": 20}[stage]  # beyond the checkpoint of step 5
    with (killed / "run" / stage / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            logged = runs[stage].rows[int(row.pop("step"))]
            wanted = {name: float(value) for name, value in row.items() if value}
            assert {name: logged[name] for name in wanted} == wanted
            assert logged["_step"] == logged["step"]


def test_weights_with_what_they_came_from(killed, runs):
    for name, run in runs.items():
        metadata = run.artifacts[f"run-{name}"]
        done = read_json(killed / "run" / name / "done.json")
        assert metadata["fingerprint"] == done["fingerprint"]
        assert metadata["steps"] == done["steps"]
        assert metadata["digests"].items() <= done["digests"].items()
        assert (metadata["stage"], metadata["done"]) == (name, True)
        assert run.config["lineage"]["parents"] == metadata["parents"]
    ema = read_json(killed / "run" / "teacher" / "done.json")["digests"]["weights/ema.safetensors"]
    seeded = runs["reflow"].artifacts["run-reflow"]["parents"]
    assert {role: entry["from"] for role, entry in seeded.items()} == {
        "student": "teacher.ema",
        "pairs": "couples.pairs",
    }
    assert seeded["student"]["digests"] == {"weights/ema.safetensors": ema}
    assert runs["reflow"].artifacts["run-reflow"]["method"] == "reflow"
    (reference,) = (killed / "run").glob("reference-*")
    assert runs["teacher"].artifacts[reference.name]["digest"] == reference.name[10:]


def test_the_weights_of_an_artifact_are_a_model(killed, tmp_path):
    """They are not copied into it; what may change is."""
    for path in files_in(killed / "run" / "teacher"):
        for record in read_records(path):
            if record.artifact.name == "run-teacher":
                found = {f.path: f.local_path for f in record.artifact.manifest.contents}
                aliases = set(record.artifact.aliases)
    folder = killed / "run" / "teacher"
    assert set(found) >= {"weights/ema.safetensors", "config.yaml", "stage.json", "done.json"}
    assert found["weights/ema.safetensors"] == str((folder / "weights/ema.safetensors").resolve())
    assert found["done.json"] != str((folder / "done.json").resolve())
    ema = read_json(folder / "done.json")["digests"]["weights/ema.safetensors"]
    assert {"latest", f"ema-{ema[:12]}"} <= aliases
    for name, place in found.items():  # as a download would lay them
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(place, tmp_path / name)
    assert gendiff.load(tmp_path).sample(3, steps=1).shape == (3, 2)


def test_figures_tables_and_pictures(killed, runs):
    teacher = runs["teacher"]
    entries = json.loads((killed / "run" / "teacher" / "evaluation.json").read_text())
    for entry in entries:
        told = teacher.summary["evaluation"][f"ema euler {entry['steps']}"]
        assert told["sliced_wasserstein2"] == entry["sliced_wasserstein2"]
        assert told["nfe"] == entry["nfe"]
    files = [path.parent / "files" / "media" for path in files_in(killed / "run" / "teacher")]
    table, curve = (
        json.loads(next(f for m in files for f in m.glob(f"table/{name}.table.json")).read_text())
        for name in ("quality_[0-9]*", "quality_curve_table*")
    )
    assert "sliced_wasserstein2" in table["columns"]
    assert curve["columns"] == ["nfe", "sliced_wasserstein2", "series"]
    wanted = [[e["nfe"], e["sliced_wasserstein2"], "ema euler"] for e in entries]
    assert curve["data"] == wanted
    names = {path.name for media in files for path in media.glob("images/samples/*.png")}
    assert sorted(name.split("_")[0] for name in names) == ["euler-1", "euler-2", "training"]
    assert teacher.rows[20]["samples/training._type"] == "image-file"


def test_the_config_is_nested_as_written(runs):
    config = runs["teacher"].config
    assert config["networks"]["student"]["width"] == 8
    assert config["evaluation"]["steps"] == [1, 2]
    assert config["logging"]["every_steps"] == 1
    assert not [key for key in config if "." in key and not key.startswith("_wandb")]


def test_a_sweep_has_a_run_of_its_own(killed):
    (trial,) = read_runs(killed / "trial").values()
    assert trial.id == "trial123"
    assert trial.summary["objective"] == 1.0
    assert trial.config["lr"] == 0.5
    for run in read_runs(killed / "run").values():
        assert "lr" not in run.config


def test_no_secret_is_in_any_file_and_the_rest_is_there(killed):
    assert "logging offline" in (killed / "log").read_text()
    config = killed / "code" / ".git" / "config"
    assert SECRET in config.read_text()
    for path in {*killed.rglob("*")} - {config}:  # W&B's own files among them
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    assert list((killed / "run" / "teacher" / "tensorboard").glob("events*"))


def test_the_tree_out_of_w_and_b_alone(killed, tmp_path, capsys):
    nodes = read_lineage(killed / "run")
    assert list(nodes) == list(STAGES)
    for name in STAGES:
        shutil.copytree(killed / "run" / name / "wandb", tmp_path / "files" / name)
        assert read_node(killed / "run" / name, name) == nodes[name]
    assert read_lineage(tmp_path / "files") == nodes
    assert read_lineage(killed / "run" / "reflow" / "wandb") == {"reflow": nodes["reflow"]}
    assert not problems(nodes)
    told = []
    for folder in (killed / "run", tmp_path / "files"):
        assert main(["lineage", str(folder)]) == 0
        told.append(capsys.readouterr().out.splitlines()[1:])
    assert told[0] == told[1]
    text = "\n".join(told[0])
    assert text.index("mixture") < text.index("teacher") < text.index("reflow")
    assert (
        f"student <- teacher.ema {nodes['teacher'].digests['weights/ema.safetensors'][:12]}" in text
    )
    assert "reflow, shown under teacher" in text


@pytest.fixture
def copy(killed, tmp_path):
    """The run folder, to be changed; without W&B's files."""
    ignore = shutil.ignore_patterns("wandb", "tensorboard", "checkpoints")
    return shutil.copytree(killed / "run", tmp_path / "copy", ignore=ignore)


def test_a_run_by_its_name(copy, monkeypatch, capsys):
    monkeypatch.chdir(copy.parent)
    (copy.parent / "runs").mkdir()
    copy.rename(copy.parent / "runs" / "named")
    assert main(["lineage", "named"]) == 0
    assert capsys.readouterr().out.startswith("named\n")
    assert main(["lineage", "nowhere"]) == 2
    assert "runs/nowhere: no such run folder." in capsys.readouterr().err


def test_other_weights_than_were_used_are_told(copy, capsys):
    done = read_json(copy / "teacher" / "done.json")
    done["digests"]["weights/ema.safetensors"] = "f" * 64
    write_json(copy / "teacher" / "done.json", done)
    assert main(["lineage", str(copy)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "was used" in line]
    assert len(lines) == 2
    assert lines[1].startswith("reflow: init.student: teacher weights/ema.safetensors: ")
    assert lines[1].endswith("was used, ffffffffffff is there.")


def test_a_parent_that_is_gone_or_begun_anew_is_told(copy, capsys):
    shutil.rmtree(copy / "couples")
    (copy / "teacher" / "done.json").unlink()
    assert main(["lineage", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "reflow: init.pairs: the stage couples is missing." in out
    assert "reflow: init.student: the stage teacher is not done" in out
    assert "flow  not done at 0" in out


def test_stages_of_another_run_folder(copy, tmp_path):
    """The parent of an outside stage is found beside it."""
    child = tmp_path / "other" / "child"
    shutil.copytree(copy / "reflow", child)
    record = read_json(child / "stage.json")
    record["init"] = {"student": {**record["init"]["student"], "from": f"{copy}/reflow.ema"}}
    ema = read_json(copy / "reflow" / "done.json")["digests"]["weights/ema.safetensors"]
    record["init"]["student"]["digests"] = {"weights/ema.safetensors": ema}
    write_json(child / "stage.json", record)
    nodes = read_lineage(tmp_path / "other")
    names = [f"{copy}/teacher", f"{copy}/couples", f"{copy}/reflow", "child"]
    assert list(nodes) == names
    assert nodes[names[2]].parents == {"student": names[0], "pairs": names[1]}
    assert not problems(nodes)


@pytest.fixture(scope="module")
def whole(killed):
    """The bytes of the longest file of a real run, and its frames."""
    path = max(files_in(killed / "run"), key=lambda file: file.stat().st_size)
    return path.read_bytes(), list(read_frames(path))


def test_a_torn_end_costs_only_itself(whole, tmp_path):
    data, frames = whole
    path, counts = tmp_path / "run-x.wandb", []
    for length in range(0, len(data), 211):
        path.write_bytes(data[:length])
        found = list(read_frames(path))
        assert found == frames[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] >= len(frames) - 211 // 8  # no frame is shorter than 8 bytes
    path.write_bytes(data + bytes(4096))  # a file system may leave zeros
    assert list(read_frames(path)) == frames


def test_a_flipped_bit_is_told(whole, tmp_path):
    data, frames = whole
    path, told = tmp_path / "run-x.wandb", 0
    for place in range(0, len(data), 173):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        found = []
        try:
            found += read_frames(path)  # a length that now lies beyond the end is a torn end
        except UserError:
            told += 1
        assert found == frames[: len(found)]
        assert len(found) < len(frames)
    assert told > 0.8 * len(data) / 173
